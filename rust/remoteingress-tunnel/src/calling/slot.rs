//! One session's place at an edge that is called: after one connection comes the next (D13).
//!
//! The decisions are those of an end that dials: `remoteingress-core` `uplink/`.

use super::{Callee, Unreachable};
use crate::entrance::acceptor::{Acceptor, Admitted};
use crate::entrance::call::call;
use crate::entrance::line::LineEnd;
use crate::uplink::quic_dialler::QuicDialer;
use crate::uplink::reach::{Raced, Reached, race};
use crate::uplink::step::Step;
use crate::uplink::trial;
use remoteingress_config::TransportMode;
use remoteingress_core::uplink::action::{Action, Dial, News, Verdict};
use remoteingress_core::uplink::failure::Failure;
use remoteingress_core::uplink::keeper::{Input, Keeper};
use remoteingress_core::uplink::race::Course;
use remoteingress_os::random::uniform;
use remoteingress_proto::handshake::{AuthenticatedEdge, Transport};
use remoteingress_proto::mux::SILENT;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;
use tokio::time::{sleep, sleep_until, timeout};

/// The hub's side of a worker that calls edges.
pub trait Host: 'static {
    /// The hub.
    type Acceptor: Acceptor<Peer = AuthenticatedEdge>;

    /// The hub.
    fn acceptor(&self) -> &Self::Acceptor;

    /// Takes over a connection whose edge was let in.
    fn deliver(&self, admitted: Admitted<<Self::Acceptor as Acceptor>::Place>);

    /// Tells the operator that an edge can't be reached.
    fn report(&self, callee: &Callee, unreachable: Unreachable);
}

/// The means that all slots of a worker share.
pub struct Means<H> {
    /// The hub.
    pub host: H,
    /// The worker's QUIC endpoints for connections that it dials.
    pub quic: QuicDialer,
    /// Attempts that may be made at once.
    pub attempts: Semaphore,
}

impl<H> std::fmt::Debug for Means<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Means").finish_non_exhaustive()
    }
}

/// One session's place.
struct Slot<H> {
    means: Rc<Means<H>>,
    callee: Arc<Callee>,
    ordinal: u16,
}

/// A connection whose edge was let in.
struct Held {
    line: LineEnd,
    transport: Transport,
}

/// Keeps the session with this ordinal until the edge isn't to be called any more. It begins after `delay`.
pub async fn keep<H: Host>(
    means: Rc<Means<H>>,
    callee: Arc<Callee>,
    ordinal: u16,
    delay: Duration,
) {
    let slot = Slot {
        means,
        callee: callee.clone(),
        ordinal,
    };
    let kept = async {
        sleep(delay).await;
        // One slot makes trials for all.
        tokio::join!(slot.keep(), slot.make_trials());
    };
    tokio::select! {
        () = kept => {}
        () = callee.over() => {}
    }
}

impl<H: Host> Slot<H> {
    async fn keep(&self) {
        let mut keeper = Keeper::new(self.ordinal == 0);
        let mut input = self.due();
        let mut next = None;
        let mut resumable_until = None;
        loop {
            let held = match next.take() {
                Some(held) => held,
                None => self.reach(&mut keeper, input, resumable_until).await,
            };
            self.decide(&mut keeper, Input::Connected);
            let live = Live::new(&self.callee, self.ordinal);
            let mut line = held.line.clone();
            tokio::select! {
                () = line.ended() => {}
                () = self.left(&held) => {}
                other = self.over_other_transport(&held) => next = Some(other),
            }
            drop(live);
            // A session over TLS is resumed over TLS.
            let resume_timeout = self.callee.settings.resume_timeout;
            resumable_until =
                (held.transport == Transport::TcpTls).then(|| Instant::now() + resume_timeout);
            input = Input::Ended {
                was_known: true,
                retry_after: None,
            };
        }
    }

    /// Resolves once the edge takes no new streams here: it ends, and may have a successor already. One that goes over to
    /// another transport is called over that.
    async fn left(&self, held: &Held) {
        held.line.clone().leaving().await;
        if self.callee.choice.borrow().transport != held.transport {
            std::future::pending::<()>().await;
        }
    }

