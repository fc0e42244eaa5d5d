//! End-to-end tests: the real binary, real sockets on loopback, and a test process that plays clients, targets and faults.
//!
//! One test binary, so that it links once. Each file below is a subject; `harness` is what they stand on.
//! Every test has a deadline and prints its seed; `REMOTEINGRESS_TEST_SEED` repeats it.
#![expect(
    clippy::unwrap_used,
    reason = "in a test a broken assumption should stop it where it is"
)]
#![expect(
    clippy::print_stderr,
    reason = "seeds, logs and skipped tests are shown by the test runner"
)]

mod harness;

mod auth;
mod auth_wire;
mod byte_truth;
mod command_line;
mod config;
mod drain;
mod fallback;
mod flights;
mod hostile_edge;
mod hub_dials;
mod ipc;
mod layer4;
mod overload;
mod probing;
mod proxy_truth;
mod public_address;
mod quic_attacks;
mod quic_faults;
mod real_peers;
mod real_udp_peers;
mod resume;
mod routes;
mod sharing;
mod stalled_readers;
mod stalls;
mod takeover;
mod truncation;
mod udp;
mod udp_attacks;
mod udp_mtu;
mod udp_truth;
