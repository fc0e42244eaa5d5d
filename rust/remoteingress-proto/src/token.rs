//! The connection token: what an operator pastes into an edge so that it finds its hub and both can prove themselves.
//!
//! It is base64url without padding over a JSON object with `edgeId`, `secret`, and the end that dials: `hubHost`,
//! `hubPort` and, when the hub's key lasts, `hubPins` where the edge dials, `listenTunnel` where the hub does. Fields that this version doesn't know are kept apart in `extra` and written back. No error
//! quotes the token: it holds the secret.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use serde_json::{Map, Value};
use std::net::IpAddr;
use zeroize::Zeroizing;

pub mod edge_id;
pub mod host;
pub mod pin;
pub mod secret;

use self::{edge_id::EdgeId, host::Host, pin::Pin, secret::Secret};

/// A token as its fields.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionToken {
    /// The end that dials, and what it needs for that.
    pub access: Access,
    /// The edge that the token enrols.
    pub edge_id: EdgeId,
    /// Edge and hub prove to each other that they know it; never empty.
    pub secret: Secret,
    /// Fields of later versions.
    pub extra: Map<String, Value>,
}

/// How edge and hub come together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// The edge dials.
    Dial {
        /// Where the hub is.
        hub_host: Host,
        /// The hub's port for tunnels, TCP and UDP; never 0.
        hub_port: u16,
        /// At most [`Pin::MAX_PER_TOKEN`]; none where the hub's key doesn't last.
        hub_pins: Vec<Pin>,
    },
    /// The hub dials.
    Listen(ListenTunnel),
}

/// Where an edge listens for its hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenTunnel {
    /// The port, TCP and UDP; never 0.
    pub port: u16,
    /// Absent: every address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_address: Option<IpAddr>,
}

impl ConnectionToken {
    /// Characters. A token of today takes about 250; the bound is checked before anything is decoded.
    pub const MAX_LENGTH: usize = 2_048;

    /// Reads a token; white space around it (a pasted line end) is ignored.
    pub fn decode(text: &str) -> Result<Self, TokenError> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c == BYTE_ORDER_MARK);
        if text.is_empty() {
            return Err(TokenError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(TokenError::TooLong);
        }
        let json = Zeroizing::new(
            URL_SAFE_NO_PAD
                .decode(text)
                .map_err(|_| TokenError::NotBase64)?,
        );
        let Ok(Value::Object(mut fields)) = serde_json::from_slice(&json) else {
            return Err(TokenError::NotJson);
        };
        let secret = Secret::new(take_text(&mut fields, "secret")?);
        if secret.is_empty() {
            return Err(TokenError::invalid("secret", "must not be empty"));
        }
        Ok(Self {
            access: take_access(&mut fields)?,
            edge_id: EdgeId::new(&take_text(&mut fields, "edgeId")?)
                .map_err(|error| TokenError::invalid("edgeId", error))?,
            secret,
            extra: fields,
        })
    }

    /// Writes the token, or says which field couldn't be read back.
    pub fn encode(&self) -> Result<String, TokenError> {
        let (hub_host, hub_port, hub_pins, listen_tunnel) = match &self.access {
            Access::Dial { hub_port: 0, .. } => {
                return Err(TokenError::invalid("hubPort", PORT_RANGE));
            }
            Access::Listen(ListenTunnel { port: 0, .. }) => {
                return Err(TokenError::invalid("listenTunnel.port", PORT_RANGE));
            }
            Access::Dial {
                hub_host,
                hub_port,
                hub_pins,
            } => (Some(hub_host), Some(*hub_port), hub_pins.as_slice(), None),
            Access::Listen(listen) => (None, None, [].as_slice(), Some(*listen)),
        };
        if self.secret.is_empty() {
            return Err(TokenError::invalid("secret", "must not be empty"));
        }
        if hub_pins.len() > Pin::MAX_PER_TOKEN {
            return Err(TokenError::invalid("hubPins", PIN_COUNT));
        }
        if let Some(known) = FIELDS.iter().find(|field| self.extra.contains_key(**field)) {
            return Err(TokenError::invalid(
                *known,
                "must not be among the extra fields",
            ));
        }
        let fields = Fields {
            hub_host,
            hub_port,
            listen_tunnel,
            edge_id: &self.edge_id,
            secret: self.secret.expose(),
            hub_pins,
            extra: &self.extra,
        };
        // A buffer of fixed size: nothing is left behind by growing, and running out of it is the length check.
        let mut json = Zeroizing::new([0; Self::MAX_LENGTH / 4 * 3]);
        let mut rest = &mut json[..];
        serde_json::to_writer(&mut rest, &fields).map_err(|_| TokenError::TooLong)?;
        let free = rest.len();
        Ok(URL_SAFE_NO_PAD.encode(&json[..json.len() - free]))
    }
}

