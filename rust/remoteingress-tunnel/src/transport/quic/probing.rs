//! Any congestion control, and beside it a packet now and then on a path from which nothing comes any more.
//!
//! While the path is gone the window fills up, and then QUIC sends nothing but what its own timer lets out, which doubles
//! its pauses. Nothing else in quinn-proto lets a packet pass, so the window is opened for the moment of sending one.

use quinn_proto::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::{Connection, RttEstimator};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Makes controllers that can be opened, of those that another makes.
pub(super) struct ProbingConfig<F>(pub(super) Arc<F>);

impl<F: ControllerFactory + Send + Sync + 'static> ControllerFactory for ProbingConfig<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Probing {
            controller: self.0.clone().build(now, current_mtu),
            is_open: Arc::default(),
        })
    }
}

/// A controller whose window can be opened.
struct Probing {
    controller: Box<dyn Controller>,
    is_open: Arc<AtomicBool>,
}

/// Calls `send` while the connection's window is open: it must take one packet and no more.
pub(super) fn with_open_window(connection: &mut Connection, send: impl FnOnce(&mut Connection)) {
    let controller = connection.congestion_state().clone_box().into_any();
    // Each of ours is of this kind.
    if let Ok(probing) = controller.downcast::<Probing>() {
        probing.is_open.store(true, Ordering::Relaxed);
        send(connection);
        probing.is_open.store(false, Ordering::Relaxed);
    }
}

impl Controller for Probing {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.controller.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        rtt: &RttEstimator,
    ) {
        self.controller.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        app_limited: bool,
        largest_packet_num_acked: Option<u64>,
    ) {
        self.controller
            .on_end_acks(now, in_flight, app_limited, largest_packet_num_acked);
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.controller
            .on_congestion_event(now, sent, is_persistent_congestion, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.controller.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        if self.is_open.load(Ordering::Relaxed) {
            u64::MAX
        } else {
            self.controller.window()
        }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.controller.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self {
            controller: self.controller.clone_box(),
            is_open: self.is_open.clone(),
        })
    }

    fn initial_window(&self) -> u64 {
        self.controller.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
