use super::*;
use remoteingress_config::parse_edges;
use remoteingress_config::reasons::DialledBy;
use remoteingress_proto::control::{ApplyRefusal, PortStatus, RefusalCode};
use remoteingress_proto::token::secret::Secret;
use remoteingress_proto::wire::header::Protocol;
use serde_json::{Value, json};

mod left_out;

fn allowed(edges: Value) -> Vec<AllowedEdge> {
    parse_edges(&json!({ "edges": edges }), false).unwrap()
}

fn registry(edges: Value) -> Registry {
    let mut registry = Registry::new(HubEpoch([7; 16]), 4, 100);
    registry.update(allowed(edges));
    registry
}

fn keys(secret: &str) -> ProofKeys {
    ProofKeys::derive(&Secret::new(secret.to_owned()))
}

fn edge(id: &str) -> EdgeId {
    EdgeId::new(id).unwrap()
}

fn address() -> SocketAddr {
    "192.0.2.1:5000".parse().unwrap()
}

/// Makes a live session and gives what follows.
fn connect(
    registry: &mut Registry,
    id: &str,
    secret: &str,
    instance: u8,
    ordinal: u16,
) -> (SessionId, Vec<Action>) {
    let session = SessionId([instance * 16 + u8::try_from(ordinal).unwrap(); 16]);
    let new = new_session(session, secret, instance, ordinal);
    let (_, mut actions) = registry.session_made(&edge(id), new).expect("known edge");
    actions.extend(registry.session_up(&edge(id), session, address(), UNIX_EPOCH));
    (session, actions)
}

fn new_session(id: SessionId, secret: &str, instance: u8, ordinal: u16) -> NewSession {
    NewSession {
        id,
        worker: ordinal.into(),
        ordinal,
        instance: InstanceId([instance; 16]),
        replaces_instance: false,
        keys: keys(secret),
        address: address(),
        transport: Transport::TcpTls,
        dialled_by: DialledBy::Edge,
        version: "1".to_owned(),
        features: Features::RESUME.union(Features::DATAGRAM),
    }
}

fn admit(
    registry: &mut Registry,
    id: &str,
    secret: &str,
    instance: u8,
    resume: Option<SessionId>,
) -> Admission {
    let applicant = Applicant {
        edge: &edge(id),
        keys: &keys(secret),
        instance: InstanceId([instance; 16]),
        ordinal: 0,
        resume,
        replaces_instance: false,
    };
    registry.admit(&applicant, &[3, 1, 2])
}

/// The kind of each action, without its contents.
fn kinds(actions: &[Action]) -> Vec<&'static str> {
    let kind = |action: &Action| match action {
        Action::SendConfig { .. } => "config",
        Action::ChangeAllowedEdge { .. } => "allowed",
        Action::Cut { .. } => "cut",
        Action::Connected { .. } => "connected",
        Action::Disconnected { .. } => "disconnected",
        Action::PortsApplied { .. } => "applied",
        Action::UdpLeftOut { .. } => "udpLeftOut",
        Action::SharedPortsLeftOut { .. } => "sharedPortsLeftOut",
        Action::PortsLeftOut { .. } => "portsLeftOut",
        Action::ConfigRefused { .. } => "configRefused",
    };
    actions.iter().map(kind).collect()
}

#[test]
fn draining_instances_go_on_beside_their_successors_but_not_many_of_them() {
    let mut registry = registry(json!([{"id": "a", "secret": "0123456789abcdef"}]));
    for instance in 1..=4 {
        let (session, actions) = connect(&mut registry, "a", "0123456789abcdef", instance, 0);
        let cut = actions.iter().find_map(|action| {
            if let Action::Cut { session, .. } = action {
                Some(*session)
            } else {
                None
            }
        });
        let oldest = (instance == 4).then_some(SessionId([16; 16]));
        assert_eq!(cut, oldest, "at instance {instance}");
        registry.session_leaving(&edge("a"), session);
    }
    let (_, actions) = registry.update(Vec::new());
    let cut = actions.iter().filter(|a| matches!(a, Action::Cut { .. }));
    assert_eq!(cut.count(), 3);
}

