//! Every way through the entrance, with the hub's registry, guard and counts as the acceptor, in virtual time.

use super::guard::{Guard, Refusal as GuardRefusal};
use super::*;
use crate::any_instant;
use crate::hub::registry::{Applicant, NewSession, Registry};
use crate::refusals::Refusals;
use remoteingress_config::reasons::DialledBy;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_config::{HubLimits, parse_edges};
use remoteingress_proto::handshake::{
    EdgeHandshake, Hello, HubEpoch, HubHandshake, HubProgress, PROTOCOL_VERSION, ProofKeys,
    Transport,
};
use remoteingress_proto::token::secret::Secret;
use serde_json::json;
use std::time::UNIX_EPOCH;

#[test]
fn a_proof_that_holds_is_admitted_and_forgives_earlier_failures() {
    let mut hub = Hub::with_edge();
    for _ in 0..4 {
        hub.wrong_proof("a");
    }
    let admitted = hub.arrive(1);
    assert_eq!(admitted.last, Step::Admitted(0));
    for _ in 0..4 {
        hub.wrong_proof("a");
    }
    assert_eq!(hub.guard.admit(hub.now, peer().ip()), Ok(()));
    assert_eq!(hub.counted(), [("authFailed", 8)]);
}

#[test]
fn wrong_secret_unknown_edge_and_removed_edge_look_alike() {
    let mut hub = Hub::with_edge();
    hub.allow(json!([{"id": "a", "secret": SECRET}, {"id": "gone", "secret": SECRET}]));
    hub.allow(json!([{"id": "a", "secret": SECRET}]));
    let answers: Vec<Vec<u8>> = [("a", "wrong"), ("nobody", SECRET), ("gone", SECRET)]
        .map(|(id, secret)| {
            let error = hub.handshake(&hello(id, 1), secret).unwrap_err();
            let (actions, _) = hub.refused(&error);
            let [Action::CountFailure(_), Action::Refuse(refusal)] = &actions[..] else {
                panic!("{actions:?}")
            };
            assert_eq!(refusal.event, Some(event(id, "authFailed")));
            refusal.answer.expect("an answer").message()
        })
        .into();
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
    assert_eq!(hub.counted(), [("authFailed", 3)]);
}

#[test]
fn five_wrong_proofs_block_the_id_at_its_address_and_no_other() {
    let mut hub = Hub::with_edge();
    for _ in 0..5 {
        hub.wrong_proof("old");
    }
    let address = peer().ip();
    let left = hub.guard.blocked(hub.now, address, &edge("old"));
    assert_eq!(left, Some(Duration::from_secs(60)));
    assert_eq!(hub.guard.admit(hub.now, address), Ok(()));
    assert_eq!(hub.guard.blocked(hub.now, address, &edge("a")), None);
    assert_eq!(hub.arrive(1).last, Step::Admitted(0));
}

#[test]
fn a_blocked_peer_is_asked_to_come_back_and_counts_no_failure() {
    let mut hub = Hub::with_edge();
    for (left, retry_after) in [(60, 15), (3, 3)] {
        let mut blocked = Arrived::of(hub.entrance(), &hello("old", 1));
        blocked.entrance.handle_blocked(Duration::from_secs(left));
        let overloaded = Refused {
            code: RefuseCode::Overloaded,
            retry_after: Some(Duration::from_secs(retry_after)),
        };
        assert_eq!(
            hub.carry_out(&mut blocked),
            [Action::Refuse(Refusal {
                reason: GuardRefusal::Blocked.into(),
                answer: Some(overloaded),
                event: None,
            })]
        );
    }
    assert_eq!(hub.counted(), [("maxAuthFailuresPerIp", 2)]);
}

#[test]
fn before_the_acceptor_knows_its_edges_peers_come_again_soon_and_arent_blocked() {
    let mut hub = Hub::new();
    for _ in 0..20 {
        let error = hub.handshake(&hello("a", 1), SECRET).unwrap_err();
        let (actions, _) = hub.refused(&error);
        let overloaded = Refused {
            code: RefuseCode::Overloaded,
            retry_after: Some(Duration::from_millis(500)),
        };
        assert_eq!(
            actions,
            [Action::Refuse(Refusal {
                reason: Reason::NotReady,
                answer: Some(overloaded),
                event: None,
            })]
        );
    }
    assert_eq!(hub.counted(), [("notReady", 20)]);
    assert_eq!(hub.guard.admit(hub.now, peer().ip()), Ok(()));
}

