//! One edge as the hub keeps it: its secrets, its generation, and the tunnel it has.

use super::action::Action;
use super::counters::EdgeCounters;
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::{AllowedEdge, DialProxy, PortMap};
use remoteingress_proto::control::{Config, ConfigPort, MAX_PORTS_BEFORE, PortState};
use remoteingress_proto::handshake::{
    Candidates, HubEpoch, InstanceId, ProofKeys, SessionId, Transport,
};
use remoteingress_proto::mux::Totals;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::wire::features::Features;
use remoteingress_proto::wire::header::Protocol;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// The hub's own part of what its edges are told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) epoch: HubEpoch,
    pub(super) max_streams: u32,
    pub(super) udp_idle: Option<Duration>,
}

/// One session of an edge, wherever it runs.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) worker: usize,
    pub(super) ordinal: u16,
    pub(super) keys: ProofKeys,
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
    pub(super) live: bool,
    /// It was made and is about to be live: another instance that was admitted at the same time comes too late.
    pub(super) pending: bool,
    /// Its edge drains: no stream is opened here any more.
    pub(super) leaving: bool,
}

/// All sessions of one instance of an edge.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) instance: InstanceId,
    pub(super) version: String,
    pub(super) features: Features,
    pub(super) address: SocketAddr,
    pub(super) connected_at: SystemTime,
    /// Of the session that came up last: new streams use it.
    pub(super) transport: Transport,
    pub(super) dialled_by: DialledBy,
    pub(super) sessions: HashMap<SessionId, Session>,
    /// The generation that the edge was told, and on which session.
    pub(super) told: Option<(u64, SessionId)>,
}

impl Tunnel {
    pub(super) fn live(&self) -> usize {
        self.sessions
            .values()
            .filter(|session| session.live)
            .count()
    }

    /// Every live session only lets its streams finish. One that has lost its connection may have had nothing to finish.
    pub(super) fn is_leaving(&self) -> bool {
        let mut live = self.sessions.values().filter(|session| session.live);
        live.all(|session| session.leaving)
    }

    /// Sessions that are live or about to be, and don't only finish their streams: another instance may
    /// not just take over.
    pub(super) fn staying(&self) -> impl Iterator<Item = (SessionId, &Session)> {
        let staying = |(_, session): &(&SessionId, &Session)| {
            (session.live || session.pending) && !session.leaving
        };
        let sessions = self.sessions.iter().filter(staying);
        sessions.map(|(id, session)| (*id, session))
    }
}

/// An edge that may connect, and what is known of it.
#[derive(Debug)]
pub(super) struct Edge {
    pub(super) allowed: Arc<AllowedEdge>,
    /// Of its secret and its next secret.
    pub(super) keys: Vec<ProofKeys>,
    pub(super) counters: Arc<EdgeCounters>,
    pub(super) generation: u64,
    /// The generation that the edge has answered.
    pub(super) applied: u64,
    /// The generation that the edge refused last.
    pub(super) refused: Option<u64>,
    pub(super) ports: Vec<PortState>,
    pub(super) public_address: Option<IpAddr>,
    pub(super) tunnel: Option<Tunnel>,
    /// Of instances that drain while a successor has taken over.
    pub(super) leaving: Vec<Tunnel>,
    /// Of sessions that are gone.
    pub(super) ended: Totals,
}

impl Edge {
    /// The proxy through which the hub reaches it, if the hub has dialled.
    pub(super) fn proxy(&self, dialled_by: DialledBy) -> Option<&DialProxy> {
        let dial = self.allowed.dial.as_ref()?;
        let proxy = dial.route.proxy.as_ref();
        proxy.filter(|_| dialled_by == DialledBy::Hub)
    }

    pub(super) fn new(allowed: Arc<AllowedEdge>, generation: u64) -> Self {
        Self {
            keys: proof_keys(&allowed),
            allowed,
            counters: Arc::default(),
            generation,
            applied: 0,
            refused: None,
            ports: Vec::new(),
            public_address: None,
            tunnel: None,
            leaving: Vec::new(),
            ended: Totals::default(),
        }
    }

