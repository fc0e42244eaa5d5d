//! The routes of pools. What is in their paths is percent-encoded.

use crate::answer::{Answer, Body, Failure, Named, object, query};
use crate::console::{Ask, PoolAsk};
use crate::served::Served;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use remoteingress_config::name::Name;
use remoteingress_config::pool_rest::{ExplainQuery, TargetQuery};
use remoteingress_config::pool_status::{TargetAdmin, TargetStateParams};
use serde_json::Value;
use std::net::IpAddr;

pub(crate) async fn all(State(served): State<Served>) -> Answer {
    ask(&served, PoolAsk::All).await
}

pub(crate) async fn one(State(served): State<Served>, Named(pool): Named<Name>) -> Answer {
    ask(&served, PoolAsk::One(pool)).await
}

pub(crate) async fn put(
    State(served): State<Served>,
    Named(pool): Named<Name>,
    headers: HeaderMap,
    Body(body): Body,
) -> Answer {
    let config = object(&headers, &body)?;
    ask(&served, PoolAsk::Put(pool, config)).await
}

pub(crate) async fn delete(State(served): State<Served>, Named(pool): Named<Name>) -> Answer {
    ask(&served, PoolAsk::Delete(pool)).await
}

pub(crate) async fn set_target_state(
    State(served): State<Served>,
    Named((pool, target, state)): Named<(Name, Name, TargetAdmin)>,
    asked: Result<Query<TargetQuery>, QueryRejection>,
) -> Answer {
    let TargetQuery { cut } = query(asked)?;
    let params = TargetStateParams {
        pool,
        target,
        state,
        cut,
    };
    ask(&served, PoolAsk::Target(params)).await
}

pub(crate) async fn explain(
    State(served): State<Served>,
    Named(pool): Named<Name>,
    asked: Result<Query<ExplainQuery>, QueryRejection>,
) -> Answer {
    let ExplainQuery { client, edge } = query(asked)?;
    ask(&served, PoolAsk::Explain(pool, client, edge)).await
}

pub(crate) async fn binding(
    State(served): State<Served>,
    Named((pool, client)): Named<(Name, IpAddr)>,
) -> Answer {
    ask(&served, PoolAsk::Binding(pool, client)).await
}

pub(crate) async fn unbind(
    State(served): State<Served>,
    Named((pool, client)): Named<(Name, IpAddr)>,
) -> Answer {
    ask(&served, PoolAsk::Unbind(pool, client)).await
}

pub(crate) async fn geo(State(served): State<Served>, Named(ip): Named<IpAddr>) -> Answer {
    ask(&served, PoolAsk::Geo(ip)).await
}

pub(crate) async fn register(
    State(served): State<Served>,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<(StatusCode, axum::Json<Value>), Failure> {
    let registration = object(&headers, &body)?;
    let answer = ask(&served, PoolAsk::Register(registration)).await?;
    // As edgeProxy answers.
    Ok((StatusCode::CREATED, answer))
}

pub(crate) async fn heartbeat(State(served): State<Served>, Named(id): Named<Name>) -> Answer {
    ask(&served, PoolAsk::Heartbeat(id)).await
}

pub(crate) async fn deregister(State(served): State<Served>, Named(id): Named<Name>) -> Answer {
    ask(&served, PoolAsk::Deregister(id)).await
}

pub(crate) async fn registered(State(served): State<Served>) -> Answer {
    ask(&served, PoolAsk::Registered(None)).await
}

pub(crate) async fn one_registered(State(served): State<Served>, Named(id): Named<Name>) -> Answer {
    ask(&served, PoolAsk::Registered(Some(id))).await
}

async fn ask(Served { console, .. }: &Served, asked: PoolAsk) -> Answer {
    Ok(axum::Json(console.ask(Ask::Pool(asked)).await?))
}
