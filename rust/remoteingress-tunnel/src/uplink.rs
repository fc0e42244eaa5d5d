//! The end that dials: it reaches the peer, keeps one session per worker, and resumes what a lost connection carried.
//!
//! The decisions are made in `remoteingress-core` `uplink/`; here they are carried out.
//!
//! - [`Uplink`]: one way to a peer, which its workers share;
//! - [`reach`]: a peer that is dialled, through a proxy or not; [`calls`]: one that dials itself;
//! - [`dialler`]: one attempt: dial, TLS or QUIC, or the next call; Hello, Welcome;
//! - [`session`]: one session, over one connection after another;
//! - [`sessions`]: the sessions of one worker, and the one that takes new streams;
//! - [`keep`]: after one session comes the next;
//! - [`examine`]: looks at a peer without a session;
//! - [`trial`]: finds out whether QUIC works again;
//! - [`report`]: news for whoever has the uplink.

pub mod calls;
pub mod dialler;
pub mod examine;
pub(crate) mod gate;
pub mod keep;
pub mod quic_dialler;
pub mod reach;
pub mod report;
pub mod session;
pub mod sessions;
pub(crate) mod step;
#[cfg(test)]
mod tests;
mod through_proxy;
pub mod trial;

use gate::Gate;
use reach::Reach;
use remoteingress_config::{DialProxy, TransportMode};
use remoteingress_core::uplink::caller::Caller;
use remoteingress_core::uplink::failure::Ends;
use remoteingress_core::uplink::load::Load;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_os::worker::Gauge;
use remoteingress_proto::handshake::{HubEpoch, InstanceId, ProofKeys, Transport};
use remoteingress_proto::token::edge_id::EdgeId;
use report::Report;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The peer that an uplink reaches, and the identity of this end.
#[derive(Debug)]
pub struct Settings {
    /// The words for both ends in what an operator reads.
    pub ends: Ends,
    /// The transports that may be used; an end that is called takes those that its peer dials.
    pub mode: TransportMode,
    /// The id that this end's secret belongs to.
    pub id: EdgeId,
    /// This start of this end.
    pub instance: InstanceId,
    /// Another instance with this id is pushed out.
    pub replaces_instance: bool,
    /// The longest that a session waits for its next connection.
    pub resume_timeout: Duration,
    /// Longest time without a question on a session that carries nothing.
    pub keepalive: Duration,
    /// The longest that streams wait which were sent ahead of the Welcome of a session that is never let in.
    pub patience: Duration,
    /// This end's software, for the peer's log.
    pub version: &'static str,
}

/// The end that dials.
#[derive(Debug)]
pub enum Way {
    /// This one.
    Dial(Box<Reach>),
    /// The peer: it calls at this port.
    Called {
        /// The port, for what an operator reads.
        port: u16,
    },
}

/// One way to a peer, as this end's workers share it. None of it is touched per byte.
#[derive(Debug)]
pub struct Uplink {
    settings: Settings,
    way: Way,
    proof: ProofKeys,
    gate: Arc<Gate>,
    choice: watch::Sender<Choice>,
    reports: mpsc::Sender<Report>,
    /// By worker: it has a session that takes new streams, and how many it carries.
    gauges: Vec<Gauge>,
    /// The number of workers that have a session that takes streams.
    live: watch::Sender<usize>,
    /// Counts the restarts of the peer that were noticed.
    restarts: watch::Sender<u64>,
    /// By worker: the run of the peer that has called it last.
    callers: Mutex<Vec<Option<Caller>>>,
    is_draining: AtomicBool,
    reconnects: AtomicU64,
    resumed: AtomicU64,
}

impl Uplink {
    /// An uplink for this many workers. It reports to `reports`; a receiver that is too slow loses news that it gets again,
    /// but never a control message.
    pub fn new(
        settings: Settings,
        way: Way,
        proof: ProofKeys,
        workers: usize,
        reports: mpsc::Sender<Report>,
    ) -> Arc<Self> {
        Arc::new(Self {
            gate: Gate::new(),
            choice: watch::Sender::new(Choice::first(settings.mode)),
            reports,
            gauges: Gauge::of_workers(workers),
            live: watch::Sender::new(0),
            restarts: watch::Sender::new(0),
            is_draining: AtomicBool::new(false),
            reconnects: AtomicU64::new(0),
            resumed: AtomicU64::new(0),
            callers: Mutex::new(vec![None; workers]),
            settings,
            way,
            proof,
        })
    }

