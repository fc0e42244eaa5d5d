//! Prints what as many bindings as a hub keeps cost, in MiB of resident memory (see `bench/pools.mjs`). Linux only.
#![expect(clippy::print_stdout, reason = "the script reads it")]

use remoteingress_upstream::affinity::{BindingKey, Bindings};
use remoteingress_upstream::client::ClientKey;
use remoteingress_upstream::time::Moment;

/// Bindings that a hub keeps at most.
const MOST: usize = 1 << 20;
/// An odd multiplier, so that each client has a key of its own, spread as hashes are.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

fn main() {
    let before = resident_kib();
    let bindings = Bindings::new(MOST);
    // Twice as many clients as there is room for: the older half is put out again.
    for client in 0..2 * MOST as u64 {
        let key = BindingKey::new(1, ClientKey(client.wrapping_mul(SPREAD)));
        bindings.bind(key, 7, Moment(client));
    }
    let kib = resident_kib() - before;
    assert!(bindings.len() <= MOST, "the bound holds");
    println!("{:.2}", kib / 1024.0);
}

/// Resident memory of this process in KiB.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix("kB"));
    let number = number.and_then(|number| number.trim().parse().ok());
    number.expect("a number of kB")
}