    pub(super) fn candidates(&self) -> Candidates {
        let mut keys = self.keys.iter().cloned();
        keys.next().map_or_else(Candidates::unknown, |current| {
            Candidates::new(current, keys.next())
        })
    }

    pub(super) fn accepts(&self, keys: &ProofKeys) -> bool {
        self.keys.contains(keys)
    }

    /// Sends the configuration on the lowest live session, unless the edge was told it there. Of two sessions of one
    /// ordinal it is always the same one, or each change would tell the edge again.
    pub(super) fn tell(&mut self, id: &EdgeId, terms: Terms, actions: &mut Vec<Action>) {
        let Some(tunnel) = &mut self.tunnel else {
            return;
        };
        let live = tunnel.sessions.iter().filter(|(_, session)| session.live);
        let Some((session, Session { worker, .. })) = live.min_by_key(|(id, s)| (s.ordinal, **id))
        else {
            return;
        };
        let told = (self.generation, *session);
        if tunnel.told == Some(told) {
            return;
        }
        tunnel.told = Some(told);
        let carries_udp = tunnel.features.contains(Features::DATAGRAM);
        if !carries_udp && !self.allowed.udp.is_empty() {
            actions.push(Action::UdpLeftOut { edge: id.clone() });
        }
        let mut ports = config_ports(&self.allowed, carries_udp, terms.udp_idle);
        if !tunnel.features.contains(Features::PORT_ADDRESSES)
            && ports.iter().any(|port| port.is_shared)
        {
            actions.push(Action::SharedPortsLeftOut {
                edge: id.clone(),
                ports: shared_names(&ports),
            });
            ports.retain(|port| !port.is_shared);
        }
        let left_out = if tunnel.features.contains(Features::MANY_PORTS) {
            0
        } else {
            leave_out(&mut ports)
        };
        if left_out > 0 {
            let edge = id.clone();
            actions.push(Action::PortsLeftOut { edge, left_out });
        }
        let config = Config {
            epoch: terms.epoch,
            generation: self.generation,
            ports,
            stun_interval_secs: self.allowed.stun_interval.map_or(0, seconds),
            max_streams: terms.max_streams,
        };
        actions.push(Action::SendConfig {
            worker: *worker,
            session: *session,
            config,
        });
    }

    /// Sessions with a secret that no longer counts are cut, and all of them if the edge `is_elsewhere` now; the others
    /// learn their new targets.
    pub(super) fn changed(&mut self, id: &EdgeId, is_elsewhere: bool, actions: &mut Vec<Action>) {
        for tunnel in &mut self.leaving {
            let stale = tunnel
                .sessions
                .extract_if(|_, session| is_elsewhere || !self.keys.contains(&session.keys));
            actions.extend(stale.map(|(session, state)| Action::Cut {
                worker: state.worker,
                session,
                replaced: false,
            }));
        }
        let Self {
            allowed,
            keys,
            tunnel: Some(tunnel),
            ..
        } = self
        else {
            return;
        };
        let was_live = tunnel.live() > 0;
        tunnel.sessions.retain(|session, state| {
            let (worker, session) = (state.worker, *session);
            let is_kept = !is_elsewhere && keys.contains(&state.keys);
            actions.push(if is_kept {
                Action::ChangeAllowedEdge {
                    worker,
                    session,
                    allowed: allowed.clone(),
                }
            } else {
                Action::Cut {
                    worker,
                    session,
                    replaced: false,
                }
            });
            is_kept
        });
        if was_live && tunnel.live() == 0 {
            let reason = if is_elsewhere {
                "the edge's dial has changed"
            } else {
                "the edge's secret has changed"
            };
            let (address, reason) = (tunnel.address, reason.to_owned());
            actions.push(Action::Disconnected {
                edge: id.clone(),
                address,
                reason,
            });
        }
        if tunnel.sessions.is_empty() {
            self.tunnel = None;
        }
    }
}

