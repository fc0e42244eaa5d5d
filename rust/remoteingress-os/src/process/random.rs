//! Randomness from the operating system.

/// `N` random bytes. The kernel's generator doesn't fail once it is seeded (getrandom(2)).
///
/// # Panics
/// Only where a sandbox forbids the call (seccomp).
#[expect(
    clippy::expect_used,
    reason = "without randomness there is no secrecy: better no process"
)]
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A random number from 0 to below 1, in steps of 2^-32.
pub fn uniform() -> f64 {
    f64::from(u32::from_be_bytes(bytes())) / (f64::from(u32::MAX) + 1.0)
}