#[test]
fn another_version_and_a_missing_feature_are_told_to_an_edge_whose_proof_held() {
    let mut hub = Hub::with_edge();
    let mut old = hello("a", 1);
    old.protocol_version = PROTOCOL_VERSION + 1;
    let error = hub.handshake(&old, SECRET).unwrap_err();
    let (actions, _) = hub.refused(&error);
    assert_eq!(
        actions,
        [refuse("unsupportedVersion", RefuseCode::UnsupportedVersion)]
    );

    let mut demanding = hello("a", 1);
    demanding.required = Features::from_bits(1 << 40);
    let arrived = hub.arrive_with(&demanding);
    assert_eq!(
        arrived.actions,
        [refuse("unsupportedFeature", RefuseCode::UnsupportedFeature)]
    );
    let counted = [("unsupportedFeature", 1), ("unsupportedVersion", 1)];
    assert_eq!(hub.counted(), counted);
}

#[test]
fn junk_gets_no_answer_and_names_no_edge() {
    let mut hub = Hub::with_edge();
    for error in [
        HandshakeError::Malformed("junk"),
        HandshakeError::UnknownKind(99),
        HandshakeError::TooLong(5_000),
        HandshakeError::HubProofFailed,
    ] {
        let (actions, _) = hub.refused(&error);
        let [Action::Refuse(refusal)] = &actions[..] else {
            panic!("{actions:?}")
        };
        assert_eq!(
            (refusal.reason, refusal.answer),
            (TunnelRefusalReason::Protocol.into(), None)
        );
        let event = refusal.event.as_ref().expect("an event");
        assert_eq!(
            (event.edge.as_ref(), event.reason),
            (None, TunnelRefusalReason::Protocol)
        );
    }
    assert_eq!(hub.counted(), [("protocol", 4)]);
}

#[test]
fn a_conflict_that_is_answered_keeps_the_newcomer_out() {
    let mut hub = Hub::with_edge();
    let session = hub.connect(1);
    let mut arrived = hub.arrive(2);
    assert_eq!(arrived.last, Step::Pinging(vec![(0, session)]));
    let until = hub.now + PING_TIMEOUT;
    assert_eq!(arrived.entrance.poll_timeout(), Some(until));
    hub.now += Duration::from_secs(2);
    arrived.entrance.handle_pong();
    let actions = hub.carry_out(&mut arrived);
    let Some(Action::Refuse(refusal)) = actions.last() else {
        panic!("{actions:?}")
    };
    let expected = RefusedPeer {
        other: Some(home()),
        ..event("a", "instanceConflict")
    };
    assert_eq!(refusal.event, Some(expected));
    assert_eq!(hub.counted(), [("instanceConflict", 1)]);
    assert_eq!(hub.registry.connected().count(), 1);
}

#[test]
fn a_conflict_that_is_not_answered_is_evicted_and_the_newcomer_asked_about_again() {
    let mut hub = Hub::with_edge();
    hub.connect(1);
    let mut arrived = hub.arrive(2);
    hub.now += PING_TIMEOUT - Duration::from_millis(1);
    arrived.entrance.handle_timeout(hub.now);
    assert_eq!(arrived.entrance.poll_action().map(name), None);
    hub.now += Duration::from_millis(1);
    assert_eq!(arrived.entrance.poll_timeout(), Some(hub.now));
    arrived.entrance.handle_timeout(hub.now);
    let actions = hub.carry_out(&mut arrived);
    let names: Vec<&str> = actions.into_iter().map(name).collect();
    assert_eq!(names, ["evict", "decide", "admit"]);
    assert_eq!(hub.registry.connected().count(), 0);
    // An answer that comes now changes nothing.
    arrived.entrance.handle_pong();
    assert_eq!(arrived.entrance.poll_action().map(name), None);
}

#[test]
fn sessions_that_are_gone_are_not_waited_for() {
    let mut hub = Hub::with_edge();
    hub.connect(1);
    let mut arrived = hub.arrive(2);
    arrived.entrance.handle_pings_lost();
    let actions = hub.carry_out(&mut arrived);
    let names: Vec<&str> = actions.into_iter().map(name).collect();
    assert_eq!(names, ["evict", "decide", "admit"]);
}

