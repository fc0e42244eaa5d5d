//! The dial gate as workers wait at it; who may pass is decided in `remoteingress-core` `uplink/gate.rs`.

use remoteingress_core::uplink::gate::{DialGate, Turn};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// A dial gate, and those who wait for their turn.
#[derive(Debug)]
pub(crate) struct Gate {
    gate: Mutex<DialGate>,
    freed: Notify,
}

/// The right to make an attempt. The attempt's verdict goes to the gate before this is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    turn: Option<Turn>,
}

impl Gate {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits until an attempt may be made: not at all where the peer has accepted the secret, else in turn.
    pub(super) async fn pass(self: &Arc<Self>) -> Pass {
        loop {
            // It hears of turns that end from here on.
            let freed = self.freed.notified();
            let turn = self.rules().turn();
            if turn.is_some() {
                let gate = self.clone();
                return Pass { gate, turn };
            }
            freed.await;
        }
    }

    /// The rules and what is known. Hold it only between awaits.
    pub(super) fn rules(&self) -> MutexGuard<'_, DialGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else {
            return;
        };
        if self.gate.rules().end(turn) {
            self.gate.freed.notify_waiters();
        }
    }
}
