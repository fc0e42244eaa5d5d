//! The name of an edge, as the operator chose it.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// 1 to 128 bytes of UTF-8 without control characters. A clone costs one counter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(Arc<str>);

impl EdgeId {
    /// Bytes. Long enough for a host name label with a suffix, short enough for every log line and for a Hello.
    pub const MAX_LENGTH: usize = 128;

    /// Checks the text, and keeps it as it is: no trimming, no change of case.
    pub fn new(text: &str) -> Result<Self, EdgeIdError> {
        if text.is_empty() {
            return Err(EdgeIdError::Empty);
        }
        if text.len() > Self::MAX_LENGTH {
            return Err(EdgeIdError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(EdgeIdError::ControlCharacter);
        }
        Ok(Self(text.into()))
    }

    /// As it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for EdgeId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EdgeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for EdgeId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for EdgeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// Reason why a text is no edge id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EdgeIdError {
    /// It has no characters.
    #[error("must not be empty")]
    Empty,
    /// Beyond [`EdgeId::MAX_LENGTH`] bytes of UTF-8.
    #[error("must be at most {} bytes long", EdgeId::MAX_LENGTH)]
    TooLong,
    /// It could forge lines of a log.
    #[error("must not contain control characters")]
    ControlCharacter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert_eq!(EdgeId::new(""), Err(EdgeIdError::Empty));
        assert!(EdgeId::new(&"é".repeat(64)).is_ok());
        assert_eq!(
            EdgeId::new(&format!("{}x", "é".repeat(64))),
            Err(EdgeIdError::TooLong)
        );
        for bad in ["a\nb", "\0", "a\u{7f}", "a\u{85}"] {
            assert_eq!(EdgeId::new(bad), Err(EdgeIdError::ControlCharacter));
        }
        assert_eq!(EdgeId::new("Büro 1").unwrap().as_str(), "Büro 1");
    }

    #[test]
    fn json_is_the_bare_string() {
        let id = EdgeId::new("edge-nyc-01").unwrap();
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"edge-nyc-01\"");
        assert_eq!(
            serde_json::from_str::<EdgeId>("\"edge-nyc-01\"").unwrap(),
            id
        );
        assert!(serde_json::from_str::<EdgeId>("\"\"").is_err());
    }
}
