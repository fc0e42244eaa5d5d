//! An end that is called: its peer dials, and a worker waits for the next call where it would dial itself (D4, D13).

use crate::transport::connection::Connection;
use crate::transport::tls::ExportedKey;
use remoteingress_core::uplink::race::CONNECT_TIMEOUT;
use remoteingress_proto::handshake::{Call, Transport};
use std::cell::RefCell;
use std::pin::pin;
use std::time::Instant;
use tokio::sync::Notify;

/// The call of a peer that has proved the secret.
pub struct ProvenCall {
    /// The session that it asks for.
    pub call: Call,
    /// The value that only both ends of the connection know.
    pub ekm: ExportedKey,
}

crate::opaque::opaque_debug!(ProvenCall);

impl ProvenCall {
    /// On the connection with this exporter value.
    pub fn new(call: Call, ekm: &[u8; 32]) -> Self {
        Self {
            call,
            ekm: ExportedKey::new(*ekm),
        }
    }
}

/// A call that a worker may answer.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) connection: Connection,
    pub(super) caller: Box<ProvenCall>,
    at: Instant,
}

impl Called {
    pub(super) fn transport(&self) -> Transport {
        self.connection.transport()
    }

    /// The peer still waits for the answer.
    fn is_fresh(&self) -> bool {
        self.at.elapsed() < CONNECT_TIMEOUT
    }
}

/// The place where a worker's calls arrive. One waits at most, the last.
#[derive(Debug, Default)]
pub(super) struct Calls {
    parked: RefCell<Option<Called>>,
    news: Notify,
}

impl Calls {
    /// A call has come; one that waited is dropped, because the peer doesn't wait for it any more.
    pub(super) fn park(&self, connection: Connection, caller: Box<ProvenCall>) {
        *self.parked.borrow_mut() = Some(Called {
            connection,
            caller,
            at: Instant::now(),
        });
        self.news.notify_waiters();
    }

    /// Waits for a call that fits.
    pub(super) async fn arrive(&self, fits: impl Fn(Transport) -> bool) {
        loop {
            let mut news = pin!(self.news.notified());
            // It hears of calls from here on.
            news.as_mut().enable();
            if self.has(&fits) {
                return;
            }
            news.await;
        }
    }

    /// Takes the call that waits, if it fits.
    pub(super) fn take(&self, fits: impl Fn(Transport) -> bool) -> Option<Called> {
        if self.has(fits) {
            self.parked.take()
        } else {
            None
        }
    }

    fn has(&self, fits: impl Fn(Transport) -> bool) -> bool {
        let parked = self.parked.borrow();
        parked
            .as_ref()
            .is_some_and(|called| called.is_fresh() && fits(called.transport()))
    }
}
