//! A stream's connection to a target of its pool: it waits for a place, dials, races a target that is silent, and goes on
//! to the next where one fails. The client's bytes wait in the tunnel meanwhile.

use super::add;
use super::selection::{Client, HeldSlot, Selection};
use crate::hub::context::WorkerContext;
use crate::hub::target::{DialError, dial};
use remoteingress_config::name::Name;
use remoteingress_config::pools::QueueConfig;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_config::{AllowedEdge, HubConfig, TcpProxyProtocol};
use remoteingress_core::hub::upstream::{Opening, Target};
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_upstream::pick::{NoTarget, Picked};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

/// A stream whose port names a pool.
pub(in crate::hub) struct PoolDial {
    pub(in crate::hub) opening: Opening,
    pub(in crate::hub) allowed: Arc<AllowedEdge>,
    pub(in crate::hub) pool: Name,
    /// What the port has for the PROXY header, and whether it says so itself.
    pub(in crate::hub) header: (TcpProxyProtocol, bool),
    /// Numbers of targets that have had the stream already.
    pub(in crate::hub) avoid: Vec<u32>,
}

/// A target that took the stream.
pub(in crate::hub) struct Reached {
    pub(in crate::hub) socket: TcpStream,
    pub(in crate::hub) target: Target<TcpProxyProtocol>,
    pub(in crate::hub) held: HeldSlot,
    /// Targets that were dialled for it.
    pub(in crate::hub) attempts: u32,
}

/// Why no target took the stream.
pub(in crate::hub) enum Unreached {
    /// None was found at all.
    NoTarget(NoTarget),
    /// The last one that was dialled, and why there was no other.
    Failed(DialError, Option<HubRefusalReason>),
}

impl Unreached {
    /// The code with which the stream ends.
    pub(in crate::hub) fn abort_code(&self) -> AbortCode {
        match self {
            Self::NoTarget(NoTarget::Full) => AbortCode::Overloaded,
            Self::NoTarget(_) => AbortCode::TargetUnreachable,
            Self::Failed(error, _) => error.abort_code(),
        }
    }

    /// What the last target that was dialled did.
    pub(in crate::hub) fn error(&self) -> Option<&DialError> {
        match self {
            Self::NoTarget(_) => None,
            Self::Failed(error, _) => Some(error),
        }
    }

    /// Why its pool had no target for it; none where this machine is to blame.
    pub(in crate::hub) fn no_target(&self) -> Option<NoTarget> {
        match self {
            Self::NoTarget(none) => Some(*none),
            Self::Failed(error, _) => (!error.is_own()).then_some(NoTarget::NoneHealthy),
        }
    }

    /// The reason that is counted.
    pub(in crate::hub) fn reason(&self) -> HubRefusalReason {
        match self {
            Self::NoTarget(NoTarget::Empty) => HubRefusalReason::PoolEmpty,
            Self::NoTarget(NoTarget::Full) => HubRefusalReason::PoolFull,
            Self::NoTarget(NoTarget::NoneHealthy) => HubRefusalReason::NoHealthyTarget,
            Self::Failed(error, reason) => reason.unwrap_or_else(|| error.abort_code().into()),
        }
    }
}

impl PoolDial {
    /// Connects to a target within the hub's connect timeout, after a wait for a place where the pool has a queue.
    pub(in crate::hub) async fn reach(
        &self,
        worker: &Rc<WorkerContext>,
        config: &HubConfig,
    ) -> Result<Reached, Unreached> {
        let (selection, first) = self.first(worker).await.map_err(Unreached::NoTarget)?;
        let silence = selection.pooled().live.config.try_next_after_ms;
        let race = Race {
            pool_dial: self,
            worker,
            deadline: Instant::now() + config.connect_timeout,
            silence: (silence > 0).then(|| Duration::from_millis(silence.into())),
            selection,
            running: Vec::new(),
            attempts: 0,
            is_last: false,
            bound: None,
        };
        race.run(first).await
    }

    fn selection(&self, worker: &WorkerContext) -> Result<Selection, NoTarget> {
        let client = Client {
            allowed: &self.allowed,
            address: self.opening.header.client.ip(),
        };
        let selection = Selection::new(worker, &worker.pools(), &self.pool, client);
        let mut selection = selection.ok_or(NoTarget::Empty)?;
        for number in &self.avoid {
            selection.avoid(*number);
        }
        Ok(selection)
    }

    /// The first target, for which the stream may wait.
    async fn first(&self, worker: &WorkerContext) -> Result<(Selection, Picked), NoTarget> {
        let mut selection = self.selection(worker)?;
        let queue = selection.pooled().live.config.queue.unwrap_or_default();
        let is_queueing = queue.max > 0 && selection.pooled().waiting() > 0;
        let none = if is_queueing {
            // Those that wait come first.
            NoTarget::Full
        } else {
            match selection.pick(worker) {
                Ok(picked) => return Ok((selection, picked)),
                Err(none) => none,
            }
        };
        let waited = if none == NoTarget::Full && queue.max > 0 {
            self.wait(worker, &selection, queue).await
        } else {
            Err(none)
        };
        waited.inspect_err(|none| selection.refuse(*none))
    }