    /// Makes attempts until one succeeds.
    async fn reach(
        &self,
        keeper: &mut Keeper,
        first: Input,
        resumable_until: Option<Instant>,
    ) -> Held {
        let mut step = self.decide(keeper, first);
        loop {
            let input = match step {
                Step::Wait(until) => {
                    tokio::select! {
                        () = sleep_until(until.into()) => {}
                        () = self.callee.news.notified() => {}
                    }
                    self.due()
                }
                Step::WaitForOthers => {
                    // The sender lives as long as the edge is called.
                    let mut live = self.callee.live.subscribe();
                    let _ = live.wait_for(|sessions| *sessions > 0).await;
                    Input::OthersLive
                }
                Step::Dial(dial) => {
                    let is_resume = resumable_until.is_some_and(|until| Instant::now() < until);
                    // A session that the edge has needs no other; the edge may even drain, and refuse all others.
                    if !is_resume {
                        self.wait_for_first().await;
                    }
                    let chosen = self.callee.choice.borrow().transport;
                    let choice = if is_resume { Transport::TcpTls } else { chosen };
                    match self.connect(dial, choice).await {
                        Ok(held) => return held,
                        Err(failure) => Input::Failed(failure),
                    }
                }
                Step::Stay | Step::End => self.due(),
            };
            step = self.decide(keeper, input);
        }
    }

    /// Waits until the edge wants a session in this place, which its first one says.
    async fn wait_for_first(&self) {
        if self.ordinal > 0 {
            // The senders live as long as the edge is called.
            let mut has_first = self.callee.has_first.subscribe();
            let _ = has_first.wait_for(|has_first| *has_first).await;
            let mut wanted = self.callee.wanted().subscribe();
            let _ = wanted.wait_for(|wanted| *wanted > self.ordinal).await;
        }
    }

    fn due(&self) -> Input {
        Input::Due {
            refusal: self.callee.gate.rules().refusal().cloned(),
        }
    }

    fn decide(&self, keeper: &mut Keeper, input: Input) -> Step {
        let actions: Vec<Action> = keeper.handle(input, Instant::now(), uniform());
        Step::of(actions, |news| {
            if let News::Down { error, .. } = news
                && let Some(unreachable) = self.callee.failed(&error)
            {
                self.means.host.report(&self.callee, unreachable);
            }
        })
    }

    /// One attempt: a connection, a Call, and an edge that is let in.
    async fn connect(&self, dial: Dial, choice: Transport) -> Result<Held, Failure> {
        let callee = &self.callee;
        let _pass = callee.gate.pass().await;
        // Before any clock of the attempt runs. It is never closed.
        let _permit = self.means.attempts.acquire().await;
        let is_first = self.ordinal == 0;
        callee.gate.rules().admit(Instant::now(), dial, is_first)?;
        let is_trial = dial == Dial::Trial;
        let called = match Course::of(dial, callee.dial.mode(), choice) {
            Course::Single { transport, limit } => self.attempt(transport, is_trial, limit).await,
            Course::Race {
                quic_limit,
                tls_delay,
                tls_limit,
            } => {
                let quic = self.attempt(Transport::Quic, is_trial, quic_limit);
                let dial_tls = || self.dial(Transport::TcpTls, tls_limit);
                match race(quic, tls_delay, dial_tls).await {
                    Err(failure) => Err(failure),
                    Ok(Raced::Quic(held)) => Ok(held),
                    Ok(Raced::Tls(reached, failure)) => {
                        let greeting = self.greet(reached, is_trial);
                        let greeted = callee.settings.reach.in_time(tls_limit, greeting).await;
                        if greeted.is_ok() {
                            callee.fall_back(&failure.error.message);
                        }
                        greeted
                    }
                }
            }
        };
        let called = called.map_err(Failure::towards_edge);
        let verdict = match &called {
            Ok(_) => Some(Verdict::Accepted),
            Err(failure) => Verdict::of_failure(failure),
        };
        if let Some(verdict) = verdict {
            callee.gate.rules().handle(Instant::now(), &verdict);
        }
        called
    }

    async fn attempt(
        &self,
        transport: Transport,
        is_trial: bool,
        limit: Duration,
    ) -> Result<Held, Failure> {
        let attempt = async {
            let reached = self.dial(transport, limit).await?;
            self.greet(reached, is_trial).await
        };
        self.callee.settings.reach.in_time(limit, attempt).await
    }