#[test]
fn of_two_instances_that_were_let_in_together_the_first_stays() {
    let mut registry = registry(json!([{"id": "a", "secret": "0123456789abcdef"}]));
    let made = |registry: &mut Registry, instance: u8| {
        let id = SessionId([instance; 16]);
        let new = new_session(id, "0123456789abcdef", instance, 0);
        registry.session_made(&edge("a"), new).is_some()
    };
    assert!(made(&mut registry, 1));
    assert!(!made(&mut registry, 2));
    // It never came up: the place is free again.
    registry.session_down(&edge("a"), SessionId([1; 16]), "gave up");
    assert!(made(&mut registry, 2));
}

#[test]
fn an_edge_is_told_its_ports_once_on_its_lowest_live_session() {
    let mut registry = registry(json!([{"id": "a", "secret": "s", "listenPorts": [80, 81]}]));
    let (second, actions) = connect(&mut registry, "a", "s", 1, 1);
    assert_eq!(kinds(&actions), ["connected", "config"]);
    let (_, actions) = connect(&mut registry, "a", "s", 1, 0);
    let Some(Action::SendConfig { worker, config, .. }) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        (*worker, config.generation, config.epoch),
        (0, 1, HubEpoch([7; 16]))
    );
    assert_eq!((config.ports[0].first, config.ports[0].last), (80, 81));
    assert_eq!(
        kinds(&registry.session_down(&edge("a"), second, "gone")),
        Vec::<&str>::new()
    );
}

#[test]
fn the_last_session_that_goes_disconnects_the_edge_and_the_first_to_return_connects_it() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}]));
    let (first, _) = connect(&mut registry, "a", "s", 1, 0);
    let (second, _) = connect(&mut registry, "a", "s", 1, 1);
    assert_eq!(
        kinds(&registry.session_down(&edge("a"), first, "x")),
        ["config"]
    );
    assert_eq!(
        kinds(&registry.session_down(&edge("a"), second, "x")),
        ["disconnected"]
    );
    assert_eq!(registry.connected().count(), 0);
    let admission = admit(&mut registry, "a", "s", 1, Some(second));
    assert!(
        matches!(admission, Admission::Yes { worker: 1, .. }),
        "{admission:?}"
    );
    let actions = registry.session_up(&edge("a"), second, address(), UNIX_EPOCH);
    assert_eq!(kinds(&actions), ["connected"]);
    assert_eq!(registry.connected().count(), 1);
}

#[test]
fn the_same_content_is_a_no_op() {
    let same = json!([{"id": "a", "secret": "s", "listenPorts": ["80-81"]}]);
    let mut registry = registry(same);
    connect(&mut registry, "a", "s", 1, 0);
    let (diff, actions) = registry.update(allowed(
        json!([{"id": "a", "secret": "s", "listenPorts": [81, 80]}]),
    ));
    assert_eq!((diff.unchanged, kinds(&actions)), (vec![edge("a")], vec![]));
}

#[test]
fn new_ports_are_a_new_generation_and_nothing_is_cut() {
    let mut registry = registry(json!([{"id": "a", "secret": "s", "listenPorts": [80]}]));
    connect(&mut registry, "a", "s", 1, 0);
    let new = allowed(json!([{"id": "a", "secret": "s", "listenPorts": [80, 443]}]));
    let (_, actions) = registry.update(new);
    assert_eq!(kinds(&actions), ["allowed", "config"]);
    let Some(Action::SendConfig { config, .. }) = actions.last() else {
        panic!()
    };
    assert_eq!((config.generation, config.ports.len()), (2, 2));
}

#[test]
fn another_target_reaches_the_sessions_and_a_removed_edge_is_cut() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}, {"id": "b", "secret": "s"}]));
    connect(&mut registry, "a", "s", 1, 0);
    connect(&mut registry, "a", "s", 1, 1);
    connect(&mut registry, "b", "s", 2, 0);
    let (diff, actions) = registry.update(allowed(json!([{"id": "b", "secret": "s"}])));
    assert_eq!(diff.removed, [edge("a")]);
    assert_eq!(kinds(&actions), ["cut", "cut", "disconnected"]);
    let refused = admit(&mut registry, "a", "s", 1, None);
    assert!(matches!(refused, Admission::No(RefuseCode::AuthFailed)));
    assert_eq!(registry.connected().count(), 1);
}

