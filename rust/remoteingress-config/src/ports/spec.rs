//! One port specification as a user writes it: a number, a range, or an object with the details.

use std::{fmt, marker::PhantomData, net::IpAddr, num::NonZeroU32, time::Duration};

use remoteingress_proto::token::host::Host;
use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, MapAccess, Visitor, value::MapAccessDeserializer},
};

#[cfg(feature = "schema")]
use super::span::PortText;
use super::{
    range::{PoolOfPort, PortRange},
    span::{Port, PortSpan},
};
use crate::{error::CodedError, name::Name, target::TargetPath};

/// A port or range of ports that an edge opens, and where its streams or datagrams go.
#[derive(Debug, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PortSpec{P}"))]
#[serde(remote = "Self", rename_all = "camelCase", deny_unknown_fields)]
#[serde(bound(deserialize = "P: Deserialize<'de>"))]
pub(crate) struct PortSpec<P> {
    /// Port or range on which the edge listens.
    ///
    /// Unit: port · Range: 1 to 65535, or a range of these
    #[cfg_attr(feature = "schema", schemars(with = "PortText"))]
    port: PortSpan,
    /// Host of the target, as seen from the hub.
    ///
    /// Default: the hub's `targetHost` · Range: name or IP address; a link-local one with its zone, as `fe80::1%eth0`
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    target_host: Option<Host>,
    /// Port of the target; for a range the first one, so that `{ port: "3000-3010", targetPort: 4000 }` goes to 4000 to
    /// 4010. With hub and edge on one machine give this or `targetHost`, or the port leads to itself in a loop.
    ///
    /// Unit: port · Default: the listener's port
    #[cfg_attr(feature = "schema", schemars(with = "Option<std::num::NonZeroU16>"))]
    target_port: Option<Port>,
    /// TCP only: unix socket of the target on the hub's machine, instead of `targetHost` and `targetPort`; all ports of a
    /// range go there. PROXY headers carry the client's address and the listener's, as they do over TCP.
    ///
    /// Default: none · Range: absolute path, or `@` and a name in the abstract namespace; at most 107 bytes
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    target_path: Option<TargetPath>,
    /// Pool of which a target is chosen for each stream or flow, instead of `targetHost`, `targetPort` and `targetPath`: see
    /// [pools.md](pools.md). A target without a port of its own gets the listener's.
    ///
    /// Default: none · Range: name of one of the hub's `pools`, or an `app` of its `routingDb`; `"*"`: all rows of that
    pool: Option<Name>,
    /// Header by which the target learns the client's address. A target that doesn't expect it takes it for payload:
    /// see [targets.md](targets.md) for TCP and [udp.md](udp.md) for UDP.
    ///
    /// Default: `"v1"`; UDP: `"firstDatagram"` · Range: TCP: `"v1"`, `"v2"`, `"none"`; UDP: `"firstDatagram"`,
    /// `"everyDatagram"`, `"none"`
    proxy_protocol: Option<P>,
    /// Address of the edge's machine on which this port listens. With it a port may be there
    /// [on several addresses](configuration.md#one-port-on-several-addresses), each with its own target. It
    /// [needn't be there yet](operations.md#addresses-that-come-later).
    ///
    /// Default: the edge's `bindAddress` · Range: IP address
    bind_address: Option<IpAddr>,
    /// UDP only: ends a flow of this port that had no datagram in either direction for this long, at both ends.
    ///
    /// Unit: s · Default: the hub's `udpIdleTimeoutSecs`
    udp_idle_timeout_secs: Option<NonZeroU32>,
}

/// A port specification in one of its shapes.
#[cfg(feature = "schema")]
#[derive(schemars::JsonSchema)]
#[schemars(untagged, rename = "PortShape{P}", bound = "P: schemars::JsonSchema")]
#[expect(dead_code, reason = "the shape alone is of use")]
pub(crate) enum PortShape<P> {
    Short(PortText),
    Object(PortSpec<P>),
}

impl<P> PortSpec<P> {
    pub(crate) fn has_udp_idle_timeout(&self) -> bool {
        self.udp_idle_timeout_secs.is_some()
    }

    pub(crate) fn has_target_path(&self) -> bool {
        self.target_path.is_some()
    }

    pub(crate) fn target_host(&self) -> Option<&Host> {
        self.target_host.as_ref()
    }
}

impl<P: Default> PortSpec<P> {
    pub(super) fn into_range(self, path: &str) -> Result<PortRange<P>, CodedError> {
        let PortSpan { first, last } = self.port;
        if self.target_path.is_some() && (self.target_host.is_some() || self.target_port.is_some())
        {
            let problem = "is instead of targetHost and targetPort; leave these out";
            return Err(CodedError::invalid_config(
                format!("{path}.targetPath"),
                problem,
            ));
        }
        let has_target =
            self.target_host.is_some() || self.target_port.is_some() || self.target_path.is_some();
        if self.pool.is_some() && has_target {
            let problem = "is instead of targetHost, targetPort and targetPath; leave these out";
            return Err(CodedError::invalid_config(format!("{path}.pool"), problem));
        }
        let target_port = self.target_port.map_or(first, |port| port.0);
        if target_port.checked_add(last - first).is_none() {
            let problem = format!(
                "{} ports from {target_port} on end beyond 65535; use a lower first target",
                self.port.port_count()
            );
            return Err(CodedError::invalid_config(
                format_args!("{path}.targetPort"),
                problem,
            ));
        }
        Ok(PortRange {
            first,
            last,
            target_host: self.target_host,
            target_port,
            target_path: self.target_path,
            pool: self.pool.map(|name| PoolOfPort {
                name,
                says_header: self.proxy_protocol.is_some(),
            }),
            proxy_protocol: self.proxy_protocol.unwrap_or_default(),
            bind_address: self.bind_address,
            udp_idle_timeout: self
                .udp_idle_timeout_secs
                .map(|secs| Duration::from_secs(secs.get().into())),
        })
    }
}

impl<P> From<PortSpan> for PortSpec<P> {
    fn from(port: PortSpan) -> Self {
        Self {
            port,
            target_host: None,
            target_port: None,
            target_path: None,
            pool: None,
            proxy_protocol: None,
            bind_address: None,
            udp_idle_timeout_secs: None,
        }
    }
}

impl<'de, P: Deserialize<'de>> Deserialize<'de> for PortSpec<P> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpecVisitor(PhantomData))
    }
}

struct SpecVisitor<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de>> Visitor<'de> for SpecVisitor<P> {
    type Value = PortSpec<P>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port, a range such as \"20000-20100\" or an object with `port`")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<PortSpec<P>, E> {
        PortSpan::deserialize(number.into_deserializer()).map(PortSpec::from)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PortSpec<P>, E> {
        PortSpan::deserialize(text.into_deserializer()).map(PortSpec::from)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PortSpec<P>, A::Error> {
        // `remote = "Self"` put the derived decoder here, so that the trait's own can take the short forms.
        PortSpec::deserialize(MapAccessDeserializer::new(map))
    }
}
