//! A secret string: wiped from memory when dropped, never printed, compared in constant time.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The text that edge and hub both know; also that of a private key.
///
/// There is no `Serialize` and no `Display`: whoever writes a secret out has to say `expose`.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over; the caller has no copy that it keeps.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself: never for a log or an error.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// True if there is no text at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Too short to withstand offline guessing by someone who has seen a proof made with it.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.0.len() < WEAK_BELOW
    }

    /// As long as 32 random bytes in base64url, which `remoteingress-bin secret` prints: what is derived from it may be shown
    /// to strangers, who can't guess it offline.
    #[must_use]
    pub fn withstands_guessing(&self) -> bool {
        self.0.len() >= RANDOM_LENGTH
    }
}

/// Constant in the content; the lengths are not hidden.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Not `deserialize_string`: its error for a number would quote the number.
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Secret, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Secret, E> {
        let secret = Secret::new(text);
        if secret.is_empty() {
            refuse()
        } else {
            Ok(secret)
        }
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Secret, E> {
        refuse()
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Secret, E> {
        refuse()
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Secret, E> {
        refuse()
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Secret, E> {
        refuse()
    }

    fn visit_unit<E: Error>(self) -> Result<Secret, E> {
        refuse()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        refuse()
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Secret, A::Error> {
        refuse()
    }
}

fn refuse<E: Error>() -> Result<Secret, E> {
    Err(E::custom(format_args!("must be {EXPECTED}")))
}

const EXPECTED: &str = "a string that is not empty";

/// Bytes. 16 random ones are 128 bits; text of that length is the least we let pass without a word.
const WEAK_BELOW: usize = 16;
/// Bytes of base64url that 32 bytes take.
const RANDOM_LENGTH: usize = 43;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_not_shown_by_debug() {
        let secret = Secret::new("canary".into());
        assert_eq!(
            format!("{secret:?} {:?}", Some(&secret)),
            "[redacted] Some([redacted])"
        );
    }

    #[test]
    fn compares_by_content() {
        assert_eq!(Secret::new("same".into()), Secret::new("same".into()));
        assert_ne!(Secret::new("same".into()), Secret::new("sane".into()));
        assert_ne!(
            Secret::new("same".into()),
            Secret::new("same and more".into())
        );
    }

    #[test]
    fn is_weak_below_16_bytes() {
        assert!(Secret::new("a".repeat(15)).is_weak());
        assert!(!Secret::new("a".repeat(16)).is_weak());
        assert!(!Secret::new("é".repeat(8)).is_weak());
    }

    #[test]
    fn withstands_guessing_from_32_random_bytes_on() {
        assert!(!Secret::new("a".repeat(42)).withstands_guessing());
        assert!(Secret::new("a".repeat(43)).withstands_guessing());
    }

    #[test]
    fn wrong_json_is_refused_without_quoting_it() {
        for json in [
            "\"\"",
            "31337",
            "-31337",
            "31337.5",
            "true",
            "null",
            "[31337]",
            "{\"31337\":1}",
        ] {
            let from_text = serde_json::from_str::<Secret>(json)
                .unwrap_err()
                .to_string();
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            let from_value = serde_json::from_value::<Secret>(value)
                .unwrap_err()
                .to_string();
            for error in [from_text, from_value] {
                assert!(
                    error.starts_with("must be a string that is not empty"),
                    "{error}"
                );
                assert!(!error.contains("31337"), "{error}");
            }
        }
    }
}