#[test]
fn a_changed_secret_cuts_and_a_rotated_one_doesnt() {
    let mut registry = registry(json!([{"id": "a", "secret": "old"}]));
    connect(&mut registry, "a", "old", 1, 0);
    let update = |registry: &mut Registry, edge: Value| {
        let mut kinds = kinds(&registry.update(allowed(json!([edge]))).1);
        kinds.sort_unstable();
        kinds
    };
    let next = json!({"id": "a", "secret": "old", "nextSecret": "new"});
    assert_eq!(update(&mut registry, next), ["allowed"]);
    connect(&mut registry, "a", "new", 1, 1);
    let rotated = json!({"id": "a", "secret": "new"});
    assert_eq!(update(&mut registry, rotated), ["allowed", "config", "cut"]);
    assert!(matches!(
        admit(&mut registry, "a", "old", 1, None),
        Admission::No(_)
    ));
    assert!(matches!(
        admit(&mut registry, "a", "new", 1, None),
        Admission::Yes { worker: 1, .. }
    ));
    let replaced = json!({"id": "a", "secret": "other"});
    assert_eq!(update(&mut registry, replaced), ["cut", "disconnected"]);
}

#[test]
fn a_second_instance_waits_for_the_first_to_die_or_be_replaced() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}]));
    let (session, _) = connect(&mut registry, "a", "s", 1, 0);
    let conflict = admit(&mut registry, "a", "s", 2, None);
    let Admission::Conflict {
        other,
        instance,
        sessions,
    } = conflict
    else {
        panic!("{conflict:?}")
    };
    assert_eq!(
        (other, instance, sessions),
        (address(), InstanceId([1; 16]), vec![(0, session)])
    );
    assert_eq!(
        kinds(&registry.evict(&edge("a"), instance)),
        ["cut", "disconnected"]
    );
    assert!(matches!(
        admit(&mut registry, "a", "s", 2, None),
        Admission::Yes { .. }
    ));

    let (session, _) = connect(&mut registry, "a", "s", 2, 0);
    registry.session_down(&edge("a"), session, "x");
    assert!(matches!(
        admit(&mut registry, "a", "s", 3, None),
        Admission::Yes { .. }
    ));
    let (_, actions) = connect(&mut registry, "a", "s", 3, 0);
    assert_eq!(kinds(&actions), ["cut", "connected", "config"]);
    // A session of another instance is not one's own to resume.
    let foreign = admit(&mut registry, "a", "s", 3, Some(session));
    assert!(
        matches!(foreign, Admission::Yes { worker: 1, .. }),
        "{foreign:?}"
    );
}

#[test]
fn a_draining_hub_takes_back_only_what_it_has() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}]));
    let (session, _) = connect(&mut registry, "a", "s", 1, 0);
    registry.draining = true;
    let fresh = admit(&mut registry, "a", "s", 1, None);
    assert!(matches!(fresh, Admission::No(RefuseCode::Draining)));
    let back = admit(&mut registry, "a", "s", 1, Some(session));
    assert!(matches!(back, Admission::Yes { worker: 0, .. }));
}

#[test]
fn sessions_of_one_edge_are_bounded() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}]));
    for ordinal in 0..8 {
        connect(&mut registry, "a", "s", 1, ordinal);
    }
    let ninth = admit(&mut registry, "a", "s", 1, None);
    assert!(matches!(ninth, Admission::No(RefuseCode::TooManySessions)));
}

#[test]
fn sessions_that_are_about_to_end_hold_no_successor_up_but_are_bounded() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}]));
    let mut let_in = 0;
    while let Admission::Yes { .. } = admit(&mut registry, "a", "s", 1, None) {
        let (session, _) = connect(&mut registry, "a", "s", 1, let_in);
        registry.session_leaving(&edge("a"), session);
        let_in += 1;
        assert!(let_in < 100, "no bound");
    }
    assert_eq!(let_in, 16);
}

