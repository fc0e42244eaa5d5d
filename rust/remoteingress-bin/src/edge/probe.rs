//! Finds out whether QUIC works again while tcpTls carries the tunnel: a session that has no streams (D13).

use super::connect::{Wanted, connect};
use super::session::keep_idle;
use super::worker::EdgeWorker;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_core::uplink::trial::TrialSchedule;
use remoteingress_proto::handshake::Transport;
use std::rc::Rc;
use std::time::Instant;
use tokio::time::{sleep, timeout};

/// Probes as long as the worker lives. One worker does it for the edge.
pub(crate) async fn probe(worker: Rc<EdgeWorker>) {
    let state = worker.state.clone();
    let mut choice = state.choice.subscribe();
    let mut schedule = TrialSchedule::new(state.config.quic_probe_interval);
    loop {
        let fallen = choice.wait_for(|choice| choice.transport == Transport::TcpTls);
        // The sender lives as long as this worker.
        let _ = fallen.await;
        schedule.fell_back(Instant::now());
        loop {
            sleep(schedule.delay(remoteingress_os::random::uniform())).await;
            if holds(&worker).await {
                break;
            }
            schedule.failed();
        }
        schedule.recovered(Instant::now());
        tracing::info!("QUIC works again: new streams go over it");
        state.choice.send_replace(Choice::recovered());
    }
}

/// Whether a connection is let in and stays alive for long enough.
async fn holds(worker: &Rc<EdgeWorker>) -> bool {
    match connect(worker, Wanted::probe()).await {
        Ok(attempt) => {
            let stable = worker.state.config.quic_stable;
            timeout(stable, keep_idle(worker, attempt)).await.is_err()
        }
        Err(failure) => {
            tracing::debug!(error = %failure.error, "QUIC doesn't get through yet");
            false
        }
    }
}