#[test]
fn an_answer_is_waited_for_by_the_round_trip_and_never_too_shortly() {
    let wait = |millis| ping_timeout(Some(Duration::from_millis(millis))).as_millis();
    assert_eq!([wait(0), wait(80), wait(2_000)], [500, 800, 3_000]);
    assert_eq!(ping_timeout(None), PING_TIMEOUT);
}

#[test]
fn of_two_newcomers_at_once_the_second_meets_the_first() {
    let mut hub = Hub::with_edge();
    hub.connect(1);
    let (mut second, mut third) = (hub.arrive(2), hub.arrive(3));
    hub.now += PING_TIMEOUT;
    second.entrance.handle_timeout(hub.now);
    hub.carry_out(&mut second);
    assert_eq!(second.last, Step::Admitted(0));
    let session = hub.connect(2);
    third.entrance.handle_timeout(hub.now);
    hub.carry_out(&mut third);
    // The instance that the third was to evict is gone already: the one that came in meanwhile is asked now.
    assert_eq!(third.last, Step::Pinging(vec![(0, session)]));
    let until = hub.now + PING_TIMEOUT;
    assert_eq!(third.entrance.poll_timeout(), Some(until));
    assert_eq!(hub.registry.connected().count(), 1);
    third.entrance.handle_pong();
    hub.carry_out(&mut third);
    assert_eq!(third.last, Step::Refused("instanceConflict"));
}

#[test]
fn too_many_sessions_a_drain_and_an_edge_that_changed_meanwhile_are_refused() {
    let mut hub = Hub::with_edge();
    let mut beyond = hello("a", 1);
    beyond.session_ordinal = 4;
    let arrived = hub.arrive_with(&beyond);
    assert_eq!(
        arrived.actions[2..],
        [refuse("tooManySessions", RefuseCode::TooManySessions)]
    );
    hub.registry.draining = true;
    assert_eq!(hub.arrive(1).last, Step::Refused("draining"));
    hub.registry.draining = false;
    // The proof held, and the edge was removed before it was decided on: that is no wrong proof.
    let proven = hello("a", 1);
    hub.allow(json!([]));
    let arrived = hub.arrive_with(&proven);
    let names: Vec<&str> = arrived.actions.into_iter().map(name).collect();
    assert_eq!(names, ["forgetFailures", "decide", "refuse"]);
    let counted = [("authFailed", 1), ("draining", 1), ("tooManySessions", 1)];
    assert_eq!(hub.counted(), counted);
}

#[test]
fn the_deadline_ends_a_handshake_a_wait_for_pongs_and_a_goodbye() {
    let mut hub = Hub::with_edge();
    let timeout = Duration::from_secs(10);
    let mut silent = hub.entrance();
    assert_eq!(silent.poll_timeout(), Some(hub.now + timeout));
    silent.handle_timeout(hub.now + timeout - Duration::from_millis(1));
    assert_eq!(silent.poll_action().map(name), None);
    silent.handle_timeout(hub.now + timeout);
    assert_eq!(
        silent.poll_action(),
        Some(Action::Abandon(Reason::HandshakeTimeout))
    );
    assert_eq!(silent.poll_timeout(), None);
    silent.handle_timeout(hub.now + timeout);
    assert_eq!(silent.poll_action().map(name), None);

    hub.connect(1);
    let (begun, mut late) = (hub.now, hub.entrance());
    hub.now += Duration::from_secs(8);
    late.handle_authenticated(&edge("a"), Features::NONE.offered());
    let mut late = Arrived::of(late, &hello("a", 2));
    hub.carry_out(&mut late);
    assert_eq!(late.entrance.poll_timeout(), Some(begun + timeout));
    late.entrance.handle_timeout(begun + timeout);
    assert_eq!(
        late.entrance.poll_action(),
        Some(Action::Abandon(Reason::HandshakeTimeout))
    );
    assert_eq!(hub.registry.connected().count(), 1);

    hub.registry.draining = true;
    let mut refused = hub.arrive(1);
    refused.entrance.handle_timeout(hub.now + timeout);
    assert_eq!(
        refused.entrance.poll_action(),
        Some(Action::Abandon(Reason::HandshakeTimeout))
    );
}

#[test]
fn without_a_limit_a_handshake_still_ends_after_a_minute() {
    let now = any_instant();
    let terms = Terms {
        handshake_timeout: None,
        offer: FeatureOffer::default(),
    };
    let entrance = Entrance::<usize>::new(now, peer(), terms);
    assert_eq!(entrance.deadline(), now + Duration::from_secs(60));
}

