//! The edges that this hub dials: who is called, by which worker, and what the operator hears of it.

use super::state::{Command, HubState, Incoming};
use remoteingress_config::events::{EdgeKeyChanged, EdgeUnreachable, Event};
use remoteingress_config::status::UnreachableEdge;
use remoteingress_config::{AllowedEdge, EdgeDial};
use remoteingress_observe::clock::unix_millis;
use remoteingress_os::random::uniform;
use remoteingress_proto::handshake::{ProofKeys, Transport};
use remoteingress_proto::mux::Role;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::pin::Pin;
use remoteingress_tunnel::calling::slot::{Host, Means, keep};
use remoteingress_tunnel::calling::{Callee, Settings, Unreachable};
use remoteingress_tunnel::transport::identity::Identity;
use remoteingress_tunnel::transport::quic::config::ClientQuic;
use remoteingress_tunnel::transport::tls::{ClientTls, TlsError};
use remoteingress_tunnel::uplink::quic_dialler::QuicDialer;
use remoteingress_tunnel::uplink::reach::Reach;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

/// Attempts of one worker at once. Most of them are handshakes of some milliseconds; one at an edge that doesn't answer
/// takes 13 s at most, in which others must get their turn.
const ATTEMPTS: usize = 256;
/// The first calls are spread over this long for each edge that is called, up to [`LONGEST_SPREAD`].
const SPREAD: Duration = Duration::from_millis(2);
const LONGEST_SPREAD: Duration = Duration::from_secs(5);

/// Calls the edges that the registry has now: those that are new or elsewhere from now on, those that are gone no more.
pub(super) fn call_all(state: &Arc<HubState>) {
    let dialled: HashMap<EdgeId, (Arc<AllowedEdge>, Vec<ProofKeys>)> = {
        let registry = state.registry();
        let dialled = registry.dialled();
        dialled
            .map(|(edge, keys)| (edge.id.clone(), (edge.clone(), keys.to_vec())))
            .collect()
    };
    let mut callees = lock(state);
    callees.retain(|id, callee| {
        let is_kept = dialled.contains_key(id);
        if !is_kept {
            callee.end();
        }
        is_kept
    });
    let spread = SPREAD
        .saturating_mul(u32::try_from(dialled.len()).unwrap_or(u32::MAX))
        .min(LONGEST_SPREAD);
    for (id, (allowed, keys)) in &dialled {
        let (Some(dial), Some(current)) = (&allowed.dial, keys.first().cloned()) else {
            continue;
        };
        let next = keys.get(1).cloned();
        let place = callees.entry(id.clone());
        if let Entry::Occupied(place) = &place {
            if place.get().is_for(dial) {
                place.get().set_keys(current, next);
                continue;
            }
            place.get().end();
        }
        match settings(state, id, dial) {
            Ok(settings) => {
                let callee = Callee::new(settings, dial.clone(), current, next);
                place.insert_entry(callee.clone());
                call(state, callee, 0, spread.mul_f64(uniform()));
            }
            Err(error) => {
                if let Entry::Occupied(place) = place {
                    place.remove();
                }
                tracing::error!(edge = %id, %error, "the edge can't be dialled");
            }
        }
    }
}

/// Calls no edge any more.
pub(super) fn end_all(state: &HubState) {
    for (_, callee) in lock(state).drain() {
        callee.end();
    }
}

/// The edges that are called and not reached.
pub(super) fn unreachable(state: &HubState) -> Vec<UnreachableEdge> {
    let callees = lock(state);
    let outage = |callee: &Arc<Callee>| {
        let Unreachable { error, since } = callee.unreachable()?;
        Some(UnreachableEdge {
            edge_id: callee.edge().clone(),
            code: error.code,
            reason: error.message,
            proxy: callee.proxy().map(ToString::to_string),
            since: unix_millis(since),
        })
    };
    callees.values().filter_map(outage).collect()
}

fn lock(state: &HubState) -> MutexGuard<'_, HashMap<EdgeId, Arc<Callee>>> {
    state.callees.lock().unwrap_or_else(PoisonError::into_inner)
}

fn settings(state: &HubState, edge: &EdgeId, dial: &EdgeDial) -> Result<Settings, TlsError> {
    let engine = &state.config().engine;
    let pins: Vec<_> = dial.pin.into_iter().collect();
    let tls = ClientTls::new(dial.host.as_str(), &pins, None)?;
    let controller = engine.congestion_controller;
    let quic = ClientQuic::new(&tls, Role::Hub, controller, engine.keepalive)?;
    Ok(Settings {
        edge: edge.clone(),
        epoch: state.epoch,
        reach: Reach {
            peer: "edge",
            host: dial.host.clone(),
            port: dial.port,
            route: dial.route.clone(),
            tls,
            quic,
        },
        resume_timeout: engine.resume_timeout,
    })
}

