//! Where a flow is to go: to the target of its port, or to one of a pool.

use super::flow::Flow;
use crate::hub::context::SessionContext;
use crate::hub::pools::selection::{Client, Selection};
use remoteingress_config::name::Name;
use remoteingress_config::{AllowedEdge, HubConfig, UdpProxyProtocol};
use remoteingress_core::hub::upstream::{Route, Upstream};
use remoteingress_core::udp_counters::UdpDrop;
use remoteingress_proto::wire::header::StreamHeader;
use remoteingress_upstream::pick::NoTarget;

/// The UDP ports of an edge.
pub(super) fn upstream<'a>(
    config: &'a HubConfig,
    allowed: &'a AllowedEdge,
) -> Upstream<'a, UdpProxyProtocol> {
    Upstream {
        config,
        allowed,
        ports: &allowed.udp,
    }
}

/// The picks for a flow from a pool; none if there is no such pool.
pub(super) fn selection(
    session: &SessionContext,
    pool: &Name,
    header: StreamHeader,
) -> Option<Selection> {
    let worker = &session.worker;
    let client = Client {
        allowed: &session.allowed(),
        address: header.client.ip(),
    };
    Selection::new(worker, &worker.pools(), pool, client)
}

/// A flow gets no target of this pool, which is counted; gives the reason.
pub(super) fn refused(session: &SessionContext, pool: &Name, none: NoTarget) -> UdpDrop {
    session.worker.state.pools.refused(pool, none, None);
    match none {
        NoTarget::Empty => UdpDrop::PoolEmpty,
        NoTarget::Full => UdpDrop::PoolFull,
        NoTarget::NoneHealthy => UdpDrop::NoHealthyTarget,
    }
}

/// True if the configuration in force still has the flow's target for it.
pub(super) fn stays(session: &SessionContext, flow: &Flow) -> bool {
    let (config, allowed) = (session.worker.state.config(), session.allowed());
    let route = upstream(&config, &allowed).route(&flow.opening());
    match (route, &flow.place) {
        (Ok(Route::Target(target)), None) => target == flow.target,
        (Ok(Route::Pool(pool, header)), Some(place)) => {
            let view = session.worker.pools();
            let header = (header, pool.says_header);
            let port = flow.header.listener_port;
            view.pool(&pool.name).is_some_and(|pool| {
                let target = place.held.target_in(pool, port, header);
                target.is_some_and(|target| target == flow.target)
            })
        }
        _ => false,
    }
}
