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

mod access_log_path;
mod admin;
mod admin_changes;
mod admin_crowd;
mod admin_ctl;
mod admin_openapi;
mod admin_pools;
mod auth;
mod auth_wire;
mod blocks;
mod byte_truth;
mod carrier_nat;
mod certificate;
mod command_line;
mod config;
mod dead_links;
mod descriptors;
mod doctor;
mod drain;
mod edge_sets;
mod fair_shares;
mod fallback;
mod flights;
mod flow_ends;
mod hostile_edge;
mod hub_dials;
mod ipc;
mod layer4;
mod metrics;
mod missing_addresses;
mod overload;
mod own_ports;
mod pools;
mod pools_checks;
mod pools_dns;
mod pools_geo;
mod pools_health;
mod pools_register;
mod pools_repeat;
mod pools_restart;
mod pools_seen;
mod pools_sources;
mod pools_udp;
mod port_addresses;
mod proxy_truth;
mod public_address;
mod quic_attacks;
mod quic_faults;
mod real_clients;
mod real_peers;
mod real_udp_peers;
mod reload;
mod resume;
mod routes;
mod self_test;
mod sharing;
mod sleeping;
mod stalled_readers;
mod stalls;
mod state_dir;
mod strangers;
mod streams;
mod takeover;
mod through_proxies;
mod truncation;
mod udp;
mod udp_addresses;
mod udp_attacks;
mod udp_mtu;
mod udp_ports;
mod udp_truth;
mod unix_targets;
mod zones;
