//! The clients of an edge: who is let in, and which worker each one counts for.

use remoteingress_config::reasons::EdgeRefusalReason;
use remoteingress_config::{EdgeLimits, Limit};
use remoteingress_core::edge::admission::{Admission, Counted};
use remoteingress_core::edge::place::Place;
use remoteingress_core::refusals::Refusals;
use remoteingress_observe::stream_times::StreamTimes;
use remoteingress_os::worker::Gauge;
use remoteingress_tunnel::uplink::Uplink;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::num::NonZeroU16;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts of an edge's clients, which its workers share.
pub(super) struct Clients {
    admission: Mutex<Admission>,
    pub(super) refusals: Refusals<EdgeRefusalReason>,
    /// Clients that wait for a session.
    held: AtomicUsize,
    /// The uplink whose workers they count for.
    uplink: Arc<Uplink>,
    times: Arc<StreamTimes>,
}

impl Clients {
    pub(super) fn new(
        admission: Admission,
        uplink: Arc<Uplink>,
        times: Arc<StreamTimes>,
    ) -> Arc<Self> {
        Arc::new(Self {
            uplink,
            times,
            admission: Mutex::new(admission),
            refusals: Refusals::default(),
            held: AtomicUsize::new(0),
        })
    }

    /// Other limits from now on.
    pub(super) fn set_limits(&self, limits: EdgeLimits) {
        self.admission().set_limits(limits);
    }

    /// Counts a client in.
    pub(super) fn admit(self: &Arc<Self>, client: IpAddr, place: Place) -> Option<Ticket> {
        match self.admission().admit(Instant::now(), client, place) {
            Ok(counted) => Some(Ticket {
                clients: self.clone(),
                counted,
                worker: None,
            }),
            Err(refusal) => {
                self.refusals.count_from(refusal, client);
                None
            }
        }
    }

    /// The hub allows so many streams.
    pub(super) fn limit_streams(&self, max_streams: Limit) {
        self.admission().limit_streams(max_streams);
    }

    /// The places that have clients, in order.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places: Vec<Place> = self.admission().places().collect();
        places.sort_unstable();
        places
    }

    /// Clients that wait for a session.
    pub(super) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// The time now, if streams are timed.
    pub(super) fn time(&self) -> Option<Box<Arrival>> {
        self.times.is_on().then(|| {
            Box::new(Arrival {
                at: Instant::now(),
                held: Duration::ZERO,
            })
        })
    }

    /// Counts a client that waits, until the guard is dropped.
    pub(super) fn hold(&self) -> Held<'_> {
        self.held.fetch_add(1, Ordering::Relaxed);
        Held(self)
    }

    fn admission(&self) -> MutexGuard<'_, Admission> {
        self.admission
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that waits for a session.
pub(super) struct Held<'a>(&'a Clients);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client that was counted in, and for the worker that it was given to; dropping it counts it out.
pub(super) struct Ticket {
    clients: Arc<Clients>,
    counted: Counted,
    /// One more than its ordinal.
    worker: Option<NonZeroU16>,
}

impl Ticket {
    /// The port that the client came to.
    pub(super) fn port(&self) -> u16 {
        self.counted.place.port
    }

    /// Counts it for this worker, and no other, before that knows of it: of a burst each gets its share.
    pub(super) fn place(&mut self, worker: Option<usize>) {
        if let Some(gauge) = self.gauge() {
            gauge.streams.fetch_sub(1, Ordering::Relaxed);
        }
        self.worker = worker.and_then(|ordinal| NonZeroU16::new(u16::try_from(ordinal + 1).ok()?));
        if let Some(gauge) = self.gauge() {
            gauge.streams.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn gauge(&self) -> Option<&Gauge> {
        let gauges = self.clients.uplink.gauges();
        gauges.get(usize::from(self.worker?.get()) - 1)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.place(None);
        let mut admission = self.clients.admission();
        admission.release(&self.counted);
    }
}

/// An accepted client on its way to a worker.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    pub(super) ticket: Ticket,
    pub(super) client: SocketAddr,
    /// The address that it connected to.
    pub(super) listener: SocketAddr,
    /// Its times, while somebody wants to know those of streams. Boxed, since few do.
    pub(super) arrival: Option<Box<Arrival>>,
}

/// Times of a client before its stream.
pub(super) struct Arrival {
    /// Time at which it was accepted.
    pub(super) at: Instant,
    /// Time that it has waited for a session.
    pub(super) held: Duration,
}
