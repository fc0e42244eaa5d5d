//! How far a target is from a client, by their regions.

use std::collections::HashMap;
use std::fmt;

/// A region's name, as targets, edges and countries share it: `sa`, `us`, `eu`, `ap`, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u16);

/// A country by the two letters of ISO 3166-1, in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Country(pub [u8; 2]);

impl Country {
    /// The letters.
    pub fn text(self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

/// The most names of regions that a hub knows: rows of a database may bring one each, and a number is never reused.
pub const MAX_REGIONS: usize = 4_096;
/// Bytes of a region's name. Chosen: those of clouds have up to 25.
pub const MAX_REGION_NAME: usize = 64;

/// The names of regions and their numbers. A name keeps its number for ever, so plans of any age agree on it.
#[derive(Clone, Debug, Default)]
pub struct RegionNames {
    ids: HashMap<Box<str>, RegionId>,
    /// By number.
    names: Vec<Box<str>>,
}

/// Why a region can't have this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionNameError {
    /// It isn't 1 to [`MAX_REGION_NAME`] letters of ASCII, digits and hyphens.
    Malformed,
    /// There are [`MAX_REGIONS`] others.
    TooMany,
}

impl fmt::Display for RegionNameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed => write!(
                f,
                "a region's name has 1 to {MAX_REGION_NAME} letters a to z, digits and hyphens"
            ),
            Self::TooMany => write!(
                f,
                "there are {MAX_REGIONS} names of regions already; use one of them, or restart the hub to forget old ones"
            ),
        }
    }
}

impl std::error::Error for RegionNameError {}

impl RegionNames {
    /// No name yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of this name, a new one if it is new. Capitals are small letters: edgeProxy reads them so.
    ///
    /// # Errors
    /// It is no name of a region, or there are too many.
    pub fn intern(&mut self, name: &str) -> Result<RegionId, RegionNameError> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        if name.is_empty() || name.len() > MAX_REGION_NAME || !name.bytes().all(is_part) {
            return Err(RegionNameError::Malformed);
        }
        let name = name.to_ascii_lowercase().into_boxed_str();
        if let Some(id) = self.ids.get(&name) {
            return Ok(*id);
        }
        if self.names.len() >= MAX_REGIONS {
            return Err(RegionNameError::TooMany);
        }
        let number = u16::try_from(self.names.len()).map_err(|_| RegionNameError::TooMany)?;
        self.names.push(name.clone());
        self.ids.insert(name, RegionId(number));
        Ok(RegionId(number))
    }

    /// The number of this name, if it has one. Capitals are small letters.
    pub fn get(&self, name: &str) -> Option<RegionId> {
        if name.len() > MAX_REGION_NAME {
            return None;
        }
        self.ids.get(name.to_ascii_lowercase().as_str()).copied()
    }

    /// The name with this number.
    pub fn name(&self, id: RegionId) -> Option<&str> {
        self.names.get(usize::from(id.0)).map(AsRef::as_ref)
    }
}

/// Where a client is, and where the traffic comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The client's country, if it is known.
    pub country: Option<Country>,
    /// The client's region, if it is known.
    pub region: Option<RegionId>,
    /// Region of the edge that the client came to, else of the hub.
    pub local: Option<RegionId>,
}

/// Where a target is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its country, if that is configured.
    pub country: Option<Country>,
    /// Its region, if that is configured.
    pub region: Option<RegionId>,
}

impl Origin {
    /// Distance of a target, lowest first. Without countries: 0 in the client's region, 1 in the local one, 2 elsewhere.
    /// Where targets of the pool have countries: 0 in the client's country, 1 in its region, 2 in the local one, 3
    /// elsewhere.
    pub fn tier(&self, place: Place, has_countries: bool) -> u8 {
        let is_same = |one: Option<RegionId>| one.is_some() && one == place.region;
        if has_countries && self.country.is_some() && self.country == place.country {
            return 0;
        }
        let tier = if is_same(self.region) {
            0
        } else if is_same(self.local) {
            1
        } else {
            2
        };
        tier + u8::from(has_countries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_number() {
        let mut names = RegionNames::new();
        let sa = names.intern("sa").unwrap();
        let east = names.intern("us-east-1").unwrap();
        assert_ne!(sa, east);
        assert_eq!(names.intern("SA"), Ok(sa));
        assert_eq!(names.get("Us-East-1"), Some(east));
        assert_eq!(names.name(sa), Some("sa"));
        assert_eq!(names.name(RegionId(2)), None);
        assert_eq!(names.get("eu"), None);
    }

    #[test]
    fn names_are_bounded() {
        let mut names = RegionNames::new();
        let long = "a".repeat(MAX_REGION_NAME + 1);
        for name in ["", "e u", "eu_1", "é", "a\0", &long] {
            assert_eq!(
                names.intern(name),
                Err(RegionNameError::Malformed),
                "{name:?}"
            );
        }
        for number in 0..MAX_REGIONS {
            let id = names.intern(&format!("r{number}")).unwrap();
            assert_eq!(usize::from(id.0), number);
        }
        assert_eq!(names.intern("one-more"), Err(RegionNameError::TooMany));
        assert_eq!(names.intern("R0"), Ok(RegionId(0)));
        assert_eq!(names.intern(&long[1..]), Err(RegionNameError::TooMany));
        assert_eq!(names.get(&long), None);
    }

    #[test]
    fn the_clients_region_comes_before_the_local_one() {
        let (sa, eu, us) = (RegionId(0), RegionId(1), RegionId(2));
        let in_region = |region| Place {
            country: None,
            region: Some(region),
        };
        let origin = Origin {
            country: None,
            region: Some(sa),
            local: Some(eu),
        };
        let tiers = [sa, eu, us].map(|region| origin.tier(in_region(region), false));
        assert_eq!(tiers, [0, 1, 2]);
        assert_eq!(Origin::default().tier(Place::default(), false), 2);
    }

    #[test]
    fn a_country_comes_before_its_region() {
        let (br, ar) = (Country(*b"BR"), Country(*b"AR"));
        let place = |country| Place {
            country: Some(country),
            region: Some(RegionId(0)),
        };
        let origin = Origin {
            country: Some(br),
            region: Some(RegionId(0)),
            local: Some(RegionId(1)),
        };
        assert_eq!(origin.tier(place(br), true), 0);
        assert_eq!(origin.tier(place(ar), true), 1);
        assert_eq!(origin.tier(Place::default(), true), 3);
    }
}
