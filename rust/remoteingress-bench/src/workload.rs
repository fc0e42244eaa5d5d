//! The form in which each file gives its workloads to the measurements.

/// One kind of work.
#[derive(Debug)]
pub struct Workload {
    /// Its row in `bench/instructions.txt`.
    pub name: &'static str,
    /// Operations of one run.
    pub operations: u64,
    /// Builds the state that it works on.
    pub new: fn() -> Box<dyn Work>,
}

/// The state of a workload, which can be run any number of times.
pub trait Work {
    /// Brings back what a run uses up. It isn't measured.
    fn prepare(&mut self) {}

    /// One run: this is measured.
    fn run(&mut self);
}

impl<F: FnMut()> Work for F {
    fn run(&mut self) {
        self();
    }
}
