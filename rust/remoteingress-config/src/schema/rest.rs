//! The routes of the admin server with the types that they read and write, for docs/openapi.json.

use schemars::{
    JsonSchema, Schema,
    generate::{SchemaGenerator, SchemaSettings},
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    allowed_edge::EdgeFields,
    commands::{Nothing, TokenCreated, TokenParams},
    doctor::SelfTestReport,
    error::CodedError,
    events::Event,
    overview::{EdgeDeleted, EdgePut, EdgeShown, EdgesShown, Overview},
    pool_rest::{
        BindingDeleted, BindingShown, ExplainQuery, GeoShown, PoolChanged, PoolShown, PoolsShown,
        TargetQuery, TargetTold,
    },
    pool_status::PoolExplained,
    pools::PoolConfig,
    registration::{
        BackendShown, BackendsShown, Deregistered, HeartbeatTaken, Registered, Registration,
    },
    rest::{EventsQuery, FeedQuery, Operation, StreamsQuery},
    shown::ConfigShown,
    streams::StreamList,
};

/// Every operation with its query, body and answer, each a schema or null; and the definitions of their types.
pub(super) fn document() -> Value {
    let mut types = Types {
        read: SchemaSettings::draft2020_12().into_generator(),
        written: SchemaSettings::draft2020_12()
            .for_serialize()
            .into_generator(),
    };
    let operations: Vec<Value> = Operation::ALL
        .iter()
        .map(|operation| {
            let (verb, path) = operation.route();
            let (query, body, answer) = types.of(*operation);
            json!({
                "name": operation.as_str(), "verb": verb.as_str(), "path": path,
                "query": query, "body": body, "answer": answer,
            })
        })
        .collect();
    let error = types.answer::<ErrorAnswer>();
    types.written.subschema_for::<Operation>();
    json!({
        "operations": operations,
        "error": error,
        "read": types.read.take_definitions(true),
        "written": types.written.take_definitions(true),
    })
}

struct Types {
    read: SchemaGenerator,
    written: SchemaGenerator,
}

impl Types {
    /// Query, body and answer; null where there is none, or where it isn't JSON.
    fn of(&mut self, operation: Operation) -> (Value, Value, Value) {
        const NONE: Value = Value::Null;
        match operation {
            Operation::GetPage
            | Operation::GetPageFile
            | Operation::GetHealth
            | Operation::GetReady
            | Operation::GetMetrics
            | Operation::GetOpenapi => (NONE, NONE, NONE),
            Operation::GetStatus => (NONE, NONE, self.answer::<Overview>()),
            Operation::GetConfig => (NONE, NONE, self.answer::<ConfigShown>()),
            Operation::GetStreams => {
                let query = self.asked::<StreamsQuery>();
                (query, NONE, self.answer::<StreamList>())
            }
            Operation::GetEvents => {
                let query = self.asked::<EventsQuery>();
                (query, NONE, self.answer::<EventList>())
            }
            Operation::StreamEvents => (self.asked::<FeedQuery>(), NONE, NONE),
            Operation::GetEdges => (NONE, NONE, self.answer::<EdgesShown>()),
            Operation::GetEdge => (NONE, NONE, self.answer::<EdgeShown>()),
            Operation::PutEdge => {
                let body = self.asked::<EdgeFields>();
                (NONE, body, self.answer::<EdgePut>())
            }
            Operation::DeleteEdge => (NONE, NONE, self.answer::<EdgeDeleted>()),
            Operation::CreateToken => {
                let body = self.asked::<TokenParams>();
                (NONE, body, self.answer::<TokenCreated>())
            }
            Operation::TestEdge => (NONE, NONE, self.answer::<SelfTestReport>()),
            Operation::GetPools => (NONE, NONE, self.answer::<PoolsShown>()),
            Operation::GetPool => (NONE, NONE, self.answer::<PoolShown>()),
            Operation::PutPool => {
                let body = self.asked::<PoolConfig>();
                (NONE, body, self.answer::<PoolChanged>())
            }
            Operation::DeletePool => (NONE, NONE, self.answer::<PoolChanged>()),
            Operation::SetTargetState => {
                let query = self.asked::<TargetQuery>();
                (query, NONE, self.answer::<TargetTold>())
            }
            Operation::ExplainPool => {
                let query = self.asked::<ExplainQuery>();
                (query, NONE, self.answer::<PoolExplained>())
            }
            Operation::GetBinding => (NONE, NONE, self.answer::<BindingShown>()),
            Operation::DeleteBinding => (NONE, NONE, self.answer::<BindingDeleted>()),
            Operation::GetGeo => (NONE, NONE, self.answer::<GeoShown>()),
            Operation::Register => {
                let body = self.asked::<Registration>();
                (NONE, body, self.answer::<Registered>())
            }
            Operation::Heartbeat => (NONE, NONE, self.answer::<HeartbeatTaken>()),
            Operation::Deregister => (NONE, NONE, self.answer::<Deregistered>()),
            Operation::GetBackends => (NONE, NONE, self.answer::<BackendsShown>()),
            Operation::GetBackend => (NONE, NONE, self.answer::<BackendShown>()),
            Operation::Drain => (NONE, NONE, self.answer::<Nothing>()),
        }
    }

    fn asked<T: JsonSchema>(&mut self) -> Value {
        self.read.subschema_for::<T>().to_value()
    }

    fn answer<T: JsonSchema>(&mut self) -> Value {
        self.written.subschema_for::<T>().to_value()
    }
}

/// An answer that isn't 200.
#[derive(Serialize, JsonSchema)]
struct ErrorAnswer {
    /// What is wrong.
    error: CodedError,
}

/// Answer to `GET /api/v1/events`.
#[derive(Serialize, JsonSchema)]
struct EventList {
    /// The latest events, the oldest first.
    events: Vec<KeptEvent>,
    /// Number of the event that comes after them.
    next: u64,
    /// Events since the number that was asked for that aren't kept any more.
    lost: u64,
}

/// An event that is kept.
#[derive(Serialize, JsonSchema)]
#[schemars(transform = with_null)]
struct KeptEvent {
    /// Number of the event.
    seq: u64,
    /// Time of the event.
    ///
    /// Unit: ms since 1970
    at: u64,
    #[serde(flatten)]
    event: Event,
}

/// The data of a large event isn't kept.
fn with_null(schema: &mut Schema) {
    let events = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for event in events.into_iter().flatten() {
        let data = &mut event["properties"]["data"];
        *data = json!({ "anyOf": [data.take(), { "type": "null" }] });
    }
}
