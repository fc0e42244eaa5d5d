//! How the targets of a pool are checked.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;

use remoteingress_proto::token::host::Host;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{TcpProxyProtocol, error::CodedError};

/// How a target is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CheckKind {
    /// It accepts a connection.
    Tcp,
    /// It answers a GET with a status that is wanted.
    Http,
    /// It answers a datagram with the bytes that are expected.
    Udp,
}

/// Checks of a pool's targets, see [pools.md](pools.md#checks).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "schema", schemars(rename = "PoolCheck"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckConfig {
    /// `"tcp"` connects, `"http"` sends a GET, `"udp"` sends a datagram and expects another.
    #[serde(rename = "type")]
    pub kind: CheckKind,
    /// Port to check.
    ///
    /// Unit: port · Default: the target's, which needs one then
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<NonZeroU16>,
    /// `"http"`: path of the GET.
    ///
    /// Default: `"/"` · Range: begins with a slash, without spaces or control characters
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `"http"`: value of the Host header.
    ///
    /// Default: the target's host
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub host: Option<Host>,
    /// `"http"`: statuses that are good. A redirect isn't followed.
    ///
    /// Default: `"200-399"` · Range: a status or two with a hyphen, from 100 to 599
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<StatusRange>,
    /// `"http"`: text that the first 16 KiB of the body must have.
    ///
    /// Default: none · Range: 1 to 1,024 bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// `"udp"`: bytes of the datagram, in hexadecimal.
    ///
    /// Default: none: an empty datagram · Range: at most 1,024 bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send: Option<Bytes>,
    /// `"udp"`: bytes with which the answer begins, in hexadecimal. Without them anything would count as good.
    ///
    /// Default: must be given · Range: 1 to 1,024 bytes
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Bytes>,
    /// Pause between two checks of a target, ± 10 %. While its state is about to change it is 1 s at most.
    ///
    /// Unit: s · Default: 10 · Range: from 1
    #[serde(default = "interval")]
    pub interval_secs: NonZeroU32,
    /// A target that answers later has failed the check.
    ///
    /// Unit: s · Default: 2 · Range: from 1
    #[serde(default = "timeout")]
    pub timeout_secs: NonZeroU32,
    /// Failed checks in a row after which a target is down.
    ///
    /// Unit: checks · Default: 3 · Range: from 1
    #[serde(default = "fall")]
    pub fall: NonZeroU16,
    /// Good checks in a row after which it is up again.
    ///
    /// Unit: checks · Default: 2 · Range: from 1
    #[serde(default = "rise")]
    pub rise: NonZeroU16,
    /// PROXY header that goes ahead, with the hub as its own client. Over UDP `"v1"` and `"v2"` are `"firstDatagram"`.
    ///
    /// Default: that of the [first port](pools.md#checks) that names the pool
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_protocol: Option<TcpProxyProtocol>,
}

fn interval() -> NonZeroU32 {
    const { NonZeroU32::new(10).unwrap() }
}

fn timeout() -> NonZeroU32 {
    const { NonZeroU32::new(2).unwrap() }
}

fn fall() -> NonZeroU16 {
    const { NonZeroU16::new(3).unwrap() }
}

fn rise() -> NonZeroU16 {
    const { NonZeroU16::new(2).unwrap() }
}

/// Bytes that a check sends or expects, written in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

/// Bytes that a check sends, expects or looks for.
const MAX_BYTES: usize = 1_024;

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || {
            let problem =
                format!("must be an even number of hexadecimal digits, at most {MAX_BYTES} bytes");
            de::Error::custom(problem)
        };
        if text.len() > 2 * MAX_BYTES || !text.len().is_multiple_of(2) {
            return Err(wrong());
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let byte = |pair: &[u8]| match *pair {
            [high, low] => u8::try_from(digit(high)? << 4 | digit(low)?).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Self).ok_or_else(wrong)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&text)
    }
}

/// Statuses of HTTP, from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

impl Default for StatusRange {
    /// 200 to 399.
    fn default() -> Self {
        Self(200..=399)
    }
}

impl<'de> Deserialize<'de> for StatusRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (first, last) = text.split_once('-').unwrap_or((&text, &text));
        let number = |text: &str| {
            let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_number);
            number.filter(|number| (100..=599).contains(number))
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(de::Error::custom(
                "must be a status from 100 to 599, or two with a hyphen, such as 200-299",
            )),
        }
    }
}

impl Serialize for StatusRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, last) = (self.0.start(), self.0.end());
        serializer.collect_str(&format_args!("{first}-{last}"))
    }
}

/// Both are texts in JSON.
#[cfg(feature = "schema")]
macro_rules! text_in_schema {
    ($($name:ident)+) => {$(
        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string" })
            }
        }
    )+};
}
#[cfg(feature = "schema")]
text_in_schema!(Bytes StatusRange);

impl CheckConfig {
    pub(super) fn check(&self, path: &str) -> Result<(), CodedError> {
        let fault = |field: &str, problem: &str| {
            Err(CodedError::invalid_config(
                format!("{path}.{field}"),
                problem,
            ))
        };
        let of_http = [
            ("path", self.path.is_some()),
            ("host", self.host.is_some()),
            ("status", self.status.is_some()),
            ("text", self.text.is_some()),
        ];
        let of_udp = [
            ("send", self.send.is_some()),
            ("expect", self.expect.is_some()),
        ];
        let given = |fields: &[(&'static str, bool)]| {
            let found = fields.iter().find(|(_, is_given)| *is_given);
            found.map(|(name, _)| *name)
        };
        if self.kind != CheckKind::Http
            && let Some(field) = given(&of_http)
        {
            return fault(field, "is for the type http");
        }
        if self.kind != CheckKind::Udp
            && let Some(field) = given(&of_udp)
        {
            return fault(field, "is for the type udp");
        }
        if self.kind == CheckKind::Udp
            && self.expect.as_ref().is_none_or(|bytes| bytes.0.is_empty())
        {
            let problem = "must be given: without it every answer, or none, would count as good";
            return fault("expect", problem);
        }
        if let Some(text) = &self.path {
            let is_path = text.starts_with('/')
                && text.len() <= MAX_BYTES
                && text.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_path {
                let problem = "must begin with a slash and have printable ASCII without spaces, at most 1024 bytes";
                return fault("path", problem);
            }
        }
        if let Some(text) = &self.text
            && !(1..=MAX_BYTES).contains(&text.len())
        {
            return fault("text", "must have 1 to 1024 bytes");
        }
        Ok(())
    }
}
