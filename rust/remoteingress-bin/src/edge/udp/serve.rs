//! Reads a worker's UDP listeners, and sends each datagram on its way.

use super::flows::EdgeUdp;
use super::listener::{StrayDatagram, UdpListener};
use super::session::EdgeSessions;
use crate::edge::state::EdgeState;
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_os::dual::unmapped;
use remoteingress_proto::flow::FlowKey;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A listener that can't be read is tried again after this.
const RECEIVE_RETRY: Duration = Duration::from_millis(100);

/// The way of a worker's datagrams.
pub(in crate::edge) struct Datagrams {
    state: Arc<EdgeState>,
    udp: Rc<EdgeUdp>,
    sessions: Rc<EdgeSessions>,
}

impl Datagrams {
    pub(in crate::edge) fn new(
        state: Arc<EdgeState>,
        udp: Rc<EdgeUdp>,
        sessions: Rc<EdgeSessions>,
    ) -> Rc<Self> {
        Rc::new(Self {
            state,
            udp,
            sessions,
        })
    }

    /// Reads a listener's socket until told to stop; then its flows are over.
    pub(in crate::edge) async fn serve(
        self: Rc<Self>,
        listener: Arc<UdpListener>,
        stop: Rc<Notify>,
    ) {
        let udp = &self.udp;
        loop {
            let received = tokio::select! {
                // The batch is empty again before this task waits the next time.
                received = poll_fn(|cx| listener.socket.poll_receive(cx, &mut udp.batch.borrow_mut())) => received,
                () = stop.notified() => break,
            };
            match received {
                Ok(()) => self.take_batch(&listener),
                Err(error) => {
                    let port = listener.bound.port();
                    tracing::debug!(port, %error, "failed to read a UDP listener");
                    tokio::time::sleep(RECEIVE_RETRY).await;
                }
            }
            // The session gets its turn before more is read: its queue is short.
            tokio::task::yield_now().await;
        }
        listener.is_closed.store(true, Ordering::Relaxed);
        udp.close(listener.id);
    }

    /// Sends what was read just now on its way.
    fn take_batch(&self, listener: &Arc<UdpListener>) {
        let session = self.sessions.for_datagrams();
        let now = Instant::now();
        let port = listener.bound.port();
        for (meta, payload) in self.udp.batch.borrow().datagrams() {
            self.state.udp.count_in(1);
            let ip = match meta.dst_ip {
                Some(ip) if listener.bound.ip().is_unspecified() => ip.to_canonical(),
                Some(_) | None => listener.bound.ip(),
            };
            let key = FlowKey {
                client: unmapped(meta.addr),
                local: SocketAddr::new(ip, port),
            };
            let sent = match (&session, self.udp.lent_to(&key)) {
                (Some(session), None) => {
                    let session = (&*session.local, &session.flows.channel);
                    self.udp.to_hub(session, now, listener, key, payload)
                }
                (_, lent) => self.udp.lend(now, lent, listener, key, payload),
            };
            if let Err(reason) = sent {
                self.state.udp.drop(reason);
            }
        }
        if let Some(session) = session {
            session.local.notify();
        }
    }

    /// Another worker had no session for this datagram.
    pub(in crate::edge) fn take_in(&self, stray: &StrayDatagram) {
        let StrayDatagram {
            listener,
            key,
            payload,
        } = stray;
        // It isn't given away again: it could go round in circles.
        let sent = match self.sessions.for_datagrams() {
            Some(session) => {
                let now = Instant::now();
                let into = (&*session.local, &session.flows.channel);
                let sent = self.udp.to_hub(into, now, listener, *key, payload);
                session.local.notify();
                sent
            }
            None => Err(UdpDrop::NoSession),
        };
        if let Err(reason) = sent {
            self.state.udp.drop(reason);
        }
    }
}