#[test]
fn a_connection_that_breaks_is_counted_once() {
    let mut entrance = Hub::with_edge().entrance();
    entrance.handle_failure(Failure::Broken);
    entrance.handle_failure(Failure::TimedOut);
    assert_eq!(
        entrance.poll_action(),
        Some(Action::Abandon(Reason::HandshakeFailed))
    );
    assert_eq!(entrance.poll_action().map(name), None);
}

const SECRET: &str = "0123456789abcdef";
const EKM: [u8; 32] = [9; 32];

struct Hub {
    now: Instant,
    registry: Registry,
    guard: Guard,
    refusals: Refusals<HubRefusalReason>,
}

/// A peer on its way in, with the actions that were carried out when it came.
struct Arrived {
    entrance: Entrance<usize>,
    hello: Hello,
    actions: Vec<Action<usize>>,
    last: Step,
}

/// State of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Begun,
    Pinging(Vec<(usize, SessionId)>),
    /// To this worker.
    Admitted(usize),
    Refused(&'static str),
}

impl Arrived {
    fn of(entrance: Entrance<usize>, hello: &Hello) -> Self {
        Self {
            entrance,
            hello: hello.clone(),
            actions: Vec::new(),
            last: Step::Begun,
        }
    }
}

impl Hub {
    /// A hub that hasn't been told its edges.
    fn new() -> Self {
        let now = any_instant();
        Self {
            now,
            registry: Registry::new(HubEpoch([7; 16]), 4, 100),
            guard: Guard::new((&HubLimits::default()).into(), now),
            refusals: Refusals::default(),
        }
    }

    fn with_edge() -> Self {
        let mut hub = Self::new();
        hub.allow(json!([{"id": "a", "secret": SECRET}]));
        hub
    }

    fn allow(&mut self, edges: serde_json::Value) {
        let edges = parse_edges(&json!({ "edges": edges }), false).unwrap();
        self.registry.update(edges);
    }

    fn entrance(&self) -> Entrance<usize> {
        let terms = Terms {
            handshake_timeout: HubLimits::default().handshake_timeout,
            offer: Features::RESUME.offered(),
        };
        Entrance::new(self.now, peer(), terms)
    }

    /// The real handshake over a made-up connection.
    fn handshake(&self, hello: &Hello, secret: &str) -> Result<(), HandshakeError> {
        let (_, message) = EdgeHandshake::new(hello, keys(secret), &EKM, Transport::TcpTls)?;
        let hub = HubHandshake::new(&EKM, Transport::TcpTls);
        let progress = hub.handle(&message, |edge| self.registry.candidates(edge))?;
        assert!(matches!(progress, HubProgress::Authenticated { .. }));
        Ok(())
    }

    fn refused(&mut self, error: &HandshakeError) -> (Vec<Action<usize>>, Step) {
        assert_eq!(self.guard.admit(self.now, peer().ip()), Ok(()));
        let mut arrived = Arrived::of(self.entrance(), &hello("a", 1));
        let knows_edges = self.registry.is_told;
        arrived.entrance.handle_handshake_error(error, knows_edges);
        let actions = self.carry_out(&mut arrived);
        self.guard.release(peer().ip());
        (actions, arrived.last)
    }

    fn wrong_proof(&mut self, id: &str) {
        let error = self.handshake(&hello(id, 1), "wrong").unwrap_err();
        let (_, last) = self.refused(&error);
        assert_eq!(last, Step::Refused("authFailed"));
    }

    fn arrive(&mut self, instance: u8) -> Arrived {
        let hello = hello("a", instance);
        assert_eq!(self.handshake(&hello, SECRET), Ok(()));
        self.arrive_with(&hello)
    }

    /// A peer whose proof held.
    fn arrive_with(&mut self, hello: &Hello) -> Arrived {
        let mut arrived = Arrived::of(self.entrance(), hello);
        let id = &hello.edge_id;
        arrived.entrance.handle_authenticated(id, hello.offer());
        arrived.actions = self.carry_out(&mut arrived);
        arrived
    }