#[test]
fn only_the_answer_to_the_current_generation_counts() {
    let mut registry = registry(json!([{"id": "a", "secret": "s", "listenPorts": [80]}]));
    connect(&mut registry, "a", "s", 1, 0);
    let applied = |epoch, generation| Applied {
        epoch: HubEpoch([epoch; 16]),
        generation,
        outcome: ApplyOutcome::Applied(vec![PortState {
            protocol: Protocol::Tcp,
            port: 80,
            address: None,
            status: PortStatus::Bound,
        }]),
    };
    assert_eq!(
        kinds(&registry.applied(&edge("a"), applied(6, 1))),
        Vec::<&str>::new()
    );
    assert_eq!(
        kinds(&registry.applied(&edge("a"), applied(7, 2))),
        Vec::<&str>::new()
    );
    assert_eq!(
        kinds(&registry.applied(&edge("a"), applied(7, 1))),
        ["applied"]
    );
    assert_eq!(registry.connected().next().unwrap().ports.len(), 1);
}

#[test]
fn sessions_that_come_before_any_stream_spread_over_the_workers() {
    let registry = registry(json!([{"id": "a", "secret": "s"}]));
    let worker_of = |registry: &Registry, ordinal| {
        let applicant = Applicant {
            edge: &edge("a"),
            keys: &keys("s"),
            instance: InstanceId([1; 16]),
            ordinal,
            resume: None,
            replaces_instance: false,
        };
        let admission = registry.admit(&applicant, &[0, 0, 0]);
        let Admission::Yes { worker, .. } = admission else {
            panic!("{admission:?}")
        };
        worker
    };
    // At once, when none of them is known yet.
    assert_eq!(
        [0, 1, 2, 3].map(|ordinal| worker_of(&registry, ordinal)),
        [0, 1, 2, 0]
    );
    // Other edges' sessions count, too.
    let mut registry = registry;
    connect(&mut registry, "a", "s", 1, 0);
    assert_eq!(worker_of(&registry, 0), 1);
}

#[test]
fn udp_ports_are_told_their_own_timeout_or_the_hubs() {
    let mut registry = registry(json!([{
        "id": "a", "secret": "s", "listenPorts": [80],
        "listenPortsUdp": [53, {"port": 500, "udpIdleTimeoutSecs": 600}],
    }]));
    registry.udp_idle = Some(Duration::from_secs(60));
    let id = SessionId([1; 16]);
    let mut new = new_session(id, "s", 1, 0);
    new.features = Features::DATAGRAM;
    registry.session_made(&edge("a"), new).expect("known edge");
    let actions = registry.session_up(&edge("a"), id, address(), UNIX_EPOCH);
    let Some(Action::SendConfig { config, .. }) = actions.last() else {
        panic!("no configuration: {actions:?}");
    };
    let told: Vec<_> = config.ports.iter().map(|port| port.udp_idle_secs).collect();
    assert_eq!(told, [None, Some(60), Some(600)]);
}

#[test]
fn an_edge_that_comes_back_goes_on_counting_its_generations() {
    let ports = |ports: &[u16]| json!([{"id": "a", "secret": "s", "listenPorts": ports}]);
    let mut registry = registry(ports(&[80]));
    registry.update(allowed(ports(&[81])));
    registry.update(allowed(json!([])));
    registry.update(allowed(ports(&[82])));
    let (_, actions) = connect(&mut registry, "a", "s", 1, 0);
    let told = actions.iter().find_map(|action| match action {
        Action::SendConfig { config, .. } => Some(config.generation),
        Action::UdpLeftOut { .. }
        | Action::SharedPortsLeftOut { .. }
        | Action::PortsLeftOut { .. }
        | Action::ChangeAllowedEdge { .. }
        | Action::Cut { .. }
        | Action::Connected { .. }
        | Action::Disconnected { .. }
        | Action::PortsApplied { .. }
        | Action::ConfigRefused { .. } => None,
    });
    assert_eq!(told, Some(3), "the edge may have applied generation 2");
}

