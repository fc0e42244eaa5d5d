//! The examples of test/fixtures/ipc.json, which TypeScript's compiler holds to its interfaces: what is written here
//! becomes exactly that JSON, what is read from it is accepted, and no word of the interface is missing.

use std::collections::BTreeSet;

use remoteingress_config::{
    AllowedEdgesChange, EdgeList,
    commands::{
        Answer, EdgeSetBegun, EdgeSetCommit, EdgesRemoval, EdgesRemoved, HubStarted, IPC_VERSION,
        Method, Metrics, Nothing, Subscribable, Subscription, TokenCreated, TokenParams,
    },
    decode,
    doctor::{SelfTestParams, SelfTestReport},
    error::{CodedError, ErrorCode},
    events::Event,
    parse_edge, parse_edges, parse_hub,
    pool_status::{
        DiscoveryState, ExplainParams, PoolExplained, PoolsChange, TargetAdmin, TargetSource,
        TargetState, TargetStateParams,
    },
    pools::parse_pools,
    reasons::{
        EdgeRefusalReason, Feature, HubRefusalReason, PortErrorCode, PortState, Protocol,
        StreamCloseReason, TargetDownReason, Transport, TunnelRefusalReason, UdpDropReason,
    },
    set_of_part,
    status::{EdgeStatus, HubStatus},
    streams::{StreamList, StreamTier, StreamsParams, WaitsFor},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fixture {
    commands: Vec<Command>,
    answers: Vec<Value>,
    status: Status,
    events: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    method: String,
    params: Value,
    result: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Status {
    hub: Value,
    edge: Value,
}

const TEXT: &str = include_str!("../../../test/fixtures/ipc.json");

fn fixture() -> Fixture {
    serde_json::from_str(TEXT).expect("test/fixtures/ipc.json has this form")
}

/// Reads the JSON as a `T`, and finds the same JSON when that is written.
fn assert_same<T: Serialize + DeserializeOwned>(example: &Value) {
    let value: T = serde_json::from_value(example.clone())
        .unwrap_or_else(|error| panic!("{error}: {example}"));
    assert_eq!(json!(value), *example);
}

#[test]
fn every_event_is_written_as_its_example() {
    let fixture = fixture();
    for example in &fixture.events {
        assert_same::<Event>(example);
        let event: Event = serde_json::from_value(example.clone()).expect("read before");
        assert_eq!(
            json!({"event": event.name(), "data": event.data()}),
            *example
        );
    }
    let told: BTreeSet<&str> = fixture
        .events
        .iter()
        .filter_map(|example| example["event"].as_str())
        .collect();
    assert_eq!(told, Event::NAMES.iter().copied().collect());
    assert_eq!(fixture.events[0]["data"]["protocolVersion"], IPC_VERSION);
}

#[test]
fn every_status_is_written_as_its_example() {
    let Fixture { status, .. } = fixture();
    assert_same::<HubStatus>(&status.hub);
    assert_same::<EdgeStatus>(&status.edge);
}

#[test]
fn every_answer_is_written_as_its_example() {
    let Fixture { answers, .. } = fixture();
    for example in &answers {
        assert_same::<Answer>(example);
    }
    let message = "there is no edge edge-9; give it to updateAllowedEdges first";
    let error = CodedError::new(ErrorCode::UnknownEdge, message);
    assert_eq!(json!(Answer::new("1", Ok(json!({})))), answers[0]);
    assert_eq!(json!(Answer::new("2", Err(error))), answers[1]);
}

#[test]
fn every_command_is_read_and_answered_as_its_example() {
    let mut told = BTreeSet::new();
    for Command {
        method,
        params,
        result,
    } in fixture().commands
    {
        let method = Method::from_text(&method).expect("a known method");
        told.insert(method);
        match method {
            Method::Ping | Method::Stop => {
                assert_same::<Nothing>(&params);
                assert_same::<Nothing>(&result);
            }
            Method::StartHub => {
                parse_hub(&params).expect("a configuration");
                assert_same::<HubStarted>(&result);
            }
            Method::UpdateAllowedEdges | Method::UpsertEdges => {
                parse_edges(&params, false).expect("allowed edges");
                assert_same::<AllowedEdgesChange>(&result);
            }
            Method::BeginAllowedEdges => {
                assert_same::<Nothing>(&params);
                assert_same::<EdgeSetBegun>(&result);
            }
            Method::AddAllowedEdges => {
                set_of_part(&params).expect("a part");
                EdgeList::default().add(&params, false).expect("its edges");
                assert_same::<Nothing>(&result);
            }
            Method::CommitAllowedEdges => {
                decode::<EdgeSetCommit>(&params).expect("parameters");
                assert_same::<AllowedEdgesChange>(&result);
            }
            Method::RemoveEdges => {
                assert_same::<EdgesRemoval>(&params);
                assert_same::<EdgesRemoved>(&result);
            }
            Method::UpdatePools => {
                parse_pools(&params, false).expect("parameters");
                assert_same::<PoolsChange>(&result);
            }
            Method::SetTargetState => {
                assert_same::<TargetStateParams>(&params);
                assert_same::<Nothing>(&result);
            }
            Method::ExplainPool => {
                assert_same::<ExplainParams>(&params);
                assert_same::<PoolExplained>(&result);
            }
            Method::CreateConnectionToken => {
                decode::<TokenParams>(&params).expect("parameters");
                assert_same::<TokenCreated>(&result);
            }
            Method::StartEdge => {
                parse_edge(&params).expect("a configuration");
                assert_same::<Nothing>(&result);
            }
            Method::GetStatus if result.get("tunnelPort").is_some() => {
                assert_same::<HubStatus>(&result);
            }
            Method::GetStatus => assert_same::<EdgeStatus>(&result),
            Method::GetStreams => {
                decode::<StreamsParams>(&params).expect("parameters");
                assert_same::<StreamList>(&result);
            }
            Method::SelfTest => {
                assert_same::<SelfTestParams>(&params);
                assert_same::<SelfTestReport>(&result);
            }
            Method::GetMetrics => {
                assert_same::<Nothing>(&params);
                assert_same::<Metrics>(&result);
            }
            Method::Subscribe => {
                decode::<Subscription>(&params).expect("parameters");
                assert_same::<Nothing>(&result);
            }
        }
    }
    assert_eq!(told, Method::ALL.iter().copied().collect());
}

#[test]
fn every_word_has_an_example() {
    let words = [
        list(DiscoveryState::ALL, DiscoveryState::as_str),
        list(EdgeRefusalReason::ALL, EdgeRefusalReason::as_str),
        list(ErrorCode::ALL, ErrorCode::as_str),
        list(Feature::ALL, Feature::as_str),
        list(HubRefusalReason::ALL, HubRefusalReason::as_str),
        list(PortErrorCode::ALL, PortErrorCode::as_str),
        list(PortState::ALL, PortState::as_str),
        list(Protocol::ALL, Protocol::as_str),
        list(StreamCloseReason::ALL, StreamCloseReason::as_str),
        list(StreamTier::ALL, StreamTier::as_str),
        list(Subscribable::ALL, Subscribable::as_str),
        list(TargetAdmin::ALL, TargetAdmin::as_str),
        list(TargetDownReason::ALL, TargetDownReason::as_str),
        list(TargetSource::ALL, TargetSource::as_str),
        list(TargetState::ALL, TargetState::as_str),
        list(Transport::ALL, Transport::as_str),
        list(TunnelRefusalReason::ALL, TunnelRefusalReason::as_str),
        list(UdpDropReason::ALL, UdpDropReason::as_str),
        list(WaitsFor::ALL, WaitsFor::as_str),
    ];
    for word in words.concat() {
        assert!(TEXT.contains(&format!("\"{word}\"")), "{word}");
    }
}

fn list<T: Copy>(all: &[T], as_str: fn(T) -> &'static str) -> Vec<&'static str> {
    all.iter().map(|word| as_str(*word)).collect()
}
