//! The region of each country: `sa`, `us`, `eu` and `ap` as edgeProxy names them, for all codes of ISO 3166-1, and
//! whatever a configuration says instead.
//!
//! The defaults follow the regions of UN M49 (unstats.un.org/unsd/methodology/m49): South America is `sa`; Northern and
//! Central America and the Caribbean are `us`; Europe, Africa and Western Asia are `eu`; the rest of Asia and Oceania
//! are `ap`. Three codes are placed by hand, since M49 gives them no region: TW with Eastern Asia, AQ with Oceania, and
//! XK, which ISO leaves to its users and which databases of countries have, with Southern Europe.

use crate::region::{Country, RegionId, RegionNameError, RegionNames};

/// The region that a country has unless a configuration says another; none for a code that isn't assigned. The code is
/// in capitals.
pub fn default_region(country: Country) -> Option<&'static str> {
    let mut tables = DEFAULTS.iter();
    let (name, _) = tables.find(|(_, codes)| codes.binary_search(&country.0).is_ok())?;
    Some(name)
}

/// The region of every country, as configured: an array, so that to look one up is one access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionTable {
    /// By both letters, the first one first; [`NONE`] for none.
    regions: Box<[u16; LETTERS * LETTERS]>,
    fallback: Option<RegionId>,
}

impl Default for RegionTable {
    /// No country has a region.
    fn default() -> Self {
        Self {
            regions: Box::new([NONE; LETTERS * LETTERS]),
            fallback: None,
        }
    }
}

impl RegionTable {
    /// The default regions, with `overrides` in their place or beside them: any two letters may have a region of any
    /// name. Of two overrides of one country the last one counts. `fallback` is the region of whoever has no other.
    ///
    /// # Errors
    /// A name isn't one of a region, or `names` is full. The names before it stay in `names`.
    pub fn new<'a>(
        names: &mut RegionNames,
        overrides: impl IntoIterator<Item = (Country, &'a str)>,
        fallback: Option<&str>,
    ) -> Result<Self, RegionNameError> {
        let mut regions = Box::new([NONE; LETTERS * LETTERS]);
        let mut set = |country: Country, region: RegionId| {
            if let Some(entry) = index(country).and_then(|index| regions.get_mut(index)) {
                *entry = region.0;
            }
        };
        for (name, codes) in DEFAULTS {
            let region = names.intern(name)?;
            for code in codes {
                set(Country(*code), region);
            }
        }
        for (country, name) in overrides {
            set(country, names.intern(name)?);
        }
        let fallback = fallback.map(|name| names.intern(name)).transpose()?;
        Ok(Self { regions, fallback })
    }

    /// The region of a country, else the fallback.
    pub fn region_of(&self, country: Country) -> Option<RegionId> {
        let region = index(country).and_then(|index| self.regions.get(index));
        match region {
            Some(&region) if region != NONE => Some(RegionId(region)),
            _ => self.fallback,
        }
    }

    /// The region of a client whose country isn't known.
    pub fn fallback(&self) -> Option<RegionId> {
        self.fallback
    }
}

/// Place of a country in a table; none if its code isn't two capital letters.
fn index(Country([first, second]): Country) -> Option<usize> {
    let letter = |byte: u8| byte.is_ascii_uppercase().then(|| usize::from(byte - b'A'));
    Some(letter(first)? * LETTERS + letter(second)?)
}

const LETTERS: usize = 26;
/// No region: [`RegionNames`] gives out far lower numbers.
const NONE: u16 = u16::MAX;

/// Codes by their region, sorted.
const DEFAULTS: [(&str, &[[u8; 2]]); 4] = [("sa", &SA), ("us", &US), ("eu", &EU), ("ap", &AP)];