    async fn dial(&self, transport: Transport, limit: Duration) -> Result<Reached, Failure> {
        // The edge's sockets choose the worker by this byte, modulo their number.
        let choice = u8::try_from(self.ordinal % 256).unwrap_or_default();
        let deadline = tokio::time::Instant::now() + limit;
        let reach = &self.callee.settings.reach;
        reach
            .connect(transport, &self.means.quic, choice, deadline)
            .await
    }

    /// Calls the edge, and hands the connection over once it is let in.
    async fn greet(&self, (connection, ekm): Reached, is_trial: bool) -> Result<Held, Failure> {
        let (callee, host) = (&self.callee, &self.means.host);
        let transport = connection.transport();
        let made = callee.message(self.ordinal, is_trial, &ekm, transport);
        let message = made.map_err(|error| Failure::of_call(&error))?;
        let candidates = callee.candidates();
        let (acceptor, edge) = (host.acceptor(), callee.edge());
        let called = call(
            acceptor,
            connection,
            &ekm,
            &message,
            edge,
            &candidates,
            is_trial,
        );
        let (admitted, line) = called.await?;
        if !is_trial && let Some(wanted) = admitted.peer.hello.sessions_wanted {
            callee.wanted.send_if_modified(|before| {
                let changes = *before != wanted.max(1);
                *before = wanted.max(1);
                changes
            });
        }
        host.deliver(admitted);
        Ok(Held { line, transport })
    }

    /// Resolves once new streams shall use another transport than this connection's and the edge was let in over it. A
    /// connection that is silent is one reason.
    async fn over_other_transport(&self, held: &Held) -> Held {
        let mut choice = self.callee.choice.subscribe();
        let mut keeper = Keeper::new(true);
        let silence = async {
            held.line.clone().silent().await;
            if held.transport == Transport::Quic {
                self.callee.fall_back(SILENT);
            }
            std::future::pending::<()>().await;
        };
        let other = async {
            loop {
                let changed = choice.wait_for(|choice| choice.transport != held.transport);
                // The sender lives as long as the edge is called.
                let Ok(transport) = changed.await.map(|choice| choice.transport) else {
                    return std::future::pending().await;
                };
                match self.connect(Dial::New, transport).await {
                    Ok(held) => return held,
                    Err(failure) => {
                        let failed = Input::Failed(failure);
                        if let Step::Wait(until) = self.decide(&mut keeper, failed) {
                            sleep_until(until.into()).await;
                        }
                    }
                }
            }
        };
        tokio::select! {
            other = other => other,
            () = silence => std::future::pending().await,
        }
    }

    /// Finds out whether QUIC works again while TLS carries the tunnel.
    async fn make_trials(&self) {
        let callee = &self.callee;
        let can_fall_back = callee.dial.mode() == TransportMode::QuicWithFallback;
        if self.ordinal != 0 || !can_fall_back {
            return;
        }
        let interval = callee.dial.quic.probe_interval;
        let attempt = async || self.holds().await;
        let edge = callee.edge();
        let tell = || tracing::info!(%edge, "QUIC works again: new streams go over it");
        trial::repeat(&callee.choice, interval, attempt, tell).await;
    }

    /// Makes a connection and tells whether it stays alive for long enough.
    async fn holds(&self) -> Result<bool, Failure> {
        let held = self.connect(Dial::Trial, Transport::Quic).await?;
        // Once both are dropped, the connection is of no use any more.
        let (mut line, mut silence) = (held.line.clone(), held.line);
        let lost = async {
            tokio::select! {
                () = line.ended() => {}
                () = silence.silent() => {}
            }
        };
        let is_held = timeout(self.callee.dial.quic.stable, lost).await.is_err();
        Ok(is_held)
    }
}

/// A slot that has a connection.
struct Live<'a>(&'a Callee, u16);

impl<'a> Live<'a> {
    fn new(callee: &'a Callee, ordinal: u16) -> Self {
        callee.connected(ordinal);
        Self(callee, ordinal)
    }
}

impl Drop for Live<'_> {
    fn drop(&mut self) {
        self.0.disconnected(self.1);
    }
}
