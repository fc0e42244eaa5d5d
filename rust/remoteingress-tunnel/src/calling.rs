//! The acceptor that dials: it calls its edges, which come in as if they had dialled (D4, D13).
//!
//! - [`Callee`]: an edge that is called, as all workers share it;
//! - [`slot`]: one session's place, which a worker keeps filled.

pub mod slot;

use crate::uplink::gate::Gate;
use crate::uplink::reach::Reach;
use remoteingress_config::error::CodedError;
use remoteingress_config::{DialProxy, EdgeDial};
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_core::uplink::warnings::Warnings;
use remoteingress_proto::handshake::{Call, PROTOCOL_VERSION};
use remoteingress_proto::handshake::{Candidates, HandshakeError, HubEpoch, ProofKeys, Transport};
use remoteingress_proto::token::edge_id::EdgeId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Notify, watch};

/// The way to an edge, and the times by which it is tried.
#[derive(Debug)]
pub struct Settings {
    /// The edge.
    pub edge: EdgeId,
    /// This run of the hub.
    pub epoch: HubEpoch,
    /// Where the edge is.
    pub reach: Reach,
    /// The time for which a session over TLS can be resumed.
    pub resume_timeout: Duration,
}

/// An edge that is called.
#[derive(Debug)]
pub struct Callee {
    settings: Settings,
    dial: EdgeDial,
    keys: Mutex<Secrets>,
    gate: Arc<Gate>,
    choice: watch::Sender<Choice>,
    /// Slots that have a connection.
    live: watch::Sender<usize>,
    /// The first one has: an edge answers for its other sessions only after it.
    has_first: watch::Sender<bool>,
    /// Sessions that the edge wants, as far as the hub allows them.
    wanted: watch::Sender<u16>,
    is_over: watch::Sender<bool>,
    outage: Mutex<Outage>,
    /// Something has changed for which a pause is not to be waited out.
    news: Notify,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Secrets {
    current: ProofKeys,
    next: Option<ProofKeys>,
}

/// Why an edge isn't connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreachable {
    /// The last failure.
    pub error: CodedError,
    /// The first failure of the outage.
    pub since: SystemTime,
}

#[derive(Debug, Default)]
struct Outage {
    warnings: Warnings,
    now: Option<Unreachable>,
}

impl Callee {
    /// An edge that is to be called; nobody does so before [`slot::keep`].
    pub fn new(
        settings: Settings,
        dial: EdgeDial,
        current: ProofKeys,
        next: Option<ProofKeys>,
    ) -> Arc<Self> {
        Arc::new(Self {
            keys: Mutex::new(Secrets { current, next }),
            gate: Gate::new(),
            choice: watch::Sender::new(Choice::first(dial.mode())),
            live: watch::Sender::new(0),
            has_first: watch::Sender::new(false),
            wanted: watch::Sender::new(1),
            is_over: watch::Sender::new(false),
            outage: Mutex::default(),
            news: Notify::new(),
            settings,
            dial,
        })
    }

    /// The edge.
    pub fn edge(&self) -> &EdgeId {
        &self.settings.edge
    }

    /// The proxy on the way to it.
    pub fn proxy(&self) -> Option<&DialProxy> {
        self.dial.route.proxy.as_ref()
    }

    /// It is called as the configuration says now.
    pub fn is_for(&self, dial: &EdgeDial) -> bool {
        self.dial == *dial
    }

    /// Its secrets are these now.
    pub fn set_keys(&self, current: ProofKeys, next: Option<ProofKeys>) {
        let new = Secrets { current, next };
        let before = std::mem::replace(&mut *lock(&self.keys), new.clone());
        if before == new {
            return;
        }
        self.gate.forget();
        self.news.notify_waiters();
    }

    /// Nobody calls it any more.
    pub fn end(&self) {
        self.is_over.send_replace(true);
    }

    /// Why it isn't connected; absent while it is, and before the first failure.
    pub fn unreachable(&self) -> Option<Unreachable> {
        lock(&self.outage).now.clone()
    }

    /// The number of its sessions that this hub keeps, as it changes.
    pub fn wanted(&self) -> &watch::Sender<u16> {
        &self.wanted
    }

    fn candidates(&self) -> Candidates {
        let Secrets { current, next } = lock(&self.keys).clone();
        Candidates::new(current, next)
    }

    /// A Call for one of its sessions.
    fn message(
        &self,
        ordinal: u16,
        is_trial: bool,
        ekm: &[u8; 32],
        transport: Transport,
    ) -> Result<Vec<u8>, HandshakeError> {
        let call = Call {
            protocol_version: PROTOCOL_VERSION,
            hub_epoch: self.settings.epoch,
            session_ordinal: ordinal,
            is_trial,
        };
        let Secrets { current, next } = lock(&self.keys).clone();
        let filler = remoteingress_os::random::bytes();
        call.message(&current, next.as_ref(), ekm, transport, filler)
    }

    fn fall_back(&self, reason: &str) {
        let mode = self.dial.mode();
        let fall_back = |choice: &mut Choice| choice.fall_back(mode, reason);
        if self.choice.send_if_modified(fall_back) {
            let edge = self.edge();
            tracing::warn!(%edge, reason, "QUIC doesn't get through: new streams go over tcpTls");
        }
    }

    /// An attempt has failed. Gives the outage if it has just begun, or has another reason now.
    fn failed(&self, error: &CodedError) -> Option<Unreachable> {
        let mut outage = lock(&self.outage);
        let edge = self.edge();
        if outage.warnings.is_due(error.code, Instant::now()) {
            tracing::warn!(%edge, %error, "failed to reach the edge");
        } else {
            tracing::debug!(%edge, %error, "failed to reach the edge");
        }
        // The other sessions carry on meanwhile.
        if *self.live.borrow() > 0 {
            return None;
        }
        let before = outage.now.as_ref();
        let is_news = before.is_none_or(|before| before.error.code != error.code);
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        let now = Unreachable {
            error: error.clone(),
            since,
        };
        outage.now = Some(now.clone());
        is_news.then_some(now)
    }

    fn connected(&self, ordinal: u16) {
        if ordinal == 0 {
            self.has_first.send_replace(true);
        }
        self.live.send_modify(|live| *live += 1);
        lock(&self.outage).now = None;
    }

    fn disconnected(&self, ordinal: u16) {
        if ordinal == 0 {
            self.has_first.send_replace(false);
        }
        self.live.send_modify(|live| *live = live.saturating_sub(1));
    }

    /// Waits until nobody is to call it any more.
    pub async fn over(&self) {
        // The sender lives as long as this.
        let _ = self.is_over.subscribe().wait_for(|is_over| *is_over).await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
