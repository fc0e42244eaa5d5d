//! An edge and a hub in one virtual time, over a simulated network, held against a model after every step.
//!
//! | what | stands for |
//! | --- | --- |
//! | [`edge`] | the shell of an uplink: it drives `Keeper`, `Association`, `DialGate`, `TrialSchedule`, `PortTable` |
//! | [`hub`] | the shell of an entrance and of the hub: it drives `Entrance`, `Guard`, `Registry` |
//! | [`link`] | TLS, as one ordered stream of bytes, and QUIC, as frames with their lanes, in order |
//! | [`world`] | the network and its faults, and what must hold in the end |
//! | [`chaos`] | what goes on at random |
//! | [`traffic`] | clients and targets, and the model of their streams |
//!
//! Sessions and handshakes are those of `remoteingress-proto`; a made-up value of each connection takes the place of
//! TLS's exporter. Not simulated: TLS itself, lost packets within a connection, UDP flows, and limits on streams.
//!
//! - `REMOTEINGRESS_SIM_SEEDS=n` runs n seeds instead of [`SEEDS`].
//! - `REMOTEINGRESS_SIM_SEED=n` runs this seed alone and prints its whole trace.

mod chaos;
mod edge;
mod env;
mod hub;
mod link;
mod trace;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use trace::Trace;
use world::World;

/// Runs of the test, unless the environment says otherwise: a few seconds.
const SEEDS: u64 = 1_000;
/// The name of the edge.
const EDGE_ID: &str = "edge-1";

fn run(seed: u64, trace: &Trace) {
    let mut world = World::new(seed, trace.clone());
    let result = catch_unwind(AssertUnwindSafe(|| {
        world.make_chaos();
        world.heal();
        world.check_end();
    }));
    if let Err(panic) = result {
        world.describe();
        resume_unwind(panic);
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[test]
fn whatever_goes_wrong_the_tunnel_comes_back_and_no_byte_is_lost_or_doubled() {
    if let Some(seed) = from_environment("REMOTEINGRESS_SIM_SEED") {
        let trace = Trace::new(true);
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, &trace)));
        eprintln!("{}", trace.text());
        assert!(result.is_ok(), "seed {seed} fails");
        return;
    }
    let seeds = from_environment("REMOTEINGRESS_SIM_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        let trace = Trace::new(false);
        let result = catch_unwind(AssertUnwindSafe(|| run(seed, &trace)));
        assert!(
            result.is_ok(),
            "seed {seed} fails (REMOTEINGRESS_SIM_SEED={seed} replays it); its last lines:\n{}",
            trace.text()
        );
    }
}

#[test]
fn a_seed_gives_the_same_run_again() {
    let hash = |seed| {
        let trace = Trace::new(false);
        run(seed, &trace);
        trace.hash()
    };
    for seed in 0..200 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
}
