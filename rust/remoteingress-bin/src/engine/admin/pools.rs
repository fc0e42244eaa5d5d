//! What the admin server asks about pools, and its answers.

use crate::hub::control::HubControl;
use remoteingress_admin::PoolAsk;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_rest::{PoolChanged, PoolKept, TargetTold};
use remoteingress_config::pool_status::{ExplainParams, PoolsChange, TargetStateParams};
use remoteingress_proto::token::edge_id::EdgeId;
use serde_json::{Value, json};

/// The answer of this hub. `kept` is how long a change is.
pub(super) fn answer(hub: &HubControl, ask: PoolAsk, kept: PoolKept) -> Result<Value, CodedError> {
    let changed = |change: PoolsChange| {
        json!(PoolChanged {
            change,
            kept,
            truth: kept.truth().to_owned(),
        })
    };
    Ok(match ask {
        PoolAsk::All => json!(hub.pools().pools()),
        PoolAsk::One(name) => json!(hub.pools().pool(&name)?),
        PoolAsk::Put(name, body) => {
            let change = hub.pools().put_pool(name.clone(), &body)?;
            tracing::info!(pool = %name, "the admin server was given a pool");
            changed(change)
        }
        PoolAsk::Delete(name) => {
            let change = hub.pools().delete_pool(&name)?;
            tracing::info!(pool = %name, "the admin server was told to remove a pool");
            changed(change)
        }
        PoolAsk::Target(params) => {
            hub.pools().set_target_state(&params)?;
            let TargetStateParams {
                pool, target: id, ..
            } = params;
            let targets = hub.pools().pool(&pool)?.status.targets;
            let target = targets.into_iter().find(|target| target.id == id);
            json!(TargetTold {
                target: target.ok_or_else(|| gone(&pool, &id))?,
                pool,
                truth: hub.pools().truth_of_target().to_owned(),
            })
        }
        PoolAsk::Explain(pool, client, edge) => {
            let edge_id = edge.map(|id| edge_id(&id)).transpose()?;
            let params = ExplainParams {
                pool,
                client,
                edge_id,
            };
            json!(hub.pools().explain_pool(&params)?)
        }
        PoolAsk::Binding(pool, client) => {
            json!(hub.pools().binding(pool, client)?)
        }
        PoolAsk::Unbind(pool, client) => {
            json!(hub.pools().unbind(pool, client)?)
        }
        PoolAsk::Geo(ip) => json!(hub.pools().locate(ip)),
        PoolAsk::Register(body) => json!(hub.pools().registrations().register(&body)?),
        PoolAsk::Heartbeat(id) => json!(hub.pools().registrations().heartbeat(id)?),
        PoolAsk::Deregister(id) => json!(hub.pools().registrations().deregister(id)?),
        PoolAsk::Registered(None) => json!(hub.pools().registrations().all()),
        PoolAsk::Registered(Some(id)) => json!(hub.pools().registrations().one(&id)?),
    })
}

fn edge_id(id: &str) -> Result<EdgeId, CodedError> {
    EdgeId::new(id).map_err(|error| CodedError::invalid_config("edge", error))
}

/// A target that has left its pool meanwhile.
fn gone(pool: &Name, target: &Name) -> CodedError {
    let message = format!("{target:?} has just left pool {pool:?}");
    CodedError::new(ErrorCode::NotFound, message)
}