    /// The keys that prove the secret.
    pub fn proof(&self) -> &ProofKeys {
        &self.proof
    }

    /// The peer dials.
    pub fn is_called(&self) -> bool {
        matches!(self.way, Way::Called { .. })
    }

    /// The proxy on the way to the peer.
    pub fn proxy(&self) -> Option<&DialProxy> {
        match &self.way {
            Way::Dial(reach) => reach.route.proxy.as_ref(),
            Way::Called { .. } => None,
        }
    }

    /// By worker: the run of the peer whose call its session has answered, if it has one that takes new streams, or that
    /// still has some while this end drains.
    pub fn callers(&self) -> Vec<Option<Caller>> {
        let is_draining = self.is_draining();
        let callers = self.lock_callers();
        let all = callers.iter().zip(&self.gauges);
        let has_session = |gauge: &Gauge| gauge.is_live() || is_draining && gauge.streams() > 0;
        all.map(|(caller, gauge)| caller.filter(|_| has_session(gauge)))
            .collect()
    }

    /// The peer that this worker has answered last, unless it was forgotten.
    pub fn last_caller(&self, worker: usize) -> Option<Caller> {
        self.lock_callers().get(worker).copied().flatten()
    }

    /// Forgets a run of the peer that doesn't answer any more.
    pub fn forget_caller(&self, epoch: HubEpoch) {
        for caller in &mut *self.lock_callers() {
            caller.take_if(|caller| caller.epoch == epoch);
        }
    }

    fn set_caller(&self, worker: usize, new: Caller) {
        if let Some(caller) = self.lock_callers().get_mut(worker) {
            *caller = Some(new);
        }
    }

    fn lock_callers(&self) -> MutexGuard<'_, Vec<Option<Caller>>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The transport of new sessions, and the reason of its last change.
    pub fn choice(&self) -> &watch::Sender<Choice> {
        &self.choice
    }

    /// The transport of new sessions.
    pub fn transport(&self) -> Transport {
        self.choice.borrow().transport
    }

    /// By worker: it has a session that takes new streams, and the number of streams that it carries.
    pub fn gauges(&self) -> &[Gauge] {
        &self.gauges
    }

    /// The same as plain values, in the order of the workers.
    pub fn loads(&self) -> impl Iterator<Item = Load> + Clone + '_ {
        self.gauges.iter().map(|gauge| Load {
            is_live: gauge.is_live(),
            streams: gauge.streams(),
        })
    }

    /// The number of workers that have a session that takes streams.
    pub fn live(&self) -> &watch::Sender<usize> {
        &self.live
    }

    /// Attempts to give a session its next connection, so far.
    pub fn reconnects(&self) -> u64 {
        self.reconnects.load(Ordering::Relaxed)
    }

    /// Sessions that were resumed with their streams, so far.
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// No new session is begun any more.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
    }

    /// True from [`Self::drain`] on.
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// A worker's session takes streams now, or doesn't any more.
    fn set_live(&self, worker: usize, live: bool) {
        let Some(gauge) = self.gauges.get(worker) else {
            return;
        };
        if gauge.live.swap(live, Ordering::Relaxed) != live {
            self.live.send_modify(|count| {
                *count = if live {
                    *count + 1
                } else {
                    count.saturating_sub(1)
                };
            });
        }
    }

    /// The peer has called over this transport: new streams use it from now on.
    fn follow(&self, transport: Transport) {
        self.choice.send_if_modified(|choice| {
            let changes = choice.transport != transport;
            if changes {
                *choice = Choice::of_caller(transport);
            }
            changes
        });
    }

    /// QUIC doesn't get through: with `quicWithFallback` new streams go over TLS.
    fn fall_back(&self, reason: &str) {
        let mode = self.settings.mode;
        let fall_back = |choice: &mut Choice| choice.fall_back(mode, reason);
        let has_changed = self.choice.send_if_modified(fall_back);
        if has_changed {
            tracing::warn!(
                reason,
                "QUIC doesn't get through: new streams go over tcpTls"
            );
        }
    }

    /// Gives a report; false where too many wait.
    fn report(&self, report: Report) -> bool {
        self.reports.try_send(report).is_ok()
    }

    fn count_reconnect(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    fn count_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    /// Makes every worker's session ask if the peer is still there.
    pub fn ask_all(&self) {
        self.restarts().send_modify(|count| *count += 1);
    }

    /// Counts the restarts of the peer that were noticed or feared: a change makes sessions ask whether it still knows
    /// them.
    fn restarts(&self) -> &watch::Sender<u64> {
        &self.restarts
    }
}
