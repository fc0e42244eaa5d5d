//! Runs one workload for callgrind, which counts what happens inside of `counted` (see `bench/instructions`).
//!
//! With the name of a workload: runs it, and prints how many operations were counted. Without: prints the names.
#![expect(clippy::print_stdout, reason = "the script reads it")]

use remoteingress_bench::{Work, all};

/// Before counting: tables and windows have grown, and each of 10,000 streams has had its turn.
const WARM_UP: u64 = 30;
/// Enough that things which don't happen in each of them (growing a table, an ACK, a PING) have their share.
const COUNTED: u64 = 100;

fn main() {
    let Some(name) = std::env::args().nth(1) else {
        all().for_each(|workload| println!("{}", workload.name));
        return;
    };
    let workload = all().find(|workload| workload.name == name);
    let workload = workload.expect("the name of a workload");
    let mut work = (workload.new)();
    for _ in 0..WARM_UP {
        work.prepare();
        work.run();
    }
    for _ in 0..COUNTED {
        work.prepare();
        counted(&mut *work);
    }
    println!("operations: {}", COUNTED * workload.operations);
}

/// Its name is known to the script.
#[inline(never)]
fn counted(work: &mut dyn Work) {
    work.run();
}