    async fn wait(
        &self,
        worker: &WorkerContext,
        selection: &Selection,
        queue: QueueConfig,
    ) -> Result<(Selection, Picked), NoTarget> {
        let pooled = selection.pooled();
        let Some(_waiting) = Waiting::begin(&pooled.live.counts.waiting, queue.max) else {
            return Err(NoTarget::Full);
        };
        let deadline = Instant::now() + Duration::from_secs(queue.timeout_secs.into());
        // The client at the head alone looks for a place, so that none is overtaken by a later one.
        let head = timeout_at(deadline, pooled.shared.queue.head.acquire()).await;
        // It is never closed.
        let _head = head.map_err(|_| NoTarget::Full)?.ok();
        loop {
            let mut freed = pin!(pooled.shared.queue.freed.notified());
            // A place that comes free from here on isn't missed.
            freed.as_mut().enable();
            // The pool may have changed meanwhile.
            let mut selection = self.selection(worker)?;
            match selection.pick(worker) {
                Ok(picked) => return Ok((selection, picked)),
                Err(NoTarget::Full) => {}
                Err(none) => return Err(none),
            }
            if timeout_at(deadline, freed).await.is_err() {
                return Err(NoTarget::Full);
            }
        }
    }
}

/// Counts as waiting while it lives.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicU64, max: u32) -> Option<Self> {
        let more = |count| (count < u64::from(max)).then_some(count + 1);
        let taken = waiting.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more);
        fence(Ordering::SeqCst);
        // Not `then_some`: one that isn't there mustn't be dropped.
        taken.is_ok().then(|| Self(waiting))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The dials of one stream.
struct Race<'a> {
    pool_dial: &'a PoolDial,
    worker: &'a Rc<WorkerContext>,
    deadline: Instant,
    /// A target that is silent for so long is raced.
    silence: Option<Duration>,
    selection: Selection,
    running: Vec<Dial>,
    attempts: u32,
    /// No further target is dialled.
    is_last: bool,
    /// The bound that was reached, if that is why.
    bound: Option<HubRefusalReason>,
}

/// A dial that is under way.
struct Dial {
    held: HeldSlot,
    target: Target<TcpProxyProtocol>,
    began: Instant,
    connecting: Pin<Box<dyn Future<Output = Result<TcpStream, DialError>>>>,
}

enum Step {
    /// This dial has ended.
    Done(usize, Result<TcpStream, DialError>),
    /// The last one is silent.
    Silent,
}

impl Race<'_> {
    async fn run(mut self, first: Picked) -> Result<Reached, Unreached> {
        let plan = self.selection.pooled().live.plan.clone();
        plan.retries().dialled(self.worker.state.pools.now());
        self.start(first);
        loop {
            match self.step().await {
                Step::Done(at, Ok(socket)) => return Ok(self.won(at, socket)),
                Step::Done(at, Err(error)) => {
                    let dial = self.running.remove(at);
                    if error.is_own() {
                        // Another target would fare no better.
                        self.is_last = true;
                    } else {
                        dial.held.failed(self.worker);
                    }
                    drop(dial);
                    self.next();
                    if self.running.is_empty() {
                        add(&self.selection.pooled().live.counts.refused_unhealthy);
                        return Err(Unreached::Failed(error, self.bound));
                    }
                }
                Step::Silent => self.next(),
            }
        }
    }

    /// Waits for what comes first.
    async fn step(&mut self) -> Step {
        let newest = self.running.last().map(|dial| dial.began);
        let silent_at = newest
            .zip(self.silence)
            .map(|(began, silence)| began + silence)
            .filter(|_| !self.is_last);
        let mut silent: Pin<&mut Option<Sleep>> = pin!(silent_at.map(sleep_until));
        poll_fn(|cx| {
            for (at, dial) in self.running.iter_mut().enumerate() {
                if let Poll::Ready(done) = dial.connecting.as_mut().poll(cx) {
                    return Poll::Ready(Step::Done(at, done));
                }
            }
            match silent.as_mut().as_pin_mut() {
                Some(sleep) => sleep.poll(cx).map(|()| Step::Silent),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Dials the next target, if there may be one.
    fn next(&mut self) {
        if self.is_last {
            return;
        }
        let retries = u32::from(self.selection.pooled().live.config.retries);
        self.is_last = self.attempts > retries || Instant::now() >= self.deadline;
        if self.is_last {
            // Without retries the one dial's own error is the reason.
            self.bound = (retries > 0).then_some(HubRefusalReason::RetriesExhausted);
            return;
        }
        match self.selection.pick(self.worker) {
            Ok(picked)
                if self
                    .selection
                    .pooled()
                    .may_retry(self.worker.state.pools.now()) =>
            {
                self.start(picked);
            }
            Ok(picked) => {
                picked.slot.give_back_unused();
                self.is_last = true;
                self.bound = Some(HubRefusalReason::RetryBudget);
            }
            // None is left.
            Err(_) => self.is_last = true,
        }
    }

    fn start(&mut self, picked: Picked) {
        let port = self.pool_dial.opening.header.listener_port;
        let held = HeldSlot::new(self.selection.pooled(), picked);
        // The plan and its destinations have the same length.
        let target = self
            .selection
            .pooled()
            .target(held.index(), port, self.pool_dial.header);
        let Some(target) = target else {
            return;
        };
        self.attempts += 1;
        let resolver = self.worker.resolver.clone();
        let (deadline, to) = (self.deadline, target.clone());
        self.running.push(Dial {
            held,
            target,
            began: Instant::now(),
            connecting: Box::pin(async move { dial(&to, deadline, &resolver).await }),
        });
    }

    /// Those that were silent for as long as may be have failed; others that were slower have not.
    fn won(mut self, at: usize, socket: TcpStream) -> Reached {
        let Dial {
            held,
            target,
            began,
            ..
        } = self.running.remove(at);
        for loser in &self.running {
            if self
                .silence
                .is_some_and(|silence| loser.began.elapsed() >= silence)
            {
                loser.held.failed(self.worker);
            }
        }
        held.succeeded(self.worker, began.elapsed());
        self.selection.settle(self.worker, held.index());
        Reached {
            socket,
            target,
            held,
            attempts: self.attempts,
        }
    }
}
