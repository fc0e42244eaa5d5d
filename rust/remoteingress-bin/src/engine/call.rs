//! Methods that change a hub's edges, whoever calls them.

use super::Control;
use crate::hub::control::HubControl;
use remoteingress_config::commands::{EdgesRemoval, Method, TokenCreated, TokenParams};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::pools::parse_pools;
use remoteingress_config::streams::StreamsParams;
use remoteingress_config::{decode, parse_edges};
use serde_json::{Value, json};

/// Carries out a method that only a running hub has, and that is done at once.
pub(crate) fn call_hub(
    hub: &HubControl,
    method: Method,
    params: &Value,
) -> Result<Value, CodedError> {
    let special = hub.allows_special_targets();
    match method {
        Method::UpdateAllowedEdges => Ok(json!(hub.update_edges(parse_edges(params, special)?)?)),
        Method::UpsertEdges => Ok(json!(hub.upsert_edges(parse_edges(params, special)?)?)),
        Method::UpdatePools => Ok(json!(
            hub.pools().update_pools(parse_pools(params, special)?)?
        )),
        Method::SetTargetState => {
            hub.pools().set_target_state(&decode(params)?)?;
            Ok(json!({}))
        }
        Method::ExplainPool => Ok(json!(hub.pools().explain_pool(&decode(params)?)?)),
        Method::RemoveEdges => {
            let EdgesRemoval { edge_ids } = decode(params)?;
            Ok(json!(hub.remove_edges(edge_ids)))
        }
        Method::CreateConnectionToken => {
            let TokenParams {
                edge_id,
                hub_host,
                hub_port,
            } = decode(params)?;
            let token = hub.token(&edge_id, hub_host.as_deref(), hub_port)?;
            Ok(json!(TokenCreated { token }))
        }
        Method::Ping
        | Method::StartHub
        | Method::StartEdge
        | Method::BeginAllowedEdges
        | Method::AddAllowedEdges
        | Method::CommitAllowedEdges
        | Method::GetStatus
        | Method::GetStreams
        | Method::GetMetrics
        | Method::SelfTest
        | Method::Subscribe
        | Method::Stop => Err(not_running(method)),
    }
}

/// Lists the streams of hub or edge.
pub(crate) async fn streams(control: &Control, params: &Value) -> Result<Value, CodedError> {
    let params: StreamsParams = decode(params)?;
    params.check()?;
    Ok(json!(match control {
        Control::Hub(hub) => hub.streams(&params).await,
        Control::Edge(edge) => edge.streams(&params).await,
    }))
}

/// The engine that has this method doesn't run.
pub(crate) fn not_running(method: Method) -> CodedError {
    let message = format!(
        "{} needs a running hub or edge; call startHub or startEdge first",
        method.as_str()
    );
    CodedError::new(ErrorCode::NotRunning, message)
}
