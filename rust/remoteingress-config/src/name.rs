//! Names that an operator chooses: of pools, of targets, of regions.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The text is no name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to {} bytes and no control characters", Name::MAX_LENGTH)]
pub struct NameError;

/// 1 to 128 bytes of UTF-8 without control characters. A clone costs one counter.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Bytes: it fits into a line of the log, and into a path of the REST interface.
    pub const MAX_LENGTH: usize = 128;

    /// Checks the text, and keeps it as it is.
    ///
    /// # Errors
    /// It is empty, too long, or has control characters.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let is_name = !text.is_empty() && text.len() <= Self::MAX_LENGTH;
        if is_name && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(NameError)
        }
    }

    /// What is left of a longer text; control characters become hyphens.
    pub fn cut(text: &str) -> Self {
        let printable = |letter: char| if letter.is_control() { '-' } else { letter };
        let mut name: String = text.chars().map(printable).collect();
        while name.len() > Self::MAX_LENGTH {
            name.pop();
        }
        Self(name.into())
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Name {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Name".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_printable() {
        let longest = "é".repeat(Name::MAX_LENGTH / 2);
        for text in ["web", "*", "a b", longest.as_str()] {
            assert_eq!(Name::new(text).unwrap().as_str(), text);
        }
        let longer = format!("{longest}a");
        for text in ["", "a\nb", "\0", longer.as_str()] {
            assert_eq!(Name::new(text), Err(NameError), "{text:?}");
        }
    }
}
