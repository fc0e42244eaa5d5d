//! Names of hosts in the one form in which they are compared, and patterns of them.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Bytes of a name without its last dot (RFC 1035, 2.3.4, of which the length and the root take two).
pub const MAX_HOST_NAME: usize = 253;
/// Bytes of a label (RFC 1035, 2.3.4).
pub const MAX_LABEL: usize = 63;

/// The name of a host: lower case, without the last dot, of labels of letters, digits, `-` and `_`. An international name
/// is its A-labels (`xn--…`).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(Arc<str>);

/// Why a text is no name of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostNameError {
    /// Nothing, or only a dot.
    #[error("it is empty")]
    Empty,
    /// Over [`MAX_HOST_NAME`].
    #[error("it has more than {MAX_HOST_NAME} bytes")]
    TooLong,
    /// A label is empty, or over [`MAX_LABEL`].
    #[error("each of its labels must have 1 to {MAX_LABEL} bytes")]
    Label,
    /// An international name must be written in A-labels.
    #[error(
        "it may have letters, digits, \"-\" and \"_\" alone; write an international name as xn--…"
    )]
    Character,
    /// IPv4 addresses look like names.
    #[error("it is an IP address")]
    Address,
}

impl HostName {
    /// Reads a name, whatever its case, with or without the last dot.
    ///
    /// # Errors
    /// It is none.
    pub fn new(text: &[u8]) -> Result<Self, HostNameError> {
        let text = text.strip_suffix(b".").unwrap_or(text);
        if text.is_empty() {
            return Err(HostNameError::Empty);
        }
        if text.len() > MAX_HOST_NAME {
            return Err(HostNameError::TooLong);
        }
        let mut name = String::with_capacity(text.len());
        for label in text.split(|byte| *byte == b'.') {
            if label.is_empty() || label.len() > MAX_LABEL {
                return Err(HostNameError::Label);
            }
            if !name.is_empty() {
                name.push('.');
            }
            for byte in label {
                if !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'_') {
                    return Err(HostNameError::Character);
                }
                name.push(byte.to_ascii_lowercase().into());
            }
        }
        // No top level is all digits: a name that ends so is read as an address by some, and as a name by others.
        let last = name.rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostNameError::Address);
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl Borrow<str> for HostName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// Names that a route is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This one: `app.example.com`.
    Exact(HostName),
    /// Those with one label more than this: `*.example.com`. A certificate's wildcard covers the same.
    Children(HostName),
    /// Those with any number of labels more: `**.example.com`.
    Descendants(HostName),
    /// This one below any top level: `example.*`.
    TopLevels(HostName),
    /// All, and connections that name none: `*`.
    All,
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error: HostNameError| {
            format!(
                "must be a name, or one with * as its first or last label, or ** as its first: {error}"
            )
        };
        let name = |text: &str| HostName::new(text.as_bytes()).map_err(wrong);
        if text == "*" {
            Ok(Self::All)
        } else if let Some(rest) = text.strip_prefix("**.") {
            name(rest).map(Self::Descendants)
        } else if let Some(rest) = text.strip_prefix("*.") {
            name(rest).map(Self::Children)
        } else if let Some(rest) = text.strip_suffix(".*") {
            name(rest).map(Self::TopLevels)
        } else {
            name(text).map(Self::Exact)
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Children(name) => write!(f, "*.{name}"),
            Self::Descendants(name) => write!(f, "**.{name}"),
            Self::TopLevels(name) => write!(f, "{name}.*"),
            Self::All => write!(f, "*"),
        }
    }
}

impl Serialize for HostPattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HostPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_form() {
        for text in ["App.Example.COM", "app.example.com", "app.example.com."] {
            assert_eq!(
                HostName::new(text.as_bytes()).unwrap().as_str(),
                "app.example.com"
            );
        }
        assert_eq!(
            HostName::new(b"_dmarc.xn--bcher-kva.example")
                .unwrap()
                .to_string(),
            "_dmarc.xn--bcher-kva.example"
        );
    }

    #[test]
    fn what_is_no_name_says_why() {
        let long = [b'a'; MAX_LABEL + 1];
        let longest = format!("{}.com", vec!["a"; 125].join("."));
        assert_eq!(longest.len(), MAX_HOST_NAME);
        HostName::new(longest.as_bytes()).unwrap();
        for (text, error) in [
            (&b""[..], HostNameError::Empty),
            (b".", HostNameError::Empty),
            (b"a..b", HostNameError::Label),
            (b".a", HostNameError::Label),
            (b"a.com..", HostNameError::Label),
            (&long, HostNameError::Label),
            (b"a b.com", HostNameError::Character),
            (b"a\0.com", HostNameError::Character),
            ("bücher.example".as_bytes(), HostNameError::Character),
            (b"*.example.com", HostNameError::Character),
            (b"[::1]", HostNameError::Character),
            (b"192.0.2.1", HostNameError::Address),
            (b"1", HostNameError::Address),
            (format!("a{longest}").as_bytes(), HostNameError::TooLong),
        ] {
            assert_eq!(HostName::new(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn a_pattern_has_one_form() {
        for (text, form) in [
            ("App.Example.com.", "app.example.com"),
            ("*.Example.com", "*.example.com"),
            ("**.example.com", "**.example.com"),
            ("example.*", "example.*"),
            ("*", "*"),
        ] {
            let pattern: HostPattern = serde_json::from_value(text.into()).unwrap();
            assert_eq!(pattern.to_string(), form);
            assert_eq!(serde_json::to_value(&pattern).unwrap(), form);
        }
        for text in [
            "",
            "**",
            "*.",
            "a.*.com",
            "*.example.*",
            "a*.example.com",
            "*example.com",
            "http://a.example",
            "a.example:443",
        ] {
            let refused = text.parse::<HostPattern>().unwrap_err();
            assert!(refused.starts_with("must be a name"), "{text}: {refused}");
        }
    }
}