const SA: [[u8; 2]; 16] = codes("AR BO BR BV CL CO EC FK GF GS GY PE PY SR UY VE");
const US: [[u8; 2]; 41] = codes(
    "AG AI AW BB BL BM BQ BS BZ CA CR CU CW DM DO GD GL GP GT HN HT JM KN KY LC MF MQ MS MX NI PA PM \
     PR SV SX TC TT US VC VG VI",
);
const EU: [[u8; 2]; 130] = codes(
    "AD AE AL AM AO AT AX AZ BA BE BF BG BH BI BJ BW BY CD CF CG CH CI CM CV CY CZ DE DJ DK DZ EE EG \
     EH ER ES ET FI FO FR GA GB GE GG GH GI GM GN GQ GR GW HR HU IE IL IM IO IQ IS IT JE JO KE KM KW \
     LB LI LR LS LT LU LV LY MA MC MD ME MG MK ML MR MT MU MW MZ NA NE NG NL NO OM PL PS PT QA RE RO \
     RS RU RW SA SC SD SE SH SI SJ SK SL SM SN SO SS ST SY SZ TD TF TG TN TR TZ UA UG VA XK YE YT ZA \
     ZM ZW",
);
const AP: [[u8; 2]; 63] = codes(
    "AF AQ AS AU BD BN BT CC CK CN CX FJ FM GU HK HM ID IN IR JP KG KH KI KP KR KZ LA LK MH MM MN MO \
     MP MV MY NC NF NP NR NU NZ PF PG PH PK PN PW SB SG TH TJ TK TL TM TO TV TW UM UZ VN VU WF WS",
);

