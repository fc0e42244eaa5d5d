//! P24: the tables of both ends do what lists of a few lines do, with expiry, counts and eviction.

use crate::any_instant;
use crate::flow::{
    Departure, EdgeFlows, FlowCount, FlowEnd, FlowId, FlowKey, FlowQuota, Full, HubFlows,
    MaxPerClient, Refusal, ReplyRefusal, Settings,
};
use proptest::prelude::*;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const IDLE: Duration = Duration::from_secs(60);
const PER_LISTENER: usize = 5;
const PER_CLIENT: usize = 3;

fn key(address: u8, port: u16, listener: u16) -> FlowKey {
    FlowKey {
        client: ([203, 0, 113, address], port).into(),
        local: ([192, 0, 2, 1], listener).into(),
    }
}

fn edge_flows(unvalidated_reply_factor: Option<u32>) -> (EdgeFlows<()>, Arc<FlowQuota>) {
    let quota = Arc::new(FlowQuota::new(
        PER_LISTENER,
        MaxPerClient::Fixed(PER_CLIENT),
    ));
    let settings = Settings {
        unvalidated_reply_factor,
    };
    (EdgeFlows::new(settings, quota.clone()), quota)
}

fn departure(flow: u32, with_header: bool) -> Departure {
    Departure {
        flow: FlowId(flow),
        with_header,
    }
}

/// One flow of the model; they stand in the order of their making.
#[derive(Clone, Debug)]
struct Flow {
    id: FlowId,
    key: FlowKey,
    active_at: Instant,
    is_two_way: bool,
    is_known: bool,
}

#[derive(Debug, Default)]
struct Model {
    flows: Vec<Flow>,
    last_id: u32,
}

impl Model {
    fn expire(&mut self, now: Instant) {
        self.flows.retain(|flow| now - flow.active_at < IDLE);
    }

    fn client_sent(&mut self, now: Instant, key: FlowKey) -> Result<Departure, Refusal> {
        self.expire(now);
        if !self.flows.iter().any(|flow| flow.key == key) {
            self.make_room(PER_CLIENT, Refusal::PerClient, |flow| {
                flow.key.client.ip() == key.client.ip()
            })?;
            self.make_room(PER_LISTENER, Refusal::PerListener, |flow| {
                flow.key.local.port() == key.local.port()
            })?;
            self.last_id += 1;
            self.flows.push(Flow {
                id: FlowId(self.last_id),
                key,
                active_at: now,
                is_two_way: false,
                is_known: false,
            });
        }
        let flow = self.flows.iter_mut().find(|flow| flow.key == key).unwrap();
        let was_silent = now - flow.active_at >= IDLE / 2;
        flow.active_at = now;
        Ok(Departure {
            flow: flow.id,
            with_header: was_silent || !flow.is_known,
        })
    }

    fn make_room(
        &mut self,
        max: usize,
        refusal: Refusal,
        is_counted: impl Fn(&Flow) -> bool,
    ) -> Result<(), Refusal> {
        if self.flows.iter().filter(|flow| is_counted(flow)).count() < max {
            return Ok(());
        }
        let mut flows = self.flows.iter();
        let oldest = flows.position(|flow| is_counted(flow) && !flow.is_two_way);
        self.flows.remove(oldest.ok_or(refusal)?);
        Ok(())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Client(u8, u16, u16),
    Target(u32),
    Known(u32),
    Unknown(u32),
    NewSession,
    Pause(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..4_u8, 0..4_u16, 1..3_u16).prop_map(|(a, p, l)| Step::Client(a, p, l)),
        3 => (0..40_u32).prop_map(Step::Target),
        2 => (0..40_u32).prop_map(Step::Known),
        1 => (0..40_u32).prop_map(Step::Unknown),
        1 => Just(Step::NewSession),
        2 => (0..40_u64).prop_map(Step::Pause),
    ]
}

