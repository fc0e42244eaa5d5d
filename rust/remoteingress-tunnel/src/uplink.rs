//! The end that dials: it reaches the peer, keeps one session per worker, and resumes what a lost connection carried.
//!
//! The decisions are made in `remoteingress-core` `uplink/`; here they are carried out.
//!
//! - [`Uplink`]: one way to a peer, which its workers share;
//! - [`dialler`]: one attempt: dial, TLS or QUIC, Hello, Welcome;
//! - [`session`]: one session, over one connection after another;
//! - [`sessions`]: the sessions of one worker, and the one that takes new streams;
//! - [`keep`]: after one session comes the next;
//! - [`trial`]: finds out whether QUIC works again;
//! - [`report`]: news for whoever has the uplink.

pub mod dialler;
mod gate;
pub mod keep;
mod quic_dialler;
pub mod report;
pub mod session;
pub mod sessions;
mod step;
#[cfg(test)]
mod tests;
pub mod trial;

use crate::transport::quic::config::ClientQuic;
use crate::transport::tls::ClientTls;
use gate::Gate;
use remoteingress_config::TransportMode;
use remoteingress_core::uplink::failure::Ends;
use remoteingress_core::uplink::load::Load;
use remoteingress_core::uplink::transport_choice::Choice;
use remoteingress_os::worker::Gauge;
use remoteingress_proto::handshake::{InstanceId, ProofKeys, Transport};
use remoteingress_proto::token::edge_id::EdgeId;
use report::Report;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// The peer that an uplink reaches, and the identity of this end.
#[derive(Debug)]
pub struct Settings {
    /// The words for both ends in what an operator reads.
    pub ends: Ends,
    /// The peer's name or address.
    pub host: String,
    /// The peer's port, for TCP and for UDP.
    pub port: u16,
    /// The transports that may be used.
    pub mode: TransportMode,
    /// The id that this end's secret belongs to.
    pub id: EdgeId,
    /// This start of this end.
    pub instance: InstanceId,
    /// Another instance with this id is pushed out.
    pub replaces_instance: bool,
    /// The longest that a session waits for its next connection.
    pub resume_timeout: Duration,
    /// The longest that streams wait which were sent ahead of the Welcome of a session that is never let in.
    pub patience: Duration,
    /// This end's software, for the peer's log.
    pub version: &'static str,
}

/// The keys with which an uplink proves itself and checks the peer.
pub struct Keys {
    /// Prove the secret.
    pub proof: ProofKeys,
    /// Checks the peer's key over TCP.
    pub tls: ClientTls,
    /// Checks the peer's key over QUIC.
    pub quic: ClientQuic,
}

crate::opaque::opaque_debug!(Keys);

/// One way to a peer, as this end's workers share it. None of it is touched per byte.
#[derive(Debug)]
pub struct Uplink {
    settings: Settings,
    keys: Keys,
    gate: Arc<Gate>,
    choice: watch::Sender<Choice>,
    reports: mpsc::Sender<Report>,
    /// By worker: it has a session that takes new streams, and how many it carries.
    gauges: Vec<Gauge>,
    /// The number of workers that have a session that takes streams.
    live: watch::Sender<usize>,
    /// Counts the restarts of the peer that were noticed.
    restarts: watch::Sender<u64>,
    is_draining: AtomicBool,
    reconnects: AtomicU64,
    resumed: AtomicU64,
}

impl Uplink {
    /// An uplink for this many workers. It reports to `reports`; a receiver that is too slow loses news that it gets again,
    /// but never a control message.
    pub fn new(
        settings: Settings,
        keys: Keys,
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
            settings,
            keys,
        })
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

    /// QUIC doesn't get through: with `quicWithFallback` new streams go over TLS.
    fn fall_back(&self, reason: &str) {
        let has_changed = self.settings.mode == TransportMode::QuicWithFallback
            && self.choice.send_if_modified(|choice| {
                let changes = choice.transport == Transport::Quic;
                if changes {
                    *choice = Choice::fallback(reason.to_owned());
                }
                changes
            });
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

    /// Counts the restarts of the peer that were noticed: a change makes sessions ask whether it still knows them.
    fn restarts(&self) -> &watch::Sender<u64> {
        &self.restarts
    }
}
