//! Finds out whether QUIC works again while TLS carries the tunnel: a session that has no streams (D13).

use super::calls::ProvenCall;
use super::dialler::{Answer, Attempt, Dialler, Wanted};
use super::session::{Flows, UplinkSession};
use crate::transport::connection::Connection;
use remoteingress_core::uplink::action::Dial;
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_core::uplink::trial::TrialSchedule;
use remoteingress_os::random::uniform;
use remoteingress_proto::handshake::Transport;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Interval between checks whether a trial's session is silent.
const SILENCE_CHECK: Duration = Duration::from_millis(500);

/// Makes trials as long as the worker lives; one worker makes them for its uplink. The first comes `interval` after a
/// fallback, and QUIC is used again after a session that holds for `stable`.
pub async fn run<F: Flows>(
    dialler: Rc<Dialler>,
    flows: impl Fn() -> F,
    interval: Duration,
    stable: Duration,
) {
    let uplink = dialler.uplink.clone();
    let attempt = async || holds(&dialler, flows(), stable).await;
    let tell = || tracing::info!("QUIC works again: new streams go over it");
    repeat(uplink.choice(), interval, attempt, tell).await;
}

/// Makes trials after each fallback until one holds, and then has new streams go over QUIC again; for ever. It `tell`s the
/// operator first.
pub(crate) async fn repeat(
    choice: &watch::Sender<Choice>,
    interval: Duration,
    holds: impl AsyncFn() -> Result<bool, Failure>,
    tell: impl Fn(),
) {
    let mut chosen = choice.subscribe();
    let mut schedule = TrialSchedule::new(interval);
    loop {
        let fallen = chosen.wait_for(|choice| choice.transport == Transport::TcpTls);
        // The sender is borrowed here, so it lives.
        let _ = fallen.await;
        schedule.fell_back(Instant::now());
        loop {
            sleep(schedule.delay(uniform())).await;
            match holds().await {
                Ok(true) => break,
                // A refused secret says nothing of QUIC.
                Err(failure) if failure.is_auth_failure => {}
                Ok(false) | Err(_) => schedule.failed(),
            }
        }
        schedule.recovered(Instant::now());
        tell();
        choice.send_replace(Choice::recovered());
    }
}

/// Answers the trial of a peer that has called: a session without streams, for as long as the peer keeps it.
pub async fn answer<F: Flows>(
    dialler: Rc<Dialler>,
    connection: Connection,
    caller: Box<ProvenCall>,
    flows: F,
) {
    let wanted = Wanted::fresh(Dial::Trial);
    match dialler.greet_caller(wanted, connection, caller).await {
        Ok(attempt) => keep_idle(&dialler, attempt, flows).await,
        Err(failure) => tracing::debug!(error = %failure.error, "a trial has failed"),
    }
}

/// Makes a connection and tells whether it stays alive for long enough.
async fn holds<F: Flows>(
    dialler: &Rc<Dialler>,
    flows: F,
    stable: Duration,
) -> Result<bool, Failure> {
    let connected = dialler.connect(Wanted::fresh(Dial::Trial)).await;
    let attempt = connected.inspect_err(|failure| {
        tracing::debug!(error = %failure.error, "QUIC doesn't get through yet");
    })?;
    let kept = timeout(stable, keep_idle(dialler, attempt, flows)).await;
    Ok(kept.is_err())
}

/// Runs a session that gets no streams until it is silent or lost.
async fn keep_idle<F: Flows>(dialler: &Rc<Dialler>, attempt: Attempt, flows: F) {
    let session = UplinkSession::new(dialler, &attempt, flows);
    session.supersede();
    let Attempt {
        mut connection,
        answer: Answer::Welcome(welcome),
        ..
    } = attempt
    else {
        return;
    };
    session.local.session().welcome(welcome.initial_credit);
    let silent = async {
        let mut check = tokio::time::interval(SILENCE_CHECK);
        while !session.local.session().is_silent() {
            check.tick().await;
        }
    };
    tokio::select! {
        error = connection.drive(&session.local, &*session) => {
            tracing::debug!(%error, "a QUIC connection was lost");
        }
        () = silent => {}
    }
}