proptest! {
    #[test]
    fn p24_the_edges_table_does_what_the_model_does(steps in prop::collection::vec(step(), 0..200)) {
        let (mut flows, quota) = edge_flows(None);
        let (mut model, mut now) = (Model::default(), any_instant());
        let mut session = flows.new_session(now);
        for step in steps {
            match step {
                Step::Client(address, port, listener) => {
                    let key = key(address, port, listener);
                    let departure = flows.from_client(now, key, || Some(key.client.ip()), 1, || ((), IDLE));
                    prop_assert_eq!(departure, model.client_sent(now, key));
                }
                Step::Target(id) => {
                    model.expire(now);
                    let expected = model.flows.iter_mut().find(|flow| flow.id == FlowId(id));
                    let reply = flows.to_client(now, FlowId(id), 1);
                    match expected {
                        Some(flow) => {
                            (flow.active_at, flow.is_two_way) = (now, true);
                            let reply = reply.unwrap();
                            prop_assert_eq!((reply.client, reply.local), (flow.key.client, flow.key.local));
                        }
                        None => prop_assert_eq!(reply.unwrap_err(), ReplyRefusal::UnknownFlow),
                    }
                }
                Step::Known(id) | Step::Unknown(id) => {
                    let is_known = matches!(step, Step::Known(_));
                    if is_known {
                        flows.known(FlowId(id), session);
                    } else {
                        flows.unknown(FlowId(id), session);
                    }
                    // Of another session: says nothing.
                    flows.known(FlowId(id), session.wrapping_sub(1));
                    for flow in model.flows.iter_mut().filter(|flow| flow.id == FlowId(id)) {
                        flow.is_known = is_known;
                    }
                }
                Step::NewSession => {
                    session = flows.new_session(now);
                    model.flows.iter_mut().for_each(|flow| flow.is_known = false);
                }
                Step::Pause(secs) => {
                    now += Duration::from_secs(secs);
                    flows.expire(now);
                    model.expire(now);
                }
            }
            prop_assert_eq!(flows.len(), model.flows.len());
        }
        // Nothing stays counted.
        flows.expire(now + IDLE);
        prop_assert!(flows.is_empty());
        let address: IpAddr = [203, 0, 113, 0].into();
        for _ in 0..PER_CLIENT {
            prop_assert!(quota.take(1, Some(address)).is_ok());
        }
    }

    #[test]
    fn p24_the_hubs_table_does_what_the_model_does(
        steps in prop::collection::vec((0..4_u8, 0..12_u32, 0..40_u64), 0..200),
    ) {
        let count = Arc::new(FlowCount::default());
        let mut flows = HubFlows::new(PER_LISTENER, count.clone());
        // Id, last activity, two-way; in the order of their making.
        let mut model: Vec<(u32, Instant, bool)> = Vec::new();
        let mut now = any_instant();
        for (step, id, secs) in steps {
            let expire = |model: &mut Vec<(u32, Instant, bool)>, now: Instant| {
                model.retain(|(_, active_at, _)| now - *active_at < IDLE);
            };
            match step {
                0 => {
                    now += Duration::from_secs(secs);
                    flows.expire(now);
                    expire(&mut model, now);
                }
                1 => {
                    let inserted = flows.insert(now, FlowId(id), IDLE, id);
                    model.retain(|(other, ..)| *other != id);
                    let mut room = model.len() < PER_LISTENER;
                    if let (false, Some(oldest)) = (room, model.iter().position(|flow| !flow.2)) {
                        model.remove(oldest);
                        room = true;
                    }
                    prop_assert_eq!(inserted, if room { Ok(()) } else { Err(Full) });
                    if room {
                        model.push((id, now, false));
                    }
                }
                _ => {
                    expire(&mut model, now);
                    let found = if step == 2 {
                        flows.from_edge(now, FlowId(id)).copied()
                    } else {
                        flows.from_target(now, FlowId(id)).copied()
                    };
                    let expected = model.iter_mut().find(|(other, ..)| *other == id);
                    prop_assert_eq!(found, expected.as_ref().map(|flow| flow.0));
                    if let Some(flow) = expected {
                        flow.1 = now;
                        flow.2 |= step == 3;
                    }
                }
            }
            prop_assert_eq!((flows.len(), count.get()), (model.len(), model.len()));
        }
        drop(flows);
        prop_assert_eq!(count.get(), 0);
    }
}