pub(super) fn proof_keys(allowed: &AllowedEdge) -> Vec<ProofKeys> {
    let secrets = std::iter::once(&allowed.secret).chain(&allowed.next_secret);
    secrets.map(ProofKeys::derive).collect()
}

fn config_ports(
    allowed: &AllowedEdge,
    with_udp: bool,
    udp_idle: Option<Duration>,
) -> Vec<ConfigPort> {
    let tcp = config_ports_of(Protocol::Tcp, &allowed.tcp);
    let udp = config_ports_of(Protocol::Udp, &allowed.udp).filter(|_| with_udp);
    tcp.map(|(port, _)| port)
        .chain(udp.map(|(port, idle)| ConfigPort {
            udp_idle_secs: idle.or(udp_idle).map(seconds),
            ..port
        }))
        .collect()
}

/// Leaves out what an edge that knows only few ports would refuse, the longest ranges first; gives the number of ports. Of
/// those that are there on several addresses none is left out as long as they fit by themselves, and no range is cut.
fn leave_out(ports: &mut Vec<ConfigPort>) -> usize {
    let count = |port: &ConfigPort| usize::from(port.last - port.first) + 1;
    let (mut room, mut left_out) = (MAX_PORTS_BEFORE, 0);
    if ports.iter().map(count).sum::<usize>() <= room {
        return left_out;
    }
    ports.sort_by_key(|port| (!port.is_shared, count(port)));
    ports.retain_mut(|port| {
        let all = count(port);
        let told = if port.is_shared && all > room {
            0
        } else {
            all.min(room)
        };
        room -= told;
        left_out += all - told;
        let more = told
            .checked_sub(1)
            .and_then(|more| u16::try_from(more).ok());
        if let Some(more) = more {
            port.last = port.first + more;
        }
        more.is_some()
    });
    left_out
}

/// The ports of a map, each with its own idle timeout.
fn config_ports_of<P>(
    protocol: Protocol,
    ports: &PortMap<P>,
) -> impl Iterator<Item = (ConfigPort, Option<Duration>)> {
    let once = ports.ranges().iter().map(|range| (range, false));
    let shared = ports.shared().map(|range| (range, true));
    once.chain(shared).map(move |(range, is_shared)| {
        let port = ConfigPort {
            protocol,
            first: range.first,
            last: range.last,
            bind_address: range.bind_address.map(|address| address.to_canonical()),
            udp_idle_secs: None,
            is_shared,
        };
        (port, range.udp_idle_timeout)
    })
}

/// The ports that are there on several addresses, each once, as far as people read on.
fn shared_names(ports: &[ConfigPort]) -> String {
    let shared = ports.iter().filter(|port| port.is_shared);
    let names = shared.map(|port| {
        let (protocol, first) = (port.protocol.as_str(), port.first);
        if port.last == first {
            format!("{protocol} {first}")
        } else {
            format!("{protocol} {first}-{}", port.last)
        }
    });
    let names: BTreeSet<String> = names.collect();
    let more = names.len().saturating_sub(MAX_NAMES);
    let shown: Vec<String> = names.into_iter().take(MAX_NAMES).collect();
    match more {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Ports that a warning names.
const MAX_NAMES: usize = 8;

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}

pub(super) fn cut_all(tunnel: &Tunnel, replaced: bool, actions: &mut Vec<Action>) {
    let cut = |(session, state): (&SessionId, &Session)| Action::Cut {
        worker: state.worker,
        session: *session,
        replaced,
    };
    actions.extend(tunnel.sessions.iter().map(cut));
}

pub(super) fn disconnected(id: &EdgeId, tunnel: &Tunnel, reason: &str, actions: &mut Vec<Action>) {
    if tunnel.live() > 0 {
        let (address, reason) = (tunnel.address, reason.to_owned());
        actions.push(Action::Disconnected {
            edge: id.clone(),
            address,
            reason,
        });
    }
}
