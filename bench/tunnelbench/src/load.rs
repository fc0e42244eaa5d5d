//! The loads: what they share is where the tunnel is, how long they measure, and the phases of a measurement.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use clap::{Args, ValueEnum};

pub(crate) mod bulk;
pub(crate) mod exchange;
pub(crate) mod idle;
pub(crate) mod ping;
pub(crate) mod quic;
pub(crate) mod streams;
pub(crate) mod udp;

#[derive(Clone, Args)]
pub(crate) struct Common {
    /// Address at which the tunnel listens
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Seconds measured, after half a second to warm up
    #[arg(long, default_value_t = 3.0)]
    pub(crate) secs: f64,
    /// Processes of the relay, to be accounted for
    #[arg(long, value_delimiter = ',')]
    pub(crate) pids: Vec<u32>,
}

/// As the client sees it: down is from the target to the client.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// Warm-up, measurement, end: told to the tasks of a load.
#[derive(Default)]
pub(crate) struct Phase(AtomicU8);

impl Phase {
    pub(crate) fn is_measuring(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 1
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 2
    }

    pub(crate) fn next(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) const WARM_UP: Duration = Duration::from_millis(500);
