//! The targets of pools that are tried: those of the configuration, or all that a running hub has.

use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::name::Name;
use remoteingress_config::{HubConfig, PoolOfPort, TcpProxyProtocol};
use remoteingress_core::doctor::target as judge;
use remoteingress_proto::token::host::Host;
use std::collections::HashMap;

/// A target of a pool.
#[derive(Clone, Debug)]
pub(crate) struct TargetOfPool {
    pub(crate) id: Name,
    pub(crate) host: Host,
    /// Absent: the listener's.
    pub(crate) port: Option<u16>,
    /// What it is told of the client, where the port doesn't say that.
    pub(crate) proxy_protocol: Option<TcpProxyProtocol>,
}

/// The targets of pools, by name.
#[derive(Debug)]
pub(crate) struct Pools {
    targets: HashMap<Name, Vec<TargetOfPool>>,
    /// All of a running hub, also those of routing.db and DNS.
    is_running: bool,
}

impl Pools {
    /// Those that a running hub has.
    pub(crate) fn running(targets: HashMap<Name, Vec<TargetOfPool>>) -> Self {
        Self {
            targets,
            is_running: true,
        }
    }

    /// Those of a configuration.
    pub(crate) fn configured(config: &HubConfig) -> Self {
        let pools = config.pools.iter().map(|(name, pool)| {
            let targets = pool.targets.iter().map(|target| TargetOfPool {
                id: target.id(),
                host: target.host.clone(),
                port: target.port.map(std::num::NonZeroU16::get),
                proxy_protocol: None,
            });
            (name.clone(), targets.collect())
        });
        Self {
            targets: pools.collect(),
            is_running: false,
        }
    }

    /// Those of the pool that a port names.
    pub(super) fn of(&self, pool: &PoolOfPort) -> &[TargetOfPool] {
        self.targets.get(&pool.name).map_or(&[], Vec::as_slice)
    }

    /// What is to be said of a pool that a port of this edge names, besides its targets.
    pub(super) fn told(&self, config: &HubConfig, pool: &PoolOfPort, edge: &str) -> Option<Check> {
        let has_targets = !self.of(pool).is_empty();
        if self.is_running {
            return (!has_targets).then(|| judge::empty_pool(pool.name.as_str(), edge));
        }
        let configured = config.pools.get(&pool.name);
        let is_found = configured.is_some_and(|pool| pool.discover.is_some());
        if config.routing_db.is_some() || is_found {
            let seen = format!(
                "targets that routing.db or DNS give pool {} aren't tried before the hub runs; ctl doctor {edge} tries them then",
                pool.name
            );
            return Some(Check::ok(CheckName::Target, seen));
        }
        (!has_targets).then(|| judge::empty_pool(pool.name.as_str(), edge))
    }
}