/// Has the session with this ordinal kept by its worker: an edge's sessions by one worker after another.
fn call(state: &HubState, callee: Arc<Callee>, ordinal: u16, delay: Duration) {
    let mut hasher = DefaultHasher::new();
    callee.edge().hash(&mut hasher);
    let workers = state.gauges.len().max(1) as u64;
    let worker = (hasher.finish() % workers + u64::from(ordinal)) % workers;
    if let Some(worker) = usize::try_from(worker).ok().and_then(|at| state.worker(at)) {
        // A worker that has ended calls nobody.
        let _ = worker.send(Command::Call {
            callee,
            ordinal,
            delay,
        });
    }
}

/// A worker's part in calling edges.
pub(super) struct Calling {
    means: Rc<Means<WorkerHost>>,
}

struct WorkerHost {
    state: Arc<HubState>,
    ordinal: usize,
    /// Takes a connection that stays on this worker.
    attach: Box<dyn Fn(Incoming)>,
}

impl Calling {
    /// `attach` takes the connections that stay on this worker.
    pub(super) fn new(
        state: Arc<HubState>,
        ordinal: usize,
        attach: impl Fn(Incoming) + 'static,
    ) -> Self {
        let host = WorkerHost {
            state,
            ordinal,
            attach: Box::new(attach),
        };
        Self {
            means: Rc::new(Means {
                host,
                quic: QuicDialer::new("edge"),
                attempts: Semaphore::new(ATTEMPTS),
            }),
        }
    }

    /// Keeps a session of an edge from now on. The first one has those kept that the edge wants beside it.
    pub(super) fn keep(&self, callee: Arc<Callee>, ordinal: u16, delay: Duration) {
        spawn_local(keep(self.means.clone(), callee.clone(), ordinal, delay));
        if ordinal == 0 {
            spawn_local(keep_others(self.means.host.state.clone(), callee));
        }
    }

    /// Lets connections over QUIC survive a change of this machine's address.
    pub(super) fn follow_routes(&self) {
        self.means.quic.follow_routes();
    }
}

async fn keep_others(state: Arc<HubState>, callee: Arc<Callee>) {
    let most = state.config().max_sessions_per_edge;
    let mut wanted = callee.wanted().subscribe();
    let mut kept = 1;
    let others = async {
        loop {
            let sessions = wanted.borrow_and_update().min(most);
            for ordinal in kept..sessions {
                call(&state, callee.clone(), ordinal, Duration::ZERO);
            }
            kept = kept.max(sessions);
            if wanted.changed().await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = others => {}
        () = callee.over() => {}
    }
}

impl WorkerHost {
    /// The key is the one that an edge without stateDir makes of this secret, so a change of the secret changed it.
    fn belongs_to_secret(&self, edge: &EdgeId, pin: Pin) -> bool {
        let allowed = self.state.registry().allowed(edge);
        let Some(allowed) = allowed else {
            return false;
        };
        let secrets = [Some(&allowed.secret), allowed.next_secret.as_ref()];
        secrets.into_iter().flatten().any(|secret| {
            let made = || Identity::of_secret(secret.expose().as_bytes());
            secret.withstands_guessing() && made().is_ok_and(|identity| identity.pin == pin)
        })
    }

    /// Remembers the edge's key, and tells the operator of another one than before.
    fn learn_key(&self, incoming: &Incoming) {
        let edge = &incoming.peer.hello.edge_id;
        let Some(pin) = incoming.connection.peer_pin() else {
            return;
        };
        let Some(previous) = self.state.edge_keys.learn(edge, pin) else {
            return;
        };
        if self.belongs_to_secret(edge, pin) {
            return;
        }
        let address = incoming.address;
        tracing::warn!(%edge, %address, %pin, %previous, "the edge has another key than before; unless its stateDir was lost, somebody else has its secret");
        self.state
            .events
            .emit(&Event::EdgeKeyChanged(EdgeKeyChanged {
                edge_id: edge.clone(),
                remote_address: address,
                pin,
                previous_pin: previous,
            }));
    }
}

impl Host for WorkerHost {
    type Acceptor = HubState;

    fn acceptor(&self) -> &HubState {
        &self.state
    }

    fn deliver(&self, incoming: Incoming) {
        self.learn_key(&incoming);
        let is_own = incoming.place.worker == self.ordinal;
        if is_own || incoming.connection.transport() == Transport::Quic {
            return (self.attach)(incoming);
        }
        match incoming.detach() {
            Ok(incoming) => self.state.take_in(incoming),
            Err(error) => tracing::error!(%error, "failed to hand a connection over"),
        }
    }

    fn report(&self, callee: &Callee, unreachable: Unreachable) {
        self.state
            .events
            .emit(&Event::EdgeUnreachable(EdgeUnreachable {
                edge_id: callee.edge().clone(),
                code: unreachable.error.code,
                reason: unreachable.error.message,
            }));
    }
}
