//! Chance that a test can repeat.

/// Repeatable chance (xorshift64*).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The same seed gives the same numbers; so do 2n and 2n + 1.
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `n`, which isn't 0.
    pub fn below(&mut self, n: usize) -> usize {
        let x = self.next_u64() >> 33;
        x as usize % n
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        self.next_u64() as f64 / u64::MAX as f64
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