#[test]
fn a_refusal_that_is_said_again_is_reported_once() {
    let mut registry = registry(json!([{"id": "a", "secret": "s", "listenPorts": [80]}]));
    connect(&mut registry, "a", "s", 1, 0);
    let refused = || Applied {
        epoch: HubEpoch([7; 16]),
        generation: 1,
        outcome: ApplyOutcome::Refused(ApplyRefusal {
            code: RefusalCode::InvalidConfig,
            message: "no".to_owned(),
        }),
    };
    let id = edge("a");
    let actions = registry.applied(&id, refused());
    assert_eq!(kinds(&actions), ["configRefused"]);
    assert_eq!(kinds(&registry.applied(&id, refused())), [""; 0]);
}

#[test]
fn a_change_sorts_edges_into_four_lists() {
    let mut registry = registry(json!([
        {"id": "same", "secret": "s", "listenPorts": ["80-81"]},
        {"id": "ports", "secret": "s", "listenPorts": [80]},
        {"id": "secret", "secret": "s"},
        {"id": "gone", "secret": "s"},
        {"id": "away", "secret": "s"},
    ]));
    let (change, _) = registry.update(allowed(json!([
        {"id": "new", "secret": "s"},
        {"id": "secret", "secret": "t"},
        {"id": "ports", "secret": "s", "listenPorts": [81]},
        {"id": "same", "secret": "s", "listenPorts": [81, 80]},
    ])));
    let expected = json!({"added": ["new"], "removed": ["away", "gone"], "changed": ["secret", "ports"], "unchanged": ["same"]});
    assert_eq!(json!(change), expected);
}

#[test]
fn edges_are_told_of_another_limit_of_streams_once() {
    let mut registry = registry(json!([{"id": "a", "secret": "s"}, {"id": "away", "secret": "s"}]));
    let (_, actions) = connect(&mut registry, "a", "s", 1, 0);
    assert_eq!(kinds(&actions), ["connected", "config"]);
    assert_eq!(
        kinds(&registry.set_limits(3, 100, None)),
        Vec::<&str>::new()
    );
    let actions = registry.set_limits(3, 7, None);
    let Some(Action::SendConfig { config, .. }) = actions.first() else {
        panic!("{actions:?}")
    };
    assert_eq!((config.generation, config.max_streams), (2, 7));
    assert_eq!(actions.len(), 1);
    assert_eq!(kinds(&registry.set_limits(3, 7, None)), Vec::<&str>::new());
}

#[test]
fn single_changes_touch_only_the_edges_that_they_name() {
    let mut registry = registry(json!([
        {"id": "a", "secret": "s", "listenPorts": [80]},
        {"id": "b", "secret": "s", "listenPorts": [81]},
    ]));
    connect(&mut registry, "a", "s", 1, 0);
    connect(&mut registry, "b", "s", 2, 0);

    let (change, actions) = registry.upsert(allowed(json!([
        {"id": "b", "secret": "s", "listenPorts": [82]},
        {"id": "c", "secret": "s"},
    ])));
    let expected = json!({"added": ["c"], "removed": [], "changed": ["b"], "unchanged": []});
    assert_eq!(json!(change), expected);
    assert_eq!(kinds(&actions), ["allowed", "config"]);

    let (removed, actions) = registry.remove(vec![edge("a"), edge("nobody")]);
    assert_eq!(
        json!(removed),
        json!({"removed": ["a"], "unknown": ["nobody"]})
    );
    assert_eq!(kinds(&actions), ["cut", "disconnected"]);
    let connected: Vec<_> = registry.connected().map(|edge| edge.id.clone()).collect();
    assert_eq!(connected, [edge("b")]);
}

#[test]
fn of_twenty_thousand_edges_one_is_changed() {
    let all = |port: u16| {
        let edges = (0..20_000).map(|n| {
            let port = if n == 10_000 { port } else { 80 };
            json!({"id": format!("edge-{n}"), "secret": "s", "listenPorts": [port, 443, 8080]})
        });
        allowed(edges.collect())
    };
    let mut registry = Registry::new(HubEpoch([7; 16]), 4, 100);
    assert_eq!(registry.update(all(80)).0.added.len(), 20_000);
    // The hub's sessions wait meanwhile: a list in which each edge is searched for would take 400 million comparisons.
    let (change, _) = registry.update(all(81));
    assert_eq!((change.changed.len(), change.unchanged.len()), (1, 19_999));
}
