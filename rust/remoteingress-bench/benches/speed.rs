//! Time that the pure crates' work takes, by Criterion. On a machine that does other things too, `bench/instructions`
//! compares better.

use criterion::{Criterion, Throughput};
use remoteingress_bench::{Work, Workload, all};
use std::time::{Duration, Instant};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for workload in all() {
        measure(&mut criterion, workload);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, workload: &Workload) {
    let mut group = criterion.benchmark_group("pure");
    group.throughput(Throughput::Elements(workload.operations));
    group.bench_function(workload.name, |bencher| {
        let mut work = (workload.new)();
        bencher.iter_custom(|runs| (0..runs).map(|_| time(&mut *work)).sum());
    });
    group.finish();
}

fn time(work: &mut dyn Work) -> Duration {
    work.prepare();
    let begin = Instant::now();
    work.run();
    begin.elapsed()
}