    /// The shell without its connection.
    fn carry_out(&mut self, arrived: &mut Arrived) -> Vec<Action<usize>> {
        let mut actions = Vec::new();
        while let Some(action) = arrived.entrance.poll_action() {
            match &action {
                Action::CountFailure(claimed) => {
                    self.guard.failed(self.now, peer().ip(), claimed.as_ref());
                }
                Action::ForgetFailures(edge) => {
                    self.guard.succeeded(self.now, peer().ip(), edge);
                }
                Action::Decide => {
                    let decision = self.decide(&arrived.hello);
                    arrived.entrance.handle_decision(self.now, decision);
                }
                Action::Ping(sessions) => arrived.last = Step::Pinging(sessions.clone()),
                Action::Evict { instance } => {
                    self.registry.evict(&arrived.hello.edge_id, *instance);
                }
                Action::Admit(worker) => arrived.last = Step::Admitted(*worker),
                Action::Refuse(refusal) => {
                    self.refusals.count(refusal.reason);
                    arrived.last = Step::Refused(HubRefusalReason::from(refusal.reason).as_str());
                }
                Action::Abandon(reason) => self.refusals.count(*reason),
            }
            actions.push(action);
        }
        actions
    }

    fn decide(&self, hello: &Hello) -> Decision<usize> {
        let applicant = Applicant {
            edge: &hello.edge_id,
            keys: &keys(SECRET),
            instance: hello.instance,
            ordinal: hello.session_ordinal,
            resume: None,
            replaces_instance: false,
        };
        match Decision::from(self.registry.admit(&applicant, &[0])) {
            Decision::Admit(place) => Decision::Admit(place.worker),
            Decision::Refuse(code) => Decision::Refuse(code),
            Decision::Conflict(conflict) => Decision::Conflict(conflict),
        }
    }

    /// Makes a live session of this instance.
    fn connect(&mut self, instance: u8) -> SessionId {
        let id = SessionId([instance; 16]);
        let new = NewSession {
            id,
            worker: 0,
            ordinal: 0,
            instance: InstanceId([instance; 16]),
            replaces_instance: false,
            keys: keys(SECRET),
            address: home(),
            transport: Transport::TcpTls,
            dialled_by: DialledBy::Edge,
            version: "1".to_owned(),
            features: Features::RESUME,
        };
        let registry = &mut self.registry;
        registry.session_made(&edge("a"), new).expect("a place");
        registry.session_up(&edge("a"), id, home(), UNIX_EPOCH);
        id
    }

    fn counted(&self) -> Vec<(&'static str, u64)> {
        let counts = self.refusals.snapshot().into_iter();
        let mut named: Vec<_> = counts
            .map(|(reason, count)| (reason.as_str(), count))
            .collect();
        named.sort_unstable();
        named
    }
}

trait Offered {
    fn offered(self) -> FeatureOffer;
}

impl Offered for Features {
    /// Nothing is required.
    fn offered(self) -> FeatureOffer {
        FeatureOffer {
            required: Self::NONE,
            optional: self,
        }
    }
}

fn name(action: Action<usize>) -> &'static str {
    match action {
        Action::CountFailure(_) => "countFailure",
        Action::ForgetFailures(_) => "forgetFailures",
        Action::Decide => "decide",
        Action::Ping(_) => "ping",
        Action::Evict { .. } => "evict",
        Action::Admit(_) => "admit",
        Action::Refuse(_) => "refuse",
        Action::Abandon(_) => "abandon",
    }
}

fn refuse(reason: &str, code: RefuseCode) -> Action<usize> {
    Action::Refuse(Refusal {
        reason: code.into(),
        answer: Some(Refused::new(code)),
        event: Some(event("a", reason)),
    })
}

fn event(id: &str, reason: &str) -> RefusedPeer {
    RefusedPeer {
        edge: Some(edge(id)),
        address: peer(),
        reason: TunnelRefusalReason::from_text(reason).expect("a reason"),
        other: None,
    }
}

fn hello(id: &str, instance: u8) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        edge_id: edge(id),
        instance: InstanceId([instance; 16]),
        session_ordinal: 0,
        required: Features::NONE,
        optional: Features::RESUME,
        resume: None,
        initial_credit: 65_536,
        replaces_instance: false,
        resume_timeout_secs: None,
        sessions_wanted: None,
        version: "1".to_owned(),
    }
}

fn keys(secret: &str) -> ProofKeys {
    ProofKeys::derive(&Secret::new(secret.to_owned()))
}

fn edge(id: &str) -> EdgeId {
    EdgeId::new(id).unwrap()
}

/// Address that newcomers come from.
fn peer() -> SocketAddr {
    "192.0.2.1:5000".parse().unwrap()
}

/// Address of the edge that is connected.
fn home() -> SocketAddr {
    "198.51.100.1:5000".parse().unwrap()
}
