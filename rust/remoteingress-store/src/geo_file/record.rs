//! The country in a record, whoever made the database.

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// The country of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Country {
    /// Two capital letters (ISO 3166).
    pub code: [u8; 2],
    /// Two capital letters, such as EU; not every database tells it.
    pub continent: Option<[u8; 2]>,
}

/// The fields of a record that may tell a country; all others are skipped, which checks their shape too.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    country: Place,
    registered_country: Place,
    country_code: Place,
    continent: Place,
    continent_code: Place,
}

impl Record {
    /// The first that has one.
    pub(super) fn country(&self) -> Option<Country> {
        let code = self.country.0;
        let code = code.or(self.registered_country.0).or(self.country_code.0)?;
        let continent = self.continent.0.or(self.continent_code.0);
        Some(Country { code, continent })
    }
}

/// The two letters of a value: a text, or a map that has them as `iso_code` or `code`. Any other value has none.
#[derive(Clone, Copy, Debug, Default)]
struct Place(Option<[u8; 2]>);

impl Place {
    fn of(text: &str) -> Self {
        match *text.as_bytes() {
            [first, second] if first.is_ascii_alphabetic() && second.is_ascii_alphabetic() => {
                Self(Some([
                    first.to_ascii_uppercase(),
                    second.to_ascii_uppercase(),
                ]))
            }
            _ => Self(None),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlaceVisitor)
    }
}

struct PlaceVisitor;

impl<'de> Visitor<'de> for PlaceVisitor {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of MaxMind's format")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Place, A::Error> {
        let mut place = Place::default();
        while let Some(key) = map.next_key::<&str>()? {
            if matches!(key, "iso_code" | "code") {
                place = map.next_value()?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(place)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Place, E> {
        Ok(Place::of(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Place, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Place::default())
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Place, E> {
        Ok(Place::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Place, E> {
        Ok(Place::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Place, E> {
        Ok(Place::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Place, E> {
        Ok(Place::default())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Place, E> {
        Ok(Place::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Place, E> {
        Ok(Place::default())
    }
}
