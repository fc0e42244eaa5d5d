//! The checks of targets: one task of the hub asks each one in its time, and tells its pool what came of it.

mod check_error;

use self::check_error::CheckError;
use super::PoolsView;
use crate::hub::state::HubState;
use remoteingress_config::events::{Event, TargetDown, TargetUp};
use remoteingress_config::name::Name;
use remoteingress_config::pools::{CheckConfig, CheckKind};
use remoteingress_config::reasons::TargetDownReason;
use remoteingress_config::{PoolOfPort, TcpProxyProtocol, UdpProxyProtocol};
use remoteingress_os::probe::{HttpProbe, ProbeKind, UdpProbe, probe};
use remoteingress_os::random;
use remoteingress_os::resolve::TargetResolver;
use remoteingress_proto::token::host::Host;
use remoteingress_proxy_protocol::{V1_UNKNOWN, V2_LOCAL};
use remoteingress_upstream::breaker::Phase;
use remoteingress_upstream::checks::{Answer, Check, Rhythm, Schedule};
use remoteingress_upstream::member::{Checked, Member};
use remoteingress_upstream::pick::unit;
use remoteingress_upstream::plan::Entry;
use remoteingress_upstream::pool_set::{Destination, LivePool};
use std::collections::{HashMap, HashSet, hash_map};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{AbortHandle, JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

/// Checks that run at the same time.
const MOST_AT_ONCE: usize = 64;
/// Pause between two checks while a state is about to change.
const FAST: Duration = Duration::from_secs(1);
/// Time for a look at a target whose pool has no check.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The checks of a hub. Dropping it ends them.
pub(in crate::hub) struct Checks(AbortHandle);

impl Drop for Checks {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Checks {
    /// Of the pools in force, which are followed.
    pub(in crate::hub) fn start(state: Arc<HubState>) -> Self {
        Self(spawn_local(Checker::new(state).run()).abort_handle())
    }

    /// Ends all checks.
    pub(in crate::hub) fn stop(&self) {
        self.0.abort();
    }
}

/// A target that is checked.
#[derive(Clone)]
struct Target {
    pool: Name,
    id: Name,
    member: Arc<Member>,
    host: Host,
    port: u16,
    kind: ProbeKind,
    header: &'static [u8],
    timeout: Duration,
    rhythm: Rhythm,
    /// Its pool has no check: it is looked at only while streams to it fail.
    is_recovery: bool,
}

struct Checker {
    state: Arc<HubState>,
    resolver: TargetResolver,
    schedule: Schedule,
    targets: HashMap<u32, Rc<Target>>,
    running: JoinSet<(Check, Result<Duration, CheckError>)>,
    /// The check of each target that is under way.
    handles: HashMap<u32, AbortHandle>,
    /// Targets of the first look are taken for good until a check says otherwise.
    has_begun: bool,
    /// Targets without a port, which were told of.
    portless: HashSet<(Name, Name)>,
}

impl Checker {
    fn new(state: Arc<HubState>) -> Self {
        Self {
            resolver: TargetResolver::new(state.config().allow_special_targets),
            schedule: Schedule::new(MOST_AT_ONCE),
            targets: HashMap::new(),
            running: JoinSet::new(),
            handles: HashMap::new(),
            has_begun: false,
            portless: HashSet::new(),
            state,
        }
    }

    async fn run(mut self) {
        self.follow();
        loop {
            self.begin();
            let now = self.state.pools.now();
            let next = self.schedule.next_at().map(|at| at.since(now));
            let state = self.state.clone();
            tokio::select! {
                () = state.pools.changed.notified() => self.follow(),
                Some(done) = self.running.join_next() => {
                    // One that was aborted has no target any more, and none panics.
                    if let Ok((check, result)) = done {
                        self.done(check, result);
                    }
                }
                () = sleep(next.unwrap_or_default()), if next.is_some() => {}
            }
        }
    }

    /// Begins the checks whose time has come.
    fn begin(&mut self) {
        let now = self.state.pools.now();
        while let Some(check) = self.schedule.next(now) {
            let Some(target) = self.targets.get(&check.target()).cloned() else {
                self.forget(check.target());
                continue;
            };
            let (number, resolver) = (check.target(), self.resolver.clone());
            let task = async move { (check, look(&target, &resolver).await) };
            let handle = self.running.spawn_local(task);
            self.handles.insert(number, handle);
        }
    }

    /// Checks a target no more. A check of it that is under way ends too, so that no more run than may.
    fn forget(&mut self, number: u32) -> Option<Rc<Target>> {
        self.schedule.remove(number);
        if let Some(handle) = self.handles.remove(&number) {
            handle.abort();
        }
        let target = self.targets.remove(&number)?;
        target.member.set_check_error(None);
        Some(target)
    }

    fn done(&mut self, check: Check, result: Result<Duration, CheckError>) {
        let number = check.target();
        // Another check may have begun since, if the target was forgotten and has come back.
        if let hash_map::Entry::Occupied(handle) = self.handles.entry(number)
            && handle.get().is_finished()
        {
            handle.remove();
        }
        let answer = match &result {
            Ok(_) => Answer::Good,
            Err(error) if error.is_own() => Answer::Unknown,
            Err(_) => Answer::Bad,
        };
        let now = self.state.pools.now();
        let unit = random_unit();
        let change = self.schedule.done(check, answer, now, unit);
        let Some(target) = self.targets.get(&number).cloned() else {
            return;
        };
        let (pool, id) = (&target.pool, &target.id);
        if let Err(error) = &result {
            tracing::debug!(%pool, target = %id, %error, "a check has failed");
        }
        if answer != Answer::Unknown {
            let error = result.as_ref().err();
            let error = error.map(|error| error.brief(&target.kind, target.timeout));
            target.member.set_check_error(error);
        }
        if target.is_recovery {
            if answer == Answer::Good && target.member.phase() != Phase::Closed {
                target.member.revive(now);
                self.tell_up(&target);
            }
            if target.member.phase() == Phase::Closed {
                self.forget(number);
            }
            return;
        }
        match change {
            Some(Checked::Up) => {
                target.member.set_checked(Checked::Up, now);
                // Streams had found the same outage, and would keep it out for up to 60 s more.
                target.member.revive(now);
                self.tell_up(&target);
            }
            Some(Checked::Down) => {
                target.member.set_checked(Checked::Down, now);
                let error = result.err().map(|error| error.to_string());
                self.tell_down(&target, error);
            }
            None => {}
        }
    }

    fn tell_up(&self, target: &Target) {
        let (pool, id) = (&target.pool, &target.id);
        tracing::info!(%pool, target = %id, "a target answers its checks: it takes streams");
        self.state.events.emit(&Event::TargetUp(TargetUp {
            pool: pool.clone(),
            target: id.clone(),
        }));
    }

    fn tell_down(&self, target: &Target, error: Option<String>) {
        let (pool, id) = (&target.pool, &target.id);
        let error = error.unwrap_or_default();
        tracing::warn!(%pool, target = %id, %error, "a target fails its checks: it gets no streams until they are good");
        self.state.events.emit(&Event::TargetDown(TargetDown {
            pool: pool.clone(),
            target: id.clone(),
            reason: TargetDownReason::Checks,
            failures: target.rhythm.fall,
        }));
    }

    /// Takes over the pools in force.
    fn follow(&mut self) {
        let view = self.state.pools.view();
        let now = self.state.pools.now();
        let wanted = self.wanted(&view);
        let gone: Vec<u32> = self
            .targets
            .keys()
            .filter(|number| !wanted.contains_key(number))
            .copied()
            .collect();
        for number in gone {
            if let Some(target) = self.forget(number)
                && !target.is_recovery
            {
                // Nobody would find that it is up again; a source that says otherwise has said so before.
                self.release(&view, &target);
            }
        }
        let known: HashSet<Name> = self.targets.values().map(|one| one.pool.clone()).collect();
        for (number, target) in wanted {
            if target.is_recovery {
                let unit = random_unit();
                let state = Checked::Down;
                self.schedule
                    .add_later(number, target.rhythm, state, now, unit);
            } else {
                let is_new = !self.targets.contains_key(&number);
                if is_new && self.has_begun && known.contains(&target.pool) {
                    // It is to show first that it is good, beside others that are.
                    target.member.set_checked(Checked::Down, now);
                }
                let state = target.member.checked();
                self.schedule.add(number, target.rhythm, state, now);
            }
            self.targets.insert(number, Rc::new(target));
        }
        self.has_begun = true;
    }

    fn release(&self, view: &PoolsView, target: &Target) {
        let now = self.state.pools.now();
        let number = target.member.number();
        let is_healthy = view.pool(&target.pool).is_some_and(|pool| {
            let place = pool.live.plan.place_of(number);
            let destination = place.and_then(|place| pool.live.destinations.get(place));
            destination.is_some_and(|destination| destination.is_healthy)
        });
        if is_healthy {
            target.member.set_checked(Checked::Up, now);
        }
    }

    /// The targets that are to be checked, by number.
    fn wanted(&mut self, view: &PoolsView) -> HashMap<u32, Target> {
        let headers = self.headers();
        let mut wanted = HashMap::new();
        let mut portless = HashSet::new();
        for live in view.all() {
            let header = headers.get(&live.name).copied().unwrap_or_default();
            let entries = live.plan.entries().iter().zip(&live.destinations);
            for (entry, destination) in entries {
                if !is_to_be_checked(live, entry, destination) {
                    continue;
                }
                let target = Target::new(live, entry, destination, header);
                match target {
                    Some(target) => {
                        wanted.insert(entry.member.number(), target);
                    }
                    None if live.config.check.is_some() => {
                        portless.insert((live.name.clone(), destination.id.clone()));
                    }
                    None => {}
                }
            }
        }
        for (pool, target) in portless.difference(&self.portless) {
            tracing::warn!(%pool, %target, "a target has no port to check: give it one, or give check.port");
        }
        self.portless = portless;
        wanted
    }

    /// What ports that name a pool send ahead, by pool: the first port's word, in the order of the edges.
    fn headers(&self) -> HashMap<Name, Header> {
        let registry = self.state.registry();
        let mut edges: Vec<_> = registry.all().collect();
        edges.sort_by(|one, other| one.id.cmp(&other.id));
        let mut headers: HashMap<Name, Header> = HashMap::new();
        for edge in edges {
            for (pool, header) in edge.tcp.pools_and_headers() {
                let known = headers.entry(pool.name.clone()).or_default();
                known.tcp.get_or_insert_with(|| said(pool, header));
            }
            for (pool, header) in edge.udp.pools_and_headers() {
                let known = headers.entry(pool.name.clone()).or_default();
                known.udp.get_or_insert_with(|| said(pool, header));
            }
        }
        headers
    }
}

fn said<P>(pool: &PoolOfPort, header: P) -> (P, bool) {
    (header, pool.says_header)
}

/// What ports send ahead, and whether they say so themselves.
#[derive(Clone, Copy, Default)]
struct Header {
    tcp: Option<(TcpProxyProtocol, bool)>,
    udp: Option<(UdpProxyProtocol, bool)>,
}

fn is_to_be_checked(live: &LivePool, entry: &Entry, destination: &Destination) -> bool {
    if !destination.is_healthy {
        return false;
    }
    let is_open = entry.member.phase() != Phase::Closed;
    live.config.check.is_some() || is_open && live.config.recovery_interval_secs > 0
}

impl Target {
    /// None: it has no port.
    fn new(
        live: &LivePool,
        entry: &Entry,
        destination: &Destination,
        ports: Header,
    ) -> Option<Self> {
        let check = live.config.check.as_ref();
        let own = check.and_then(|check| check.port).map(|port| port.get());
        let recovery = Duration::from_secs(live.config.recovery_interval_secs.into());
        Some(Self {
            pool: live.name.clone(),
            id: destination.id.clone(),
            member: entry.member.clone(),
            host: destination.host.clone(),
            port: own.or(destination.port)?,
            kind: check.map_or(ProbeKind::Tcp, |check| {
                kind(check, destination, ports.udp(check, destination))
            }),
            header: check.map_or(&[], |check| header(check, destination, ports)),
            timeout: check.map_or(RECOVERY_TIMEOUT, |check| {
                Duration::from_secs(check.timeout_secs.get().into())
            }),
            rhythm: check.map_or_else(|| Rhythm::recovery(recovery), rhythm),
            is_recovery: check.is_none(),
        })
    }
}

impl Header {
    /// The header of a TCP connection.
    fn tcp(self, check: &CheckConfig, destination: &Destination) -> TcpProxyProtocol {
        let of_port = self.tcp.map(|of_port| destination.header(of_port));
        check
            .proxy_protocol
            .or(of_port)
            .unwrap_or(TcpProxyProtocol::None)
    }

    /// The header of a flow.
    fn udp(self, check: &CheckConfig, destination: &Destination) -> UdpProxyProtocol {
        let of_port = self.udp.map(|of_port| destination.header(of_port));
        let own = check.proxy_protocol.map(UdpProxyProtocol::from);
        own.or(of_port).unwrap_or(UdpProxyProtocol::None)
    }
}

fn kind(check: &CheckConfig, destination: &Destination, header: UdpProxyProtocol) -> ProbeKind {
    match check.kind {
        CheckKind::Tcp => ProbeKind::Tcp,
        CheckKind::Http => ProbeKind::Http(HttpProbe {
            host: check
                .host
                .as_ref()
                .unwrap_or(&destination.host)
                .as_str()
                .to_owned(),
            path: check.path.clone().unwrap_or_else(|| "/".to_owned()),
            statuses: check.status.clone().unwrap_or_default().0,
            text: check.text.clone().unwrap_or_default().into_bytes(),
        }),
        CheckKind::Udp => ProbeKind::Udp(UdpProbe {
            send: check.send.clone().map(|bytes| bytes.0).unwrap_or_default(),
            expect: check
                .expect
                .clone()
                .map(|bytes| bytes.0)
                .unwrap_or_default(),
            proxy_protocol: header,
        }),
    }
}

/// The header that goes ahead: that of the hub itself, which names no client.
fn header(check: &CheckConfig, destination: &Destination, ports: Header) -> &'static [u8] {
    if check.kind == CheckKind::Udp {
        return match ports.udp(check, destination) {
            UdpProxyProtocol::None => &[],
            UdpProxyProtocol::FirstDatagram | UdpProxyProtocol::EveryDatagram => V2_LOCAL,
        };
    }
    match ports.tcp(check, destination) {
        TcpProxyProtocol::None => &[],
        TcpProxyProtocol::V1 => V1_UNKNOWN,
        TcpProxyProtocol::V2 => V2_LOCAL,
    }
}

fn rhythm(check: &CheckConfig) -> Rhythm {
    let interval = Duration::from_secs(check.interval_secs.get().into());
    Rhythm {
        interval,
        fast_interval: interval.min(FAST),
        rise: check.rise.get().into(),
        fall: check.fall.get().into(),
    }
}

async fn look(target: &Target, resolver: &TargetResolver) -> Result<Duration, CheckError> {
    let deadline = Instant::now() + target.timeout;
    let resolved = resolver.resolve(target.host.bare(), target.port, Instant::now());
    let addresses = timeout_at(deadline, resolved)
        .await
        .map_err(|_| CheckError::Late)??;
    Ok(probe(&target.kind, &addresses, target.header, deadline).await?)
}

/// Spreads times; nobody may guess them, but it harms nobody.
fn random_unit() -> f64 {
    unit(u64::from_ne_bytes(random::bytes()))
}
