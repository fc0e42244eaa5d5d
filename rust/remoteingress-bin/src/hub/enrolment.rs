//! Connection tokens: what an edge needs to know to come together with its hub.

use remoteingress_config::AllowedEdge;
use remoteingress_config::error::CodedError;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::pin::Pin;
use remoteingress_proto::token::{Access, ConnectionToken, ListenTunnel};

/// Where an edge that dials reaches the hub.
#[derive(Clone, Copy)]
pub(crate) struct HubPlace<'a> {
    /// Host and port, if they were given.
    pub(crate) address: Option<(&'a str, u16)>,
    /// The name of the host where it was asked for: a field or an option.
    pub(crate) field: &'static str,
    /// The hub has a tunnel port.
    pub(crate) listens: bool,
}

/// The connection token of an edge.
pub(crate) fn token(
    allowed: &AllowedEdge,
    pin: Option<Pin>,
    hub: HubPlace<'_>,
) -> Result<String, CodedError> {
    let HubPlace {
        address,
        field,
        listens,
    } = hub;
    let access = match (&allowed.dial, address) {
        (Some(dial), None) => Access::Listen(ListenTunnel {
            port: dial.port,
            bind_address: None,
        }),
        (Some(_), Some(_)) => {
            let problem = "is for an edge that dials; this hub dials the edge, so leave it out";
            return Err(CodedError::invalid_config(field, problem));
        }
        (None, _) if !listens => {
            let problem =
                "is false, so no edge reaches this hub: give the edge a dial, and the hub dials it";
            return Err(CodedError::invalid_config("listen", problem));
        }
        (None, None) => {
            let problem = "is missing: the edge needs to know where it reaches this hub";
            return Err(CodedError::invalid_config(field, problem));
        }
        (None, Some((hub_host, hub_port))) => Access::Dial {
            hub_host: Host::new(hub_host)
                .map_err(|error| CodedError::invalid_config(field, error))?,
            hub_port,
            hub_pins: pin.into_iter().collect(),
        },
    };
    let token = ConnectionToken {
        access,
        edge_id: allowed.id.clone(),
        secret: allowed.secret.clone(),
        extra: serde_json::Map::new(),
    };
    Ok(token.encode()?)
}
