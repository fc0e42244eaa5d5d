//! What is measured: work of the pure crates without sockets or chance, timed by `benches/speed.rs` and counted by `main.rs`.

mod frames;
mod proxy_headers;
mod scheduling;
mod sessions;

/// One kind of work.
#[derive(Debug)]
pub struct Workload {
    /// Its row in `bench/instructions.txt`.
    pub name: &'static str,
    /// What one run does so many times.
    pub operations: u64,
    /// Builds what it works on.
    pub new: fn() -> Box<dyn Work>,
}

/// What a workload works on. It can be run for as long as one likes.
pub trait Work {
    /// What a run uses up, and what isn't measured.
    fn prepare(&mut self) {}

    /// What is measured.
    fn run(&mut self);
}

impl<F: FnMut()> Work for F {
    fn run(&mut self) {
        self();
    }
}

/// Every workload, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    [
        frames::WORKLOADS,
        scheduling::WORKLOADS,
        sessions::WORKLOADS,
        proxy_headers::WORKLOADS,
    ]
    .into_iter()
    .flatten()
}
