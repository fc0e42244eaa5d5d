//! Targets that register themselves: edgeProxy's paths and words, so that its targets' scripts go on working.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::num::{NonZeroU16, NonZeroU32};

use remoteingress_proto::token::host::Host;

use crate::{
    decode,
    error::CodedError,
    geo::{CountryCode, RegionName},
    name::Name,
    pools::SOFT_LIMIT,
    target::check_target,
};

/// How long a target that has registered lasts after its last sign of life, as in edgeProxy by default.
pub const LEASE_SECS: u32 = 60;

/// A target that registers itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// Id of the target, which heartbeats name. A registration replaces an earlier one of the same id, whatever its pool.
    ///
    /// Range: 1 to 128 bytes
    pub id: Name,
    /// Pool that it is in.
    ///
    /// Range: 1 to 128 bytes
    pub app: Name,
    /// Region in which it is.
    ///
    /// Default: none · Range: [a region](pools.md#regions)
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// Country in which it is.
    ///
    /// Default: none · Range: two letters
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<CountryCode>,
    /// Address of the target, or its name.
    ///
    /// Range: name or IP address
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub ip: Host,
    /// Port of the target.
    ///
    /// Unit: port
    pub port: NonZeroU16,
    /// Share of new streams; 0 gives it no new clients.
    ///
    /// Default: 2 · Range: 0 to 65535
    #[serde(default = "weight")]
    pub weight: u16,
    /// Streams that it handles comfortably.
    ///
    /// Unit: streams · Default: 100, or `hard_limit` where that is less · Range: from 1
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub soft_limit: Option<NonZeroU32>,
    /// Streams that it has at most; 0: any number.
    ///
    /// Unit: streams · Default: 150, or `soft_limit` where that is more
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hard_limit: Option<u32>,
}

/// edgeProxy's defaults.
fn weight() -> u16 {
    2
}

const HARD_LIMIT: u32 = 150;

impl Registration {
    /// Reads the body of `POST /api/v1/register`.
    ///
    /// # Errors
    /// A field is unknown or has a value that it can't have, told by its name.
    pub fn parse(body: &Value, allow_special_targets: bool) -> Result<Self, CodedError> {
        let registration: Self = decode(body)?;
        check_target(&registration.ip, allow_special_targets, "ip")?;
        let (soft, hard) = registration.limits();
        if hard != 0 && soft > hard {
            let problem = format!("{soft} is above hard_limit {hard}; it must be at most that");
            return Err(CodedError::invalid_config("soft_limit", problem));
        }
        Ok(registration)
    }

    /// Soft and hard limit; a default gives way to what is said.
    pub fn limits(&self) -> (u32, u32) {
        let soft = self.soft_limit.map(NonZeroU32::get);
        match (soft, self.hard_limit) {
            (soft, Some(0)) => (soft.unwrap_or(SOFT_LIMIT), 0),
            (soft, Some(hard)) => (soft.unwrap_or_else(|| SOFT_LIMIT.min(hard)), hard),
            (Some(soft), None) => (soft, HARD_LIMIT.max(soft)),
            (None, None) => (SOFT_LIMIT, HARD_LIMIT),
        }
    }
}

/// Answer to `POST /api/v1/register`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Registered {
    /// Id of the target.
    pub id: Name,
    /// Always true.
    pub registered: bool,
    /// How long the target lasts without a heartbeat, as a sentence.
    pub message: String,
}

/// Answer to `POST /api/v1/heartbeat/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HeartbeatTaken {
    /// Id of the target.
    pub id: Name,
    /// Always `ok`.
    pub status: String,
}

/// Answer to `DELETE /api/v1/backends/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Deregistered {
    /// Id of the target.
    pub id: Name,
    /// Always true.
    pub deregistered: bool,
}

/// Answer to `GET /api/v1/backends`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackendsShown {
    /// The targets that have registered, by id.
    pub backends: Vec<BackendShown>,
    /// Number of them.
    pub total: usize,
}

/// Answer to `GET /api/v1/backends/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct BackendShown {
    /// Id of the target.
    pub id: Name,
    /// Pool that it is in.
    pub app: Name,
    /// Region in which it is; null if it has said none.
    pub region: Option<RegionName>,
    /// Address of the target.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub ip: Host,
    /// Port of the target.
    ///
    /// Unit: port
    pub port: u16,
    /// Always true: one without a sign of life is gone.
    pub healthy: bool,
    /// Time since its last sign of life.
    ///
    /// Unit: s
    pub last_heartbeat_secs: u64,
    /// Time since it has registered.
    ///
    /// Unit: s
    pub registered_secs: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn edgeproxys_example_registers() {
        let body = json!({ "id": "backend-eu-1", "app": "myapp", "region": "eu", "ip": "10.50.1.1", "port": 9000 });
        let parsed = Registration::parse(&body, false).unwrap();
        assert_eq!((parsed.weight, parsed.limits()), (2, (100, 150)));
        let limits = |more: Value| {
            let mut body = body.clone();
            let more = more.as_object().unwrap().clone();
            body.as_object_mut().unwrap().extend(more);
            Registration::parse(&body, false).map(|parsed| parsed.limits())
        };
        assert_eq!(limits(json!({ "soft_limit": 300 })).unwrap(), (300, 300));
        assert_eq!(limits(json!({ "hard_limit": 50 })).unwrap(), (50, 50));
        assert_eq!(limits(json!({ "hard_limit": 0 })).unwrap(), (100, 0));
        for (more, path) in [
            (
                json!({ "soft_limit": 9, "hard_limit": 8 }),
                "soft_limit: 9 is above",
            ),
            (json!({ "soft_limit": 0 }), "soft_limit: must be"),
            (json!({ "port": 0 }), "port: must be"),
            (
                json!({ "ip": "169.254.169.254" }),
                "ip: 169.254.169.254 is no target",
            ),
            (json!({ "id": "" }), "id: must have 1 to 128 bytes"),
            (json!({ "helthy": true }), "helthy: is not a known field"),
        ] {
            let error = limits(more).unwrap_err();
            assert!(error.message.starts_with(path), "{error}");
        }
    }
}
