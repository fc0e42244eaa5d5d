//! Keeps one session to the peer for a worker: after one comes the next.

use super::dialler::{Attempt, Dialler, Wanted};
use super::session::{Flows, UplinkSession};
use super::sessions::Sessions;
use super::step::Step;
use remoteingress_core::uplink::action::{Action, Dial, News};
use remoteingress_core::uplink::keeper::{Input, Keeper};
use remoteingress_os::random::uniform;
use remoteingress_proto::mux::GoAwayCode;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::spawn_local;

/// Keeps a session until the uplink drains. `flows` makes those of each new session.
pub async fn keep<F: Flows + 'static>(sessions: Rc<Sessions<F>>, flows: impl Fn() -> F) {
    tokio::join!(keep_one(&sessions, flows), follow_restarts(&sessions));
}

async fn keep_one<F: Flows + 'static>(sessions: &Rc<Sessions<F>>, flows: impl Fn() -> F) {
    let dialler = sessions.dialler.clone();
    let mut keeper = Keeper::new(dialler.worker == 0);
    let mut input = due(&dialler);
    let mut next = None;
    loop {
        let attempt = match next.take() {
            Some(attempt) => attempt,
            None => match reach(&dialler, &mut keeper, input).await {
                Some(attempt) => attempt,
                None => return,
            },
        };
        if decide(&dialler, &mut keeper, Input::Connected) == Step::End {
            attempt.connection.close().await;
            return;
        }
        let session = UplinkSession::new(&dialler, &attempt, flows());
        let Attempt {
            connection, answer, ..
        } = attempt;
        if let Err(error) = session.greet(answer, &connection) {
            tracing::debug!(%error, "the connection was lost at once");
            session.supersede();
            input = Input::Unusable;
            continue;
        }
        sessions.attach(&session);
        let mut task = sessions.own(spawn_local(session.clone().serve(connection)));
        tokio::select! {
            _ = &mut task => sessions.detach(&session),
            // It finishes its streams on its own while a new one takes over.
            () = session.local.closing().notified() => sessions.drain(&session, task),
            attempt = over_other_transport(&dialler, &session) => {
                session.local.session().go_away(GoAwayCode::Draining, Duration::ZERO);
                session.local.notify();
                sessions.drain(&session, task);
                next = Some(attempt);
            }
        }
        input = Input::Ended {
            was_known: session.is_known(),
            retry_after: session.retry_after(),
        };
    }
}

/// Makes attempts until one succeeds; none if the uplink drains meanwhile.
async fn reach(dialler: &Dialler, keeper: &mut Keeper, first: Input) -> Option<Attempt> {
    let mut step = decide(dialler, keeper, first);
    loop {
        let input = match step {
            Step::Wait(until) => {
                dialler.pause(until, false).await;
                due(dialler)
            }
            Step::WaitForOthers => {
                let mut live = dialler.uplink.live().subscribe();
                // The sender lives as long as this worker.
                let _ = live.wait_for(|sessions| *sessions > 0).await;
                Input::OthersLive
            }
            Step::Dial(dial) => match dialler.connect(Wanted::fresh(dial)).await {
                Ok(attempt) => return Some(attempt),
                Err(failure) => Input::Failed(failure),
            },
            Step::Stay | Step::End => return None,
        };
        step = decide(dialler, keeper, input);
    }
}

fn due(dialler: &Dialler) -> Input {
    Input::Due {
        refusal: dialler.uplink.gate.rules().refusal().cloned(),
    }
}

fn decide(dialler: &Dialler, keeper: &mut Keeper, input: Input) -> Step {
    if dialler.uplink.is_draining() {
        keeper.leave();
    }
    let actions = keeper.handle(input, Instant::now(), uniform());
    carry_out(dialler, actions)
}

fn carry_out(dialler: &Dialler, actions: Vec<Action>) -> Step {
    Step::of(actions, |news| {
        // A keeper tells of nothing but failed attempts.
        if let News::Down { error, .. } = news {
            dialler.failed(error);
        }
    })
}

/// Resolves once new streams shall use another transport than this session's and the peer can be reached over it.
async fn over_other_transport<F: Flows>(dialler: &Dialler, session: &UplinkSession<F>) -> Attempt {
    let uplink = &dialler.uplink;
    let mut choice = uplink.choice().subscribe();
    let mut keeper = Keeper::new(true);
    loop {
        if uplink.is_called() {
            dialler.called_over(session.transport(), false).await;
        } else {
            let other = choice.wait_for(|choice| choice.transport != session.transport());
            // The sender lives as long as this worker.
            let _ = other.await;
        }
        if uplink.is_draining() {
            return std::future::pending().await;
        }
        match dialler.connect(Wanted::fresh(Dial::New)).await {
            Ok(attempt) => return attempt,
            Err(failure) => {
                if let Step::Wait(until) = decide(dialler, &mut keeper, Input::Failed(failure)) {
                    dialler.pause(until, false).await;
                }
            }
        }
    }
}

/// A peer that was restarted has forgotten all sessions: each one asks as soon as one of them has found out.
async fn follow_restarts<F: Flows + 'static>(sessions: &Sessions<F>) {
    let mut restarts = sessions.dialler.uplink.restarts().subscribe();
    // The sender lives as long as this worker.
    while restarts.changed().await.is_ok() {
        sessions.ping();
    }
}
