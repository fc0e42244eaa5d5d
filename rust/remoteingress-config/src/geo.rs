//! Where clients and targets are: the hub's settings of geography, and the file of targets that has it.

use std::{collections::BTreeMap, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{TcpProxyProtocol, error::CodedError, name::Name};

/// A country by the two letters of ISO 3166-1, in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountryCode([u8; 2]);

impl CountryCode {
    /// Two ASCII letters; small ones become capitals.
    pub fn new(text: &str) -> Option<Self> {
        match *text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Some(Self([
                    first.to_ascii_uppercase(),
                    second.to_ascii_uppercase(),
                ]))
            }
            _ => None,
        }
    }

    /// The letters.
    pub fn letters(self) -> [u8; 2] {
        self.0
    }
}

impl<'de> Deserialize<'de> for CountryCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| de::Error::custom("must be two letters, such as BR"))
    }
}

impl Serialize for CountryCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // It has letters only.
        serializer.serialize_str(std::str::from_utf8(&self.0).unwrap_or_default())
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for CountryCode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "CountryCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// A region's name: 1 to 64 letters, digits and hyphens of ASCII; capitals are small letters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionName(Name);

impl RegionName {
    /// Bytes of a region's name: longer than any cloud's.
    pub const MAX_LENGTH: usize = 64;

    /// Checks the text.
    pub fn new(text: &str) -> Option<Self> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let is_name = text.len() <= Self::MAX_LENGTH && text.bytes().all(is_part);
        let name = Name::new(&text.to_ascii_lowercase()).ok();
        name.filter(|_| is_name).map(Self)
    }

    /// A name that somebody else has chosen, made to fit: other characters become hyphens, and a longer text is cut.
    pub fn from_any(text: &str) -> Option<Self> {
        let part = |letter: char| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        };
        let name: String = text.chars().take(Self::MAX_LENGTH).map(part).collect();
        Self::new(&name)
    }

    /// In small letters.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<'de> Deserialize<'de> for RegionName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::new(&text).ok_or_else(|| {
            de::Error::custom("must have 1 to 64 letters, digits and hyphens, such as eu-west")
        })
    }
}

impl Serialize for RegionName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RegionName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "RegionName".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// Where clients are, by the country of their address, see [pools.md](pools.md#geography).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct GeoConfig {
    /// Database in MaxMind's format that tells the country of an address; none is shipped. It is read again within 0.5 s
    /// of a change; a file that is broken changes nothing.
    ///
    /// Default: none · Range: path, not empty
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database: Option<PathBuf>,
    /// Regions of countries, by their two letters, where they aren't those of the
    /// [default table](pools.md#regions): `{ "TR": "eu" }`.
    ///
    /// Default: `{}`
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub regions: BTreeMap<CountryCode, RegionName>,
    /// Region of clients whose country isn't known.
    ///
    /// Default: none: only the region of the edge that they came to counts · Range: [a region](#regions)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_region: Option<RegionName>,
}

/// Targets from edgeProxy's database, see [migrate-edgeproxy.md](migrate-edgeproxy.md).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoutingDbConfig {
    /// SQLite file with a table `backends`. It is only read; a change of it is in force within 0.5 s. A row that can't
    /// be a target is refused alone, and a file that can't be read changes nothing.
    ///
    /// Range: path, not empty
    pub path: PathBuf,
    /// PROXY header for targets of rows where the port doesn't give one. Over UDP `"v1"` and `"v2"` are
    /// `"firstDatagram"`.
    ///
    /// Default: `"none"`, as edgeProxy has it
    #[serde(default = "no_header")]
    pub proxy_protocol: TcpProxyProtocol,
}

fn no_header() -> TcpProxyProtocol {
    TcpProxyProtocol::None
}

impl GeoConfig {
    pub(crate) fn check(&self) -> Result<(), CodedError> {
        let is_empty = |path: &PathBuf| path.as_os_str().is_empty();
        if self.database.as_ref().is_some_and(is_empty) {
            return Err(CodedError::invalid_config(
                "geo.database",
                "must not be empty",
            ));
        }
        Ok(())
    }
}

impl RoutingDbConfig {
    pub(crate) fn check(&self) -> Result<(), CodedError> {
        if self.path.as_os_str().is_empty() {
            return Err(CodedError::invalid_config(
                "routingDb.path",
                "must not be empty",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_regions_are_small() {
        let name = |text: &str| RegionName::new(text).map(|name| name.as_str().to_owned());
        assert_eq!(name("EU-West-1").as_deref(), Some("eu-west-1"));
        for text in ["", "a b", "é", &"a".repeat(65)] {
            assert_eq!(name(text), None);
        }
        let any = |text: &str| RegionName::from_any(text).map(|name| name.as_str().to_owned());
        assert_eq!(any("São Paulo").as_deref(), Some("s-o-paulo"));
        assert_eq!(any(&"a".repeat(100)), Some("a".repeat(64)));
        assert_eq!(any(""), None);
    }

    #[test]
    fn countries_are_two_letters() {
        assert_eq!(
            CountryCode::new("br").map(CountryCode::letters),
            Some(*b"BR")
        );
        assert!(
            ["", "b", "bra", "1r", "é"]
                .map(CountryCode::new)
                .iter()
                .all(Option::is_none)
        );
    }
}
