//! The targets of a pool as they are written, and the name by which DNS tells more of them.

use std::{
    net::SocketAddr,
    num::{NonZeroU16, NonZeroU32},
};

use remoteingress_proto::token::host::Host;
use serde::{Deserialize, Serialize};

use crate::{
    error::CodedError,
    geo::{CountryCode, RegionName},
    name::Name,
    target::check_target,
};

/// A target of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PoolTarget {
    /// Name of the target in status, events and commands; its health, its counts and its clients are kept by it.
    ///
    /// Default: `host:port`, or the host alone without `port` · Range: 1 to 128 bytes, once in its pool
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Name>,
    /// Host of the target, as seen from the hub.
    ///
    /// Range: name or IP address
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub host: Host,
    /// Port of the target.
    ///
    /// Unit: port · Default: the listener's
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// Region in which it is: `sa`, `us`, `eu`, `ap`, or any other name.
    ///
    /// Default: none · Range: [a region](#regions)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// Country in which it is. Where any target of a pool has one, the client's own country comes before its region.
    ///
    /// Default: none · Range: two letters
    #[serde(skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Share of new streams. 0 gives it no new clients.
    ///
    /// Default: 1 · Range: 0 to 65535
    #[serde(default = "one")]
    pub weight: u16,
    /// Streams and flows that it handles comfortably: load is counted in these.
    ///
    /// Unit: streams · Default: 100, or `hardLimit` where that is less · Range: from 1
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<NonZeroU32>,
    /// Streams and flows that it has at most, exactly.
    ///
    /// Unit: streams · Default: 0 = any number
    #[serde(default)]
    pub hard_limit: u32,
    /// Targets of a higher number get new clients only while all of lower ones are out or full.
    ///
    /// Default: 0 · Range: 0 to 255
    #[serde(default)]
    pub priority: u8,
}

fn one() -> u16 {
    1
}

/// Soft limit of a target that gives none: the default of edgeProxy's column.
pub const SOFT_LIMIT: u32 = 100;

impl PoolTarget {
    /// Its id, given or not.
    pub fn id(&self) -> Name {
        self.id.clone().unwrap_or_else(|| {
            let text = match self.port {
                Some(port) => format!("{}:{port}", self.host),
                None => self.host.to_string(),
            };
            Name::cut(&text)
        })
    }

    /// Its soft limit, given or not.
    pub fn soft(&self) -> u32 {
        let most = if self.hard_limit == 0 {
            u32::MAX
        } else {
            self.hard_limit
        };
        self.soft_limit
            .map_or_else(|| SOFT_LIMIT.min(most), NonZeroU32::get)
    }

    pub(super) fn check(&self, path: &str, allow_special_targets: bool) -> Result<(), CodedError> {
        check_target(
            &self.host,
            allow_special_targets,
            format_args!("{path}.host"),
        )?;
        if self.hard_limit != 0 && self.soft() > self.hard_limit {
            let problem = format!(
                "{} is above hardLimit {}; it must be at most that, or hardLimit 0 for none",
                self.soft(),
                self.hard_limit
            );
            return Err(CodedError::invalid_config(
                format_args!("{path}.softLimit"),
                problem,
            ));
        }
        Ok(())
    }
}

/// The type of the records that DNS is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum DiscoverKind {
    /// A and AAAA: one target for each address.
    #[default]
    Address,
    /// SRV: hosts with their ports, priorities and weights.
    Srv,
}

/// A name of DNS whose records are targets, see [pools.md](pools.md#discovery).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DiscoverConfig {
    /// Name to ask for, such as `_web._tcp.internal`.
    ///
    /// Range: DNS name
    pub name: String,
    /// `"address"` asks for A and AAAA, `"srv"` for SRV.
    ///
    /// Default: `"address"`
    #[serde(default, rename = "type")]
    pub kind: DiscoverKind,
    /// Port of targets that addresses name; SRV has its own.
    ///
    /// Unit: port · Default: the listener's
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// How long the targets stay while DNS says that the name has no records or doesn't exist. While it gives no answer, or
    /// an error, they stay without end.
    ///
    /// Unit: s · Default: 300
    #[serde(default = "hold_secs")]
    pub hold_secs: u32,
    /// Servers to ask for `name`. Host names in SRV records are looked up by the system's resolver, not by these.
    ///
    /// Default: the system's · Range: `address:port`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub servers: Vec<SocketAddr>,
}

fn hold_secs() -> u32 {
    300
}

/// Bytes of a name as DNS writes it (RFC 1035, 2.3.4), with a dot at its end.
const MAX_DNS_NAME: usize = 254;

impl DiscoverConfig {
    pub(super) fn check(&self, path: &str) -> Result<(), CodedError> {
        let labels = self.name.strip_suffix('.').unwrap_or(&self.name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        };
        if self.name.len() > MAX_DNS_NAME || !labels.split('.').all(is_label) {
            let problem = "must be a DNS name, such as _web._tcp.internal";
            return Err(CodedError::invalid_config(
                format_args!("{path}.name"),
                problem,
            ));
        }
        if self.kind == DiscoverKind::Srv && self.port.is_some() {
            let problem = "is for the type address; SRV records have their own ports";
            return Err(CodedError::invalid_config(
                format_args!("{path}.port"),
                problem,
            ));
        }
        Ok(())
    }
}
