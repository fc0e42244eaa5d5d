//! How far a target is from a client, by their regions.

/// A region's name, as targets, edges and countries share it: `sa`, `us`, `eu`, `ap`, or any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u16);

/// A country by the two letters of ISO 3166-1, in capitals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Country(pub [u8; 2]);

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