/// Of `extra` only the names: a later version may put a secret there.
impl fmt::Debug for ConnectionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionToken")
            .field("access", &self.access)
            .field("edge_id", &self.edge_id)
            .field("secret", &self.secret)
            .field("extra", &self.extra.keys().collect::<Vec<_>>())
            .finish()
    }
}

/// Reason why a token can't be read or written. No variant quotes the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Nothing but white space.
    #[error("the token is empty")]
    Empty,
    /// Beyond [`ConnectionToken::MAX_LENGTH`].
    #[error("the token is longer than {} characters", ConnectionToken::MAX_LENGTH)]
    TooLong,
    /// A character of another alphabet, padding, or a wrong length.
    #[error("the token is not base64url without padding; copy it whole, without line breaks")]
    NotBase64,
    /// The decoded bytes are something else, as in a token cut short.
    #[error("the token does not hold a JSON object; copy it whole or make a new one")]
    NotJson,
    /// A field that every token has.
    #[error("the token's {field} is missing")]
    Missing {
        /// Its name in the JSON object.
        field: &'static str,
    },
    /// A field whose value isn't allowed.
    #[error("the token's {field} {problem}")]
    Invalid {
        /// Its name in the JSON object, with the index where it is a list.
        field: String,
        /// Completes a sentence that begins with the field.
        problem: String,
    },
}

impl TokenError {
    fn invalid(field: impl Into<String>, problem: impl ToString) -> Self {
        Self::Invalid {
            field: field.into(),
            problem: problem.to_string(),
        }
    }
}

/// The JSON object, in the order in which it is written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Fields<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_host: Option<&'a Host>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listen_tunnel: Option<ListenTunnel>,
    edge_id: &'a EdgeId,
    secret: &'a str,
    #[serde(skip_serializing_if = "<[Pin]>::is_empty")]
    hub_pins: &'a [Pin],
    #[serde(flatten)]
    extra: &'a Map<String, Value>,
}

/// The end that dials: the fields of the other one must not be there.
fn take_access(fields: &mut Map<String, Value>) -> Result<Access, TokenError> {
    let Some(listen) = fields.remove("listenTunnel") else {
        return Ok(Access::Dial {
            hub_host: Host::new(&take_text(fields, "hubHost")?)
                .map_err(|error| TokenError::invalid("hubHost", error))?,
            hub_port: take_port(fields, "hubPort")?,
            hub_pins: take_pins(fields)?,
        });
    };
    for field in ["hubHost", "hubPort", "hubPins"] {
        if fields.contains_key(field) {
            return Err(TokenError::invalid(
                field,
                "must not stand beside listenTunnel",
            ));
        }
    }
    let Value::Object(mut listen) = listen else {
        return Err(TokenError::invalid("listenTunnel", "must be an object"));
    };
    let port = take_port(&mut listen, "port")
        .map_err(|_| TokenError::invalid("listenTunnel.port", PORT_RANGE))?;
    let bind_address = match listen.remove("bindAddress") {
        None => None,
        Some(address) => {
            let parsed = address.as_str().and_then(|text| text.parse().ok());
            let problem =
                || TokenError::invalid("listenTunnel.bindAddress", "must be an IP address");
            Some(parsed.ok_or_else(problem)?)
        }
    };
    Ok(Access::Listen(ListenTunnel { port, bind_address }))
}

fn take(fields: &mut Map<String, Value>, field: &'static str) -> Result<Value, TokenError> {
    fields.remove(field).ok_or(TokenError::Missing { field })
}

fn take_text(fields: &mut Map<String, Value>, field: &'static str) -> Result<String, TokenError> {
    if let Value::String(text) = take(fields, field)? {
        Ok(text)
    } else {
        Err(TokenError::invalid(field, "must be a string"))
    }
}

fn take_port(fields: &mut Map<String, Value>, field: &'static str) -> Result<u16, TokenError> {
    take(fields, field)?
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .filter(|port| *port != 0)
        .ok_or_else(|| TokenError::invalid(field, PORT_RANGE))
}

fn take_pins(fields: &mut Map<String, Value>) -> Result<Vec<Pin>, TokenError> {
    let list = match fields.remove("hubPins") {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= Pin::MAX_PER_TOKEN => list,
        Some(_) => return Err(TokenError::invalid("hubPins", PIN_COUNT)),
    };
    let parse = |(index, pin): (usize, &Value)| {
        pin.as_str()
            .unwrap_or_default()
            .parse()
            .map_err(|error| TokenError::invalid(format!("hubPins[{index}]"), error))
    };
    list.iter().enumerate().map(parse).collect()
}

const FIELDS: [&str; 6] = [
    "hubHost",
    "hubPort",
    "listenTunnel",
    "edgeId",
    "secret",
    "hubPins",
];
const PORT_RANGE: &str = "must be a whole number from 1 to 65535";
const PIN_COUNT: &str = "must be a list of at most 4 pins";
/// Some editors put it in front of a text file.
const BYTE_ORDER_MARK: char = '\u{feff}';

#[cfg(test)]
mod tests;
