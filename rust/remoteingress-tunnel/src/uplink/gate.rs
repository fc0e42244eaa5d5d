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
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            gate: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Waits until an attempt may be made: not at all where the peer has accepted the secret, else in turn.
    pub(crate) async fn pass(self: &Arc<Self>) -> Pass {
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

    /// This end has another secret.
    pub(crate) fn forget(&self) {
        self.rules().forget();
    }

    /// The rules and what is known. Hold it only between awaits.
    pub(crate) fn rules(&self) -> MutexGuard<'_, DialGate> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_core::uplink::action::Verdict;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};
    use std::time::Instant;

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_turn_that_ends_is_the_next_ones_and_an_accepted_secret_lets_all_pass() {
        let gate = Gate::new();
        let Poll::Ready(first) = poll(pin!(gate.pass())) else {
            panic!("nobody else tries")
        };
        let (mut second, mut third) = (pin!(gate.pass()), pin!(gate.pass()));
        assert!(poll(second.as_mut()).is_pending() && poll(third.as_mut()).is_pending());
        drop(first);
        let Poll::Ready(pass) = poll(second.as_mut()) else {
            panic!("its turn has come")
        };
        assert!(poll(third.as_mut()).is_pending());
        gate.rules().handle(Instant::now(), &Verdict::Accepted);
        drop(pass);
        let passed = [poll(third.as_mut()), poll(pin!(gate.pass()))];
        assert!(passed.iter().all(Poll::is_ready));
    }
}
