//! A target as one of the sources has it.

use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{TargetAdmin, TargetSource};
use remoteingress_config::pools::PoolTarget;
use remoteingress_config::{CountryCode, RegionName, TcpProxyProtocol};
use remoteingress_proto::token::host::Host;
use std::time::Duration;

/// A target as one of the sources has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Unique in its pool.
    pub id: Name,
    /// A name or an address.
    pub host: Host,
    /// Absent: the listener's.
    pub port: Option<u16>,
    /// Where it is.
    pub region: Option<RegionName>,
    /// The country that it is in.
    pub country: Option<CountryCode>,
    /// Its share of new streams; 0: none.
    pub weight: u16,
    /// Streams that it handles comfortably.
    pub soft_limit: u32,
    /// Streams that it has at most; 0: any number.
    pub hard_limit: u32,
    /// Lower ones come first.
    pub priority: u8,
    /// Where it comes from.
    pub source: TargetSource,
    /// What its source says that it is to do.
    pub admin: TargetAdmin,
    /// False: its source says that it is down.
    pub is_healthy: bool,
    /// Its source has it no more: it takes no new clients, and is gone soon.
    pub is_leaving: bool,
    /// Time in which it gets its whole share after it came back, if it has one of its own.
    pub slow_start: Option<Duration>,
    /// What it is told of the client, where the port doesn't say that. Absent: the port's default.
    pub proxy_protocol: Option<TcpProxyProtocol>,
}

impl From<&PoolTarget> for Candidate {
    fn from(target: &PoolTarget) -> Self {
        Self {
            id: target.id(),
            host: target.host.clone(),
            port: target.port.map(|port| port.get()),
            region: target.region.clone(),
            country: target.country,
            weight: target.weight,
            soft_limit: target.soft(),
            hard_limit: target.hard_limit,
            priority: target.priority,
            source: TargetSource::Config,
            admin: TargetAdmin::Active,
            is_healthy: true,
            is_leaving: false,
            slow_start: None,
            proxy_protocol: None,
        }
    }
}