#[test]
fn an_unproven_client_gets_so_many_bytes_until_it_sends_again() {
    let (mut flows, _) = edge_flows(Some(3));
    let (now, key) = (any_instant(), key(1, 1, 1));
    let from_client = |flows: &mut EdgeFlows<()>| {
        flows.from_client(now, key, || Some(key.client.ip()), 100, || ((), IDLE))
    };
    assert_eq!(from_client(&mut flows), Ok(departure(1, true)));
    assert!(flows.to_client(now, FlowId(1), 300).is_ok());
    let more = flows.to_client(now, FlowId(1), 1);
    assert_eq!(more.unwrap_err(), ReplyRefusal::Unvalidated);
    assert_eq!(from_client(&mut flows), Ok(departure(1, true)));
    assert!(flows.to_client(now, FlowId(1), 60_000).is_ok());
}

#[test]
fn a_listeners_flows_end_with_it() {
    let quota = Arc::new(FlowQuota::new(9, MaxPerClient::Fixed(9)));
    let settings = Settings {
        unvalidated_reply_factor: None,
    };
    let mut flows: EdgeFlows<_> = EdgeFlows::new(settings, quota);
    let now = any_instant();
    for listener in [1, 2] {
        for port in 0..3 {
            let key = key(1, port, listener);
            let departure =
                flows.from_client(now, key, || Some(key.client.ip()), 1, || (listener, IDLE));
            assert!(departure.is_ok());
        }
    }
    flows.retain(now, |listener| *listener == 2);
    assert_eq!(flows.len(), 3);
    assert!(flows.to_client(now, FlowId(1), 1).is_err());
    assert_eq!(flows.to_client(now, FlowId(4), 1).unwrap().listener, &2);
}

#[test]
fn each_flow_is_silent_for_as_long_as_its_own_port_says() {
    let start = any_instant();
    let after = |seconds| start + Duration::from_secs(seconds);
    let timeouts = [30, 10, 30, 20].map(Duration::from_secs);

    let mut hub = HubFlows::new(100, Arc::default());
    for (id, idle) in (0..).zip(timeouts) {
        hub.insert(start, FlowId(id), idle, id).unwrap();
    }
    let mut edge: EdgeFlows<_> = EdgeFlows::new(
        Settings {
            unvalidated_reply_factor: None,
        },
        Arc::new(FlowQuota::new(100, MaxPerClient::Fixed(100))),
    );
    for (port, idle) in (1..).zip(timeouts) {
        let key = key(1, port, 53);
        let begun = edge.from_client(start, key, || Some(key.client.ip()), 1, || (port, idle));
        assert!(begun.is_ok());
    }
    for (seconds, left) in [(9, 4), (10, 3), (20, 2), (29, 2), (30, 0)] {
        hub.expire(after(seconds));
        edge.expire(after(seconds));
        assert_eq!((hub.len(), edge.len()), (left, left), "{seconds}");
    }
}

#[test]
fn a_flow_that_has_ended_keeps_its_time_and_the_name_of_the_session_that_carried_it_last() {
    let settings = Settings {
        unvalidated_reply_factor: None,
    };
    let quota = Arc::new(FlowQuota::new(9, MaxPerClient::Fixed(9)));
    let mut flows: EdgeFlows<(), &str> = EdgeFlows::new(settings, quota);
    flows.keep_ended();
    let start = any_instant();
    let after = |seconds| start + Duration::from_secs(seconds);
    let (silent, moved) = (key(1, 1, 53), key(1, 2, 53));
    let from_client = |flows: &mut EdgeFlows<(), &'static str>, now, key: FlowKey, name| {
        let network = || Some(key.client.ip());
        let begun = flows.from_client(now, key, network, 1, || ((), IDLE));
        flows.name(begun.unwrap().flow, || Some(name));
    };
    flows.new_session(start);
    from_client(&mut flows, start, silent, "first");
    from_client(&mut flows, start, moved, "first");
    from_client(&mut flows, after(1), moved, "not asked for");
    flows.new_session(after(2));
    from_client(&mut flows, after(2), moved, "second");
    // The third session carries neither of them.
    flows.new_session(after(3));
    flows.expire(after(61));
    flows.retain(after(62), |()| false);
    let (ended, unseen) = flows.take_ended();
    let ended = ended.iter();
    let ended = ended.map(|ended| (ended.flow.key, ended.name, ended.end, ended.at));
    assert_eq!(
        ended.collect::<Vec<_>>(),
        [
            (silent, Some("first"), FlowEnd::Idle, after(61)),
            (moved, Some("second"), FlowEnd::Closed, after(62)),
        ]
    );
    assert_eq!(unseen, 0);
}
