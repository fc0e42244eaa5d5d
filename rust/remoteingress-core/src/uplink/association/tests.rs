//! Every way a session can go on after a loss, in virtual time.

use super::*;

const ENDS: Ends = Ends {
    own: "edge",
    peer: "hub",
};
const ID: SessionId = SessionId([7; 16]);
/// The time in which a session can be resumed in these tests.
const RESUME: Duration = Duration::from_secs(30);
/// The time for which clients wait for a session in these tests.
const PATIENCE: Duration = Duration::from_secs(5);

/// A session, and the time that has passed for it.
struct World {
    association: Association,
    start: Instant,
    now: Instant,
}

impl World {
    /// A session that is about to begin.
    fn new(transport: Transport) -> Self {
        let start = crate::any_instant();
        Self {
            association: Association::new(ENDS, transport, PATIENCE),
            start,
            now: start,
        }
    }

    /// One that the peer has let in a minute ago.
    fn live(transport: Transport) -> Self {
        let mut world = Self::new(transport);
        world.handle(welcome(transport, SessionOutcome::New));
        world.pass(Duration::from_secs(60));
        world
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn handle(&mut self, input: Input) -> Vec<Action> {
        self.handle_with(input, 1.0)
    }

    fn handle_with(&mut self, input: Input, random: f64) -> Vec<Action> {
        self.association.handle(input, self.now, random)
    }

    /// Its connection is lost while it carries a stream.
    fn lose(&mut self) -> Vec<Action> {
        let input = self.ended(lost_to("cut"));
        self.handle(input)
    }

    fn ended(&self, ending: Ending) -> Input {
        Input::Ended {
            ending,
            streams: 1,
            deadline: Some(self.now + RESUME),
        }
    }

    /// Lets the wait pass that ends these actions; gives its length.
    fn wait(&mut self, actions: &[Action]) -> Duration {
        let Some(Action::Wait { until }) = actions.last() else {
            panic!("{actions:?}")
        };
        let delay = until.saturating_duration_since(self.now);
        self.now += delay;
        delay
    }

    fn dials(&mut self) -> Dial {
        match *self.handle(Input::Due) {
            [Action::Tell(News::Reconnecting), Action::Dial(dial)] => dial,
            ref other => panic!("{other:?}"),
        }
    }
}

fn welcome(transport: Transport, outcome: SessionOutcome) -> Input {
    Input::Welcome {
        transport,
        session: ID,
        outcome,
    }
}

fn lost_to(message: &str) -> Ending {
    Ending::Lost {
        message: message.to_owned(),
        is_violation: false,
        is_reset: false,
    }
}

fn unreachable() -> Failure {
    Failure::new(ErrorCode::HubUnreachable, "no answer")
}

fn overloaded(retry_after: Option<Duration>) -> Failure {
    Failure {
        retry_after,
        ..Failure::new(ErrorCode::Overloaded, "later")
    }
}

fn wrong_secret() -> Failure {
    Failure {
        is_auth_failure: true,
        retry_after: Some(Duration::from_secs(15)),
        ..Failure::new(ErrorCode::AuthFailed, "no")
    }
}

fn tell(news: News) -> Action {
    Action::Tell(news)
}

fn down(code: ErrorCode, message: &str, cause: Down) -> Action {
    let error = CodedError::new(code, message);
    tell(News::Down { error, cause })
}

const LIVE: Action = Action::Tell(News::Live(true));
const NOT_LIVE: Action = Action::Tell(News::Live(false));
const ACCEPTED: Action = Action::Tell(News::Verdict(Verdict::Accepted));
const HEARD: Action = Action::Tell(News::Verdict(Verdict::Heard));
const UNKNOWN: Action = Action::Tell(News::Verdict(Verdict::Lost));

fn up(is_resumed: bool) -> Action {
    tell(News::Up { is_resumed })
}

#[test]
fn a_welcome_is_told_to_the_gate_and_to_all_who_wait_for_a_session() {
    let mut world = World::new(Transport::TcpTls);
    let actions = world.handle(welcome(Transport::TcpTls, SessionOutcome::New));
    assert_eq!(actions, [ACCEPTED, LIVE, up(false)]);
    assert!(world.association.is_known());
}

#[test]
fn a_session_ahead_of_its_welcome_takes_streams_and_is_up_only_with_the_welcome() {
    let mut world = World::new(Transport::Quic);
    assert_eq!(world.handle(Input::Early(Transport::Quic)), [LIVE]);
    assert!(world.association.is_early() && !world.association.is_known());
    let actions = world.handle(welcome(Transport::Quic, SessionOutcome::New));
    assert_eq!(actions, [ACCEPTED, up(false)]);
    assert!(!world.association.is_early());
}

#[test]
fn a_lost_session_with_streams_is_resumed_over_tls_at_once() {
    let mut world = World::live(Transport::TcpTls);
    let actions = world.lose();
    let told = down(ErrorCode::HubUnreachable, "cut", Down::Lost);
    let until = world.now;
    assert_eq!(actions, [NOT_LIVE, UNKNOWN, told, Action::Wait { until }]);
    let dial = Dial::Resume {
        session: ID,
        attempt: 1,
    };
    assert_eq!(world.dials(), dial);
    assert_eq!(dial.transport(Transport::Quic), Transport::TcpTls);
    let resumed = SessionOutcome::Resumed { received: 3 };
    let actions = world.handle(welcome(Transport::TcpTls, resumed));
    assert_eq!(actions, [ACCEPTED, LIVE, up(true)]);
    assert_eq!(world.association.expires(), None);
}

#[test]
fn attempts_are_numbered_until_the_peer_begins_the_session_anew() {
    let mut world = World::live(Transport::TcpTls);
    let mut actions = world.lose();
    for attempt in 1..4 {
        world.wait(&actions);
        let session = ID;
        assert_eq!(world.dials(), Dial::Resume { session, attempt });
        actions = world.handle(Input::Failed(unreachable()));
    }
    world.wait(&actions);
    world.dials();
    world.handle(welcome(Transport::TcpTls, SessionOutcome::SessionLost));
    world.lose();
    let dial = world.dials();
    assert!(
        matches!(dial, Dial::Resume { attempt: 1, .. }),
        "a new session, a new count: {dial:?}"
    );
}

#[test]
fn a_session_that_the_peer_has_lost_goes_on_as_a_new_one_and_counts_as_not_resumed() {
    let mut world = World::live(Transport::TcpTls);
    world.lose();
    world.dials();
    assert_eq!(world.handle(Input::Early(Transport::TcpTls)), [LIVE]);
    let actions = world.handle(welcome(Transport::TcpTls, SessionOutcome::SessionLost));
    assert_eq!(actions, [ACCEPTED, up(false)]);
}

#[test]
fn a_session_without_streams_is_given_up() {
    let mut world = World::live(Transport::TcpTls);
    let actions = world.handle(Input::Ended {
        ending: lost_to("cut"),
        streams: 0,
        deadline: None,
    });
    assert_eq!(actions.last(), Some(&Action::GiveUp(GiveUp::NotResumable)));
    assert_eq!(world.handle(Input::Due), [], "it is over");
}

#[test]
fn a_session_over_quic_ends_with_its_connection() {
    let mut world = World::live(Transport::Quic);
    let told = down(ErrorCode::HubUnreachable, "cut", Down::Lost);
    let end = Action::GiveUp(GiveUp::NotResumable);
    assert_eq!(world.lose(), [NOT_LIVE, UNKNOWN, told, end]);
}

#[test]
fn a_peer_that_was_restarted_makes_the_other_sessions_ask() {
    let mut world = World::live(Transport::Quic);
    let input = world.ended(Ending::Lost {
        message: "reset".to_owned(),
        is_violation: false,
        is_reset: true,
    });
    assert!(world.handle(input).contains(&tell(News::PeerRestarted)));
}

#[test]
fn a_peer_that_breaks_the_protocol_gets_no_second_chance_for_the_session() {
    let mut world = World::live(Transport::TcpTls);
    let input = world.ended(Ending::Lost {
        message: "bad frame".to_owned(),
        is_violation: true,
        is_reset: false,
    });
    let told = down(ErrorCode::Protocol, "bad frame", Down::Violation);
    let end = Action::GiveUp(GiveUp::NotResumable);
    assert_eq!(world.handle(input), [NOT_LIVE, UNKNOWN, told, end]);
}

#[test]
fn without_a_welcome_over_quic_new_streams_go_over_the_other_transport() {
    let mut world = World::new(Transport::Quic);
    world.handle(Input::Early(Transport::Quic));
    world.pass(Duration::from_secs(5));
    let told = down(ErrorCode::HubUnreachable, "cut", Down::Lost);
    let fallback = tell(News::FallBack(
        "the hub's Welcome didn't come over QUIC".to_owned(),
    ));
    let end = Action::GiveUp(GiveUp::NotResumable);
    assert_eq!(world.lose(), [NOT_LIVE, UNKNOWN, fallback, told, end]);
}

#[test]
fn without_a_welcome_over_tls_nothing_falls_back_and_nothing_goes_out_twice() {
    let mut world = World::new(Transport::TcpTls);
    world.handle(Input::Early(Transport::TcpTls));
    let told = down(ErrorCode::HubUnreachable, "cut", Down::Lost);
    let end = Action::GiveUp(GiveUp::NotResumable);
    assert_eq!(world.lose(), [NOT_LIVE, UNKNOWN, told, end]);
}

#[test]
fn a_refused_session_goes_on_as_a_new_one_after_the_time_the_peer_asked_for() {
    let mut world = World::new(Transport::Quic);
    world.handle(Input::Early(Transport::Quic));
    let hint = Duration::from_secs(3);
    let input = world.ended(Ending::Refused(overloaded(Some(hint))));
    let actions = world.handle_with(input, 0.0);
    let told = down(ErrorCode::Overloaded, "later", Down::Attempt);
    let until = world.now + hint;
    assert_eq!(actions, [NOT_LIVE, UNKNOWN, told, Action::Wait { until }]);
    world.wait(&actions);
    assert_eq!(world.dials(), Dial::New, "the peer has never let it in");
}

/// Its clients would otherwise wait for as long as a session is resumed, six times as long as those without a session.
#[test]
fn a_session_that_was_never_let_in_waits_no_longer_than_clients_without_one() {
    let mut world = World::new(Transport::TcpTls);
    for _ in 0..2 {
        world.handle(Input::Early(Transport::TcpTls));
        let refused = world.ended(Ending::Refused(overloaded(None)));
        world.handle(refused);
        let expires = world.start + PATIENCE;
        assert_eq!(world.association.expires(), Some(expires));
        world.pass(Duration::from_secs(1));
    }
}

#[test]
fn a_wrong_secret_ends_a_session_and_closes_the_gate() {
    let mut world = World::new(Transport::TcpTls);
    world.handle(Input::Early(Transport::TcpTls));
    let input = world.ended(Ending::Refused(wrong_secret()));
    let closed = tell(News::Verdict(Verdict::Refused(wrong_secret())));
    let told = down(ErrorCode::AuthFailed, "no", Down::Attempt);
    let end = Action::GiveUp(GiveUp::Refused);
    assert_eq!(world.handle(input), [NOT_LIVE, closed, told, end]);
    let retry_after = world.association.retry_after();
    assert_eq!(retry_after, Some(Duration::from_secs(15)));
}

#[test]
fn a_secret_that_was_changed_meanwhile_ends_a_session_that_resumes() {
    let mut world = World::live(Transport::TcpTls);
    world.lose();
    world.dials();
    let actions = world.handle(Input::Failed(wrong_secret()));
    let told = down(ErrorCode::AuthFailed, "no", Down::Attempt);
    assert_eq!(actions, [told, Action::GiveUp(GiveUp::Refused)]);
    let retry_after = world.association.retry_after();
    assert_eq!(retry_after, Some(Duration::from_secs(15)));
}

#[test]
fn a_connection_that_the_session_does_not_fit_ends_it() {
    let mut world = World::live(Transport::TcpTls);
    world.lose();
    world.dials();
    let actions = world.handle(Input::Unusable);
    assert_eq!(actions, [Action::GiveUp(GiveUp::Unusable)]);
}

#[test]
fn a_session_that_is_drained_closes_its_connection_and_resets_nothing() {
    let mut world = World::live(Transport::TcpTls);
    assert_eq!(world.handle(Input::Superseded), [NOT_LIVE]);
    assert_eq!(world.handle(Input::Drained), [Action::Close]);
}

#[test]
fn a_current_session_that_is_drained_takes_no_more_streams() {
    let mut world = World::live(Transport::TcpTls);
    assert_eq!(world.handle(Input::Drained), [NOT_LIVE, Action::Close]);
    assert_eq!(world.handle(Input::Superseded), []);
}

#[test]
fn the_session_of_a_trial_says_nothing_of_its_workers_own() {
    let mut world = World::new(Transport::Quic);
    assert_eq!(world.handle(Input::Superseded), []);
    assert_eq!(world.handle(Input::Silent), [UNKNOWN]);
    assert_eq!(world.handle(Input::Heard), [HEARD]);
}

#[test]
fn a_session_that_only_finishes_its_streams_is_resumed_and_takes_no_new_ones() {
    let mut world = World::live(Transport::TcpTls);
    world.handle(Input::Superseded);
    let told = down(ErrorCode::HubUnreachable, "cut", Down::Lost);
    let until = world.now;
    assert_eq!(world.lose(), [UNKNOWN, told, Action::Wait { until }]);
    world.dials();
    let resumed = SessionOutcome::Resumed { received: 0 };
    let actions = world.handle(welcome(Transport::TcpTls, resumed));
    assert_eq!(actions, [ACCEPTED, up(true)]);
    assert_eq!(world.handle(Input::Silent), [UNKNOWN]);
    assert_eq!(world.handle(Input::Heard), [HEARD]);
}

#[test]
fn a_silent_path_takes_no_new_streams_and_says_nothing_of_the_secret_until_the_peer_is_heard() {
    let mut world = World::live(Transport::Quic);
    let fallback = tell(News::FallBack(SILENT.to_owned()));
    let told = down(ErrorCode::HubUnreachable, SILENT, Down::Silent);
    let silent = [UNKNOWN, NOT_LIVE, fallback, told];
    assert_eq!(world.handle(Input::Silent), silent);
    assert_eq!(world.handle(Input::Heard), [HEARD, LIVE, up(true)]);
}

#[test]
fn a_peer_that_drains_is_asked_for_a_session_when_it_likes() {
    let mut world = World::live(Transport::TcpTls);
    let retry_after = Duration::from_millis(500);
    let drains = Input::GoAway {
        is_replaced: false,
        retry_after,
    };
    assert_eq!(world.handle(drains), [NOT_LIVE]);
    assert_eq!(world.association.retry_after(), Some(retry_after));
}

#[test]
fn an_instance_that_was_replaced_tells_the_operator() {
    let mut world = World::live(Transport::TcpTls);
    let message = "another edge with this id has taken over (replaceInstance); stop one of them";
    let told = down(ErrorCode::InstanceConflict, message, Down::Replaced);
    let replaced = Input::GoAway {
        is_replaced: true,
        retry_after: Duration::from_secs(15),
    };
    assert_eq!(world.handle(replaced), [NOT_LIVE, told]);
}

// Bounds of time.

#[test]
fn a_session_is_given_up_when_its_time_is_over_counted_from_the_first_loss() {
    let mut world = World::live(Transport::TcpTls);
    let expires = world.now + RESUME;
    let mut actions = world.lose();
    assert_eq!(world.association.expires(), Some(expires));
    for _ in 0..3 {
        world.wait(&actions);
        world.dials();
        world.handle(Input::Early(Transport::TcpTls));
        world.pass(Duration::from_secs(5));
        // Its own reckoning begins again with each connection.
        actions = world.lose();
        assert_eq!(world.association.expires(), Some(expires));
    }
    world.now = expires;
    let actions = world.handle(Input::Expired);
    assert_eq!(actions, [Action::GiveUp(GiveUp::Expired)]);
}

#[test]
fn only_a_welcome_gives_a_session_new_time() {
    let mut world = World::live(Transport::TcpTls);
    world.lose();
    world.pass(Duration::from_secs(20));
    world.dials();
    let resumed = SessionOutcome::Resumed { received: 0 };
    world.handle(welcome(Transport::TcpTls, resumed));
    let expires = world.now + RESUME;
    world.lose();
    assert_eq!(world.association.expires(), Some(expires));
}

#[test]
fn a_session_that_was_never_let_in_says_nothing_of_the_peers_health() {
    let mut world = World::live(Transport::TcpTls);
    let actions = world.lose();
    assert_eq!(world.wait(&actions), Duration::ZERO);
    let mut delays = Vec::new();
    for _ in 0..5 {
        world.dials();
        world.handle(Input::Early(Transport::TcpTls));
        world.pass(Duration::from_secs(1));
        let actions = world.lose();
        delays.push(world.wait(&actions).as_millis());
    }
    assert_eq!(
        delays,
        [500, 1_000, 2_000, 2_000, 2_000],
        "a connection without a Welcome is no success"
    );
}

#[test]
fn delays_are_at_most_two_seconds_for_thirty_seconds_after_a_loss_and_grow_then() {
    let mut world = World::live(Transport::TcpTls);
    let lost_at = world.now;
    let mut actions = world.lose();
    let mut later = Vec::new();
    for attempt in 0..40_u32 {
        let asked_at = world.now;
        let delay = world.wait(&actions);
        if asked_at < lost_at + Duration::from_secs(30) {
            assert!(delay <= Duration::from_secs(2), "{delay:?}");
        } else {
            later.push(delay);
        }
        world.dials();
        actions = if attempt.is_multiple_of(2) {
            world.handle(Input::Early(Transport::TcpTls));
            let input = world.ended(Ending::Refused(overloaded(None)));
            world.handle(input)
        } else {
            world.handle(Input::Failed(unreachable()))
        };
    }
    let longest = later.iter().max().copied();
    assert_eq!(
        longest,
        Some(Duration::from_secs(30)),
        "refusals don't keep the delays short"
    );
}

#[test]
fn delays_are_drawn_and_a_hint_is_their_lower_bound_cut_at_thirty_seconds() {
    let mut random = Random(1);
    let mut spread = Vec::new();
    for _ in 0..1_000 {
        let mut world = World::live(Transport::TcpTls);
        let actions = world.lose();
        world.wait(&actions);
        world.dials();
        let asked = Duration::from_secs((random.next() * 90.0) as u64);
        let hint = (random.next() < 0.5).then_some(asked);
        let actions = world.handle_with(Input::Failed(overloaded(hint)), random.next());
        let delay = world.wait(&actions);
        match hint.map(|hint| hint.min(Duration::from_secs(30))) {
            Some(least) => {
                assert!(delay >= least, "{delay:?} for {least:?}");
                let most = (2 * least).max(Duration::from_millis(500));
                assert!(delay <= most, "{delay:?} for {least:?}");
            }
            None => spread.push(delay),
        }
    }
    let (least, most) = (spread.iter().min(), spread.iter().max());
    assert!(least < Some(&Duration::from_millis(10)), "{least:?}");
    assert!(most > Some(&Duration::from_millis(490)), "{most:?}");
}

#[test]
fn whatever_happens_a_session_waits_dials_or_is_over() {
    for seed in 1..500 {
        let mut random = Random(seed);
        let mut world = World::live(Transport::TcpTls);
        let mut actions = world.lose();
        let lost_at = world.now;
        let expires = lost_at + RESUME;
        while let Some(last) = actions.last().cloned() {
            match last {
                Action::Wait { until } => {
                    assert!(until <= world.now + Duration::from_secs(60), "{seed}");
                    world.now = until;
                    if until >= expires {
                        actions = world.handle(Input::Expired);
                        continue;
                    }
                    actions = world.handle(Input::Due);
                }
                Action::Dial(_) => {
                    let failure = match (random.next() * 20.0) as u32 {
                        0 => wrong_secret(),
                        1..5 => overloaded(Some(Duration::from_secs(1))),
                        _ => unreachable(),
                    };
                    let draw = random.next();
                    actions = world.handle_with(Input::Failed(failure), draw);
                }
                Action::GiveUp(why) => {
                    assert_ne!(why, GiveUp::NotResumable);
                    assert_eq!(world.handle(Input::Due), []);
                    break;
                }
                Action::Close | Action::WaitForOthers | Action::Tell(_) => panic!("{last:?}"),
            }
        }
        assert!(world.start < world.now);
    }
}

/// Uniform numbers in 0..1, the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        // Numerical Recipes' linear congruential generator; its high bits are good enough to draw delays.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
