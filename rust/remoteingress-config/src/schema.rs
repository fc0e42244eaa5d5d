//! The types of this crate as JSON Schema, for the generator in `scripts/generate.mjs`.

mod rest;

use schemars::{
    JsonSchema,
    generate::{SchemaGenerator, SchemaSettings},
};
use serde_json::{Value, json};

use crate::{
    AllowedEdgesChange,
    allowed_edge::{EdgesParams, EdgesPartParams},
    commands::{
        EdgeSetBegun, EdgeSetCommit, EdgesRemoval, EdgesRemoved, HubStarted, IPC_VERSION, Method,
        Metrics, Nothing, Subscription, TokenCreated, TokenParams,
    },
    doctor::{DoctorReport, SelfTestParams, SelfTestReport},
    edge::EdgeFields,
    error::ErrorCode,
    events::Event,
    hub::HubFields,
    pool_status::{ExplainParams, PickReason, PoolExplained, PoolsChange, TargetStateParams},
    pools::PoolsParams,
    reasons::{
        EdgeRefusalReason, HubRefusalReason, StreamCloseReason, TunnelRefusalReason, UdpDropReason,
    },
    status::{EdgeStatus, HubStatus},
    streams::{StreamList, StreamsParams},
};

/// Everything that the generator needs: the definitions of all types, by whether they are read or written here, and
/// which method has which parameters and result.
pub fn document() -> Value {
    let mut read = SchemaSettings::draft2020_12().into_generator();
    let mut written = SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator();
    let commands: Vec<Value> = Method::ALL
        .iter()
        .map(|method| {
            let [params, result] = types(*method, &mut read, &mut written);
            json!({ "name": method.as_str(), "params": params, "result": result })
        })
        .collect();
    written.subschema_for::<Method>();
    written.subschema_for::<Event>();
    written.subschema_for::<ErrorCode>();
    written.subschema_for::<EdgeRefusalReason>();
    written.subschema_for::<HubRefusalReason>();
    written.subschema_for::<TunnelRefusalReason>();
    written.subschema_for::<StreamCloseReason>();
    written.subschema_for::<UdpDropReason>();
    written.subschema_for::<PickReason>();
    written.subschema_for::<DoctorReport>();
    json!({
        "ipcVersion": IPC_VERSION,
        "commands": commands,
        "read": read.take_definitions(true),
        "written": written.take_definitions(true),
        "rest": rest::document(),
    })
}

/// The schemas of a method's parameters and of its result; `getStatus` has the status of what runs.
fn types(method: Method, read: &mut SchemaGenerator, written: &mut SchemaGenerator) -> [Value; 2] {
    fn pair<P: JsonSchema, R: JsonSchema>(
        read: &mut SchemaGenerator,
        written: &mut SchemaGenerator,
    ) -> [Value; 2] {
        [
            read.subschema_for::<P>().to_value(),
            written.subschema_for::<R>().to_value(),
        ]
    }
    match method {
        Method::Ping | Method::Stop => pair::<Nothing, Nothing>(read, written),
        Method::StartHub => pair::<HubFields, HubStarted>(read, written),
        Method::UpdateAllowedEdges | Method::UpsertEdges => {
            pair::<EdgesParams, AllowedEdgesChange>(read, written)
        }
        Method::BeginAllowedEdges => pair::<Nothing, EdgeSetBegun>(read, written),
        Method::AddAllowedEdges => pair::<EdgesPartParams, Nothing>(read, written),
        Method::CommitAllowedEdges => pair::<EdgeSetCommit, AllowedEdgesChange>(read, written),
        Method::RemoveEdges => pair::<EdgesRemoval, EdgesRemoved>(read, written),
        Method::UpdatePools => pair::<PoolsParams, PoolsChange>(read, written),
        Method::SetTargetState => pair::<TargetStateParams, Nothing>(read, written),
        Method::ExplainPool => pair::<ExplainParams, PoolExplained>(read, written),
        Method::CreateConnectionToken => pair::<TokenParams, TokenCreated>(read, written),
        Method::StartEdge => pair::<EdgeFields, Nothing>(read, written),
        Method::GetStatus => pair::<Nothing, Status>(read, written),
        Method::GetMetrics => pair::<Nothing, Metrics>(read, written),
        Method::SelfTest => pair::<SelfTestParams, SelfTestReport>(read, written),
        Method::GetStreams => pair::<StreamsParams, StreamList>(read, written),
        Method::Subscribe => pair::<Subscription, Nothing>(read, written),
    }
}

/// Either status.
#[derive(JsonSchema)]
#[schemars(untagged, inline)]
#[expect(dead_code, reason = "the shape alone is of use")]
enum Status {
    Hub(Box<HubStatus>),
    Edge(Box<EdgeStatus>),
}

/// A string that is written but never read: JSON Schema's `writeOnly` marks each secret of the configuration.
pub(crate) struct SecretText;

impl JsonSchema for SecretText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "writeOnly": true })
    }
}