/// Reads codes with a blank between them. It runs while this is compiled, which fails unless they are `N`.
const fn codes<const N: usize>(text: &str) -> [[u8; 2]; N] {
    let bytes = text.as_bytes();
    assert!(bytes.len() + 1 == N * 3, "not as many codes as said");
    let mut codes = [[0; 2]; N];
    let mut index = 0;
    while index < N {
        codes[index] = [bytes[index * 3], bytes[index * 3 + 1]];
        index += 1;
    }
    codes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sub-regions of M49 as the United Nations list them, with what each must be: written without a look at the
    /// tables above.
    const M49: [(&str, &str, usize, &str); 23] = [
        (
            "South America",
            "sa",
            16,
            "AR BO BV BR CL CO EC FK GF GY PY PE GS SR UY VE",
        ),
        ("Central America", "us", 8, "BZ CR SV GT HN MX NI PA"),
        ("Northern America", "us", 5, "BM CA GL PM US"),
        (
            "Caribbean",
            "us",
            28,
            "AI AG AW BS BB BQ VG KY CU CW DM DO GD GP HT JM MQ MS PR BL KN LC MF VC SX TT TC VI",
        ),
        ("Northern Africa", "eu", 7, "DZ EG LY MA SD TN EH"),
        (
            "Western Africa",
            "eu",
            17,
            "BJ BF CV CI GM GH GN GW LR ML MR NE NG SH SN SL TG",
        ),
        ("Middle Africa", "eu", 9, "AO CM CF TD CG CD GQ GA ST"),
        (
            "Eastern Africa",
            "eu",
            22,
            "IO BI KM DJ ER ET TF KE MG MW MU YT MZ RE RW SC SO SS UG TZ ZM ZW",
        ),
        ("Southern Africa", "eu", 5, "BW SZ LS NA ZA"),
        ("Eastern Europe", "eu", 10, "BY BG CZ HU PL MD RO RU SK UA"),
        (
            "Northern Europe",
            "eu",
            16,
            "AX DK EE FO FI GG IS IE IM JE LV LT NO SJ SE GB",
        ),
        (
            "Southern Europe",
            "eu",
            16,
            "AL AD BA HR GI GR VA IT MT ME MK PT SM RS SI ES",
        ),
        ("Western Europe", "eu", 9, "AT BE FR DE LI LU MC NL CH"),
        (
            "Western Asia",
            "eu",
            18,
            "AM AZ BH CY GE IQ IL JO KW LB OM QA SA PS SY TR AE YE",
        ),
        ("Central Asia", "ap", 5, "KZ KG TJ TM UZ"),
        ("Eastern Asia", "ap", 7, "CN HK MO KP JP MN KR"),
        (
            "South-eastern Asia",
            "ap",
            11,
            "BN KH ID LA MY MM PH SG TH TL VN",
        ),
        ("Southern Asia", "ap", 9, "AF BD BT IN IR MV NP PK LK"),
        ("Australia and New Zealand", "ap", 6, "AU CX CC HM NZ NF"),
        ("Melanesia", "ap", 5, "FJ NC PG SB VU"),
        ("Micronesia", "ap", 8, "GU KI MH FM NR MP PW UM"),
        ("Polynesia", "ap", 10, "AS CK PF NU PN WS TK TO TV WF"),
        ("of no region", "ap", 2, "AQ TW"),
    ];

    fn country(text: &str) -> Country {
        Country(text.as_bytes().try_into().unwrap())
    }

    #[test]
    fn each_of_the_249_countries_has_the_region_of_its_part_of_the_world() {
        let mut all = std::collections::BTreeSet::new();
        for (part, region, count, codes) in M49 {
            for code in codes.split(' ') {
                assert_eq!(
                    default_region(country(code)),
                    Some(region),
                    "{code} in {part}"
                );
                assert!(all.insert(code), "{code} twice");
            }
            assert_eq!(codes.split(' ').count(), count, "{part}");
        }
        assert_eq!(all.len(), 249);
    }

    #[test]
    fn no_other_code_has_one() {
        let listed: Vec<_> = M49.iter().flat_map(|part| part.3.split(' ')).collect();
        let mut others = Vec::new();
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let code = [first, second];
                let is_listed = listed.iter().any(|listed| listed.as_bytes() == code);
                if !is_listed && default_region(Country(code)).is_some() {
                    others.push(code);
                }
            }
        }
        assert_eq!(others, [*b"XK"]);
        assert_eq!(default_region(country("XX")), None);
        assert_eq!(default_region(country("ZZ")), None);
    }

    #[test]
    fn edgeproxys_countries_have_its_regions() {
        for (region, codes) in [
            ("sa", "BR AR CL PE CO UY PY BO EC VE"),
            ("us", "US CA MX"),
            (
                "eu",
                "PT ES FR DE NL IT GB IE BE CH AT PL CZ SE NO DK FI RU UA",
            ),
            ("ap", "JP KR TW HK SG MY TH VN ID PH AU NZ CN IN"),
        ] {
            for code in codes.split(' ') {
                assert_eq!(default_region(country(code)), Some(region), "{code}");
            }
        }
    }

    #[test]
    fn tables_are_sorted() {
        for (region, codes) in DEFAULTS {
            assert!(codes.is_sorted_by(|one, next| one < next), "{region}");
        }
    }

    #[test]
    fn a_table_says_what_the_defaults_say() {
        let mut names = RegionNames::new();
        let table = RegionTable::new(&mut names, [], None).unwrap();
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let country = Country([first, second]);
                let region = table
                    .region_of(country)
                    .and_then(|region| names.name(region));
                assert_eq!(region, default_region(country), "{country:?}");
            }
        }
        assert_eq!(table.fallback(), None);
    }

    #[test]
    fn overrides_come_before_defaults_and_the_fallback_after() {
        let mut names = RegionNames::new();
        let overrides = [("TR", "ap"), ("TR", "turkey"), ("XX", "sa")];
        let overrides = overrides.map(|(code, region)| (country(code), region));
        let table = RegionTable::new(&mut names, overrides, Some("us")).unwrap();
        let region = |code| {
            let region = table.region_of(country(code)).unwrap();
            names.name(region).unwrap().to_owned()
        };
        assert_eq!(region("TR"), "turkey");
        assert_eq!(region("XX"), "sa");
        assert_eq!(region("DE"), "eu");
        assert_eq!(region("ZZ"), "us");
        assert_eq!(table.fallback(), names.get("us"));
    }

    #[test]
    fn what_is_no_code_has_the_fallback() {
        let mut names = RegionNames::new();
        let table = RegionTable::new(&mut names, [(Country(*b"1!"), "eu")], Some("us")).unwrap();
        for code in [*b"de", *b"1!", [0, 255]] {
            assert_eq!(table.region_of(Country(code)), names.get("us"));
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        let mut names = RegionNames::new();
        let refused = RegionTable::new(&mut names, [(country("DE"), "e u")], None);
        assert_eq!(refused, Err(RegionNameError::Malformed));
        let refused = RegionTable::new(&mut names, [], Some(""));
        assert_eq!(refused, Err(RegionNameError::Malformed));
    }
}
