//! The measured workloads: work of the pure crates without sockets or chance, timed by `benches/speed.rs` and counted by `main.rs`.

mod frames;
mod picks;
mod proxy_headers;
mod scheduling;
mod sessions;
mod workload;

pub use workload::{Work, Workload};

/// Every workload, in the order of the tables.
pub fn all() -> impl Iterator<Item = &'static Workload> {
    [
        frames::WORKLOADS,
        scheduling::WORKLOADS,
        sessions::WORKLOADS,
        proxy_headers::WORKLOADS,
        picks::WORKLOADS,
    ]
    .into_iter()
    .flatten()
}
