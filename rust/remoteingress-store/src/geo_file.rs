//! A database of countries in MaxMind's format: the country and continent of an address.
//!
//! The file is read into memory: one that is mapped and then cut ends the process. Before it is used, [`GeoFile::parse`]
//! walks its whole tree and decodes each of its records once. So a damaged file is refused as a whole, with a reason,
//! and a lookup decodes nothing: it finds a record's place in the tree, and its country in a list.
//!
//! Records come in two shapes, and the first that has a country counts: `country.iso_code` and then
//! `registered_country.iso_code` (GeoLite2, DB-IP), `country_code` at the top (ip-location-db, IPinfo). The continent is
//! `continent.code`, or `continent_code` at the top.
//!
//! The walk of 200,000 networks in 7 MB takes 60 ms, without optimisation. It can't see damage that leaves a valid file,
//! such as a flipped bit in a country's letters: the format has no checksums.

mod error;
mod record;

pub use self::{
    error::{GeoFileError, MAX_BYTES},
    record::Country,
};

use self::record::Record;
use crate::stamp::Stamp;
use maxminddb::{Reader, WithinOptions};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A database that is older names many addresses' former countries.
pub const MAX_AGE: Duration = Duration::from_secs(60 * 24 * 60 * 60);

/// A database in memory, checked.
pub struct GeoFile {
    reader: Reader<Vec<u8>>,
    /// By the place of its record in the data section.
    countries: Vec<(usize, Country)>,
    networks: usize,
}

impl std::fmt::Debug for GeoFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeoFile")
            .field("kind", &self.kind())
            .field("networks", &self.networks)
            .finish_non_exhaustive()
    }
}

impl GeoFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// It can't be read, or as [`GeoFile::parse`].
    pub fn load(path: &Path) -> Result<Self, GeoFileError> {
        load(path).map(|(_, geo)| geo)
    }

    /// Checks the bytes of a file.
    ///
    /// # Errors
    /// They are no such database, are damaged, or tell no countries.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, GeoFileError> {
        let reader = Reader::from_source(bytes).map_err(damaged)?;
        // A tree has one network more than nodes. Makers let up to four other places of IPv6 lead to the tree of IPv4; more
        // than eight times the nodes is a tree that repeats itself without end.
        let most = u64::from(reader.metadata().node_count) * 8;
        let mut countries = BTreeMap::new();
        let mut networks = 0_usize;
        // With aliases: to skip one is a step that isn't counted, and a hostile tree can have 2^96 of them.
        let options = WithinOptions::default()
            .include_networks_without_data()
            .include_aliased_networks();
        for (network, count) in reader.networks(options).map_err(damaged)?.zip(0_u64..) {
            let network = network.map_err(damaged)?;
            if count > most {
                return Err(GeoFileError::Damaged("its tree repeats itself".into()));
            }
            let Some(offset) = network.offset() else {
                continue;
            };
            networks += 1;
            if let std::collections::btree_map::Entry::Vacant(place) = countries.entry(offset) {
                let record: Option<Record> = network.decode().map_err(damaged)?;
                place.insert(record.and_then(|record| record.country()));
            }
        }
        let countries: Vec<_> = countries
            .into_iter()
            .filter_map(|(offset, country)| Some((offset, country?)))
            .collect();
        if countries.is_empty() {
            let kind = reader.metadata().database_type.clone();
            return Err(GeoFileError::NoCountries(kind));
        }
        Ok(Self {
            reader,
            countries,
            networks,
        })
    }

    /// Of an address; `None` where the database doesn't know. An IPv4-mapped IPv6 address counts as IPv4.
    #[must_use]
    pub fn country(&self, address: IpAddr) -> Option<Country> {
        let found = self.reader.lookup(address.to_canonical()).ok()?;
        let offset = found.offset()?;
        let index = self
            .countries
            .binary_search_by_key(&offset, |(offset, _)| *offset)
            .ok()?;
        self.countries.get(index).map(|(_, country)| *country)
    }

    /// What its maker calls it, such as `GeoLite2-Country`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.reader.metadata().database_type
    }

    /// Networks that have a record; those of IPv4 once for each place of IPv6 that leads to them.
    #[must_use]
    pub fn networks(&self) -> usize {
        self.networks
    }

    /// When it was made, in seconds since 1970.
    #[must_use]
    pub fn build_epoch(&self) -> u64 {
        self.reader.metadata().build_epoch
    }

    /// Its age, if that is above [`MAX_AGE`] and so worth a warning.
    #[must_use]
    pub fn too_old(&self, now: SystemTime) -> Option<Duration> {
        let built = UNIX_EPOCH.checked_add(Duration::from_secs(self.build_epoch()))?;
        let age = now.duration_since(built).ok()?;
        (age > MAX_AGE).then_some(age)
    }
}

fn damaged(error: maxminddb::MaxMindDbError) -> GeoFileError {
    GeoFileError::Damaged(error.to_string())
}

/// With the stamp that the file had before it was read.
fn load(path: &Path) -> Result<(Stamp, GeoFile), GeoFileError> {
    let stamp = stamp(path)?;
    let unreadable = |error: io::Error| GeoFileError::Unreadable(error.to_string());
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(unreadable)?;
    // It may grow while it is read.
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(GeoFileError::TooLarge);
    }
    Ok((stamp, GeoFile::parse(bytes)?))
}

fn stamp(path: &Path) -> Result<Stamp, GeoFileError> {
    match Stamp::of(path) {
        Ok(stamp) if !stamp.is_file => Err(GeoFileError::NotAFile),
        Ok(stamp) if stamp.size > MAX_BYTES => Err(GeoFileError::TooLarge),
        Ok(stamp) => Ok(stamp),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(GeoFileError::Missing),
        Err(error) => Err(GeoFileError::Unreadable(error.to_string())),
    }
}

/// Looks at a database for changes: another file renamed to its path, or a copy over the file.
///
/// The first poll reads at once. A change is read when the file has been the same for two polls, so that a copy has
/// time to end.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    /// At the last poll.
    seen: Option<Stamp>,
    /// Of the content that was told, good or bad.
    told: Option<Stamp>,
    has_read: bool,
}

/// What a poll found.
#[derive(Debug)]
pub enum Poll {
    /// Nothing new since the last other answer.
    Unchanged,
    /// The file has another content now, or is there again.
    Changed(GeoFile),
    /// It can't be used; whatever was read before stays in force. Told at each poll while the file is missing or no
    /// file, and once for a content.
    Failed(GeoFileError),
}

impl Watch {
    /// Opens nothing yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            seen: None,
            told: None,
            has_read: false,
        }
    }

    /// Looks once; blocks for as long as it takes to read and check a new file.
    pub fn poll(&mut self) -> Poll {
        let stamp = match stamp(&self.path) {
            Ok(stamp) => stamp,
            Err(error) => {
                (self.seen, self.told) = (None, None);
                return Poll::Failed(error);
            }
        };
        let is_settled = self.seen.replace(stamp) == Some(stamp);
        let is_first = !std::mem::replace(&mut self.has_read, true);
        if self.told == Some(stamp) || !(is_settled || is_first) {
            return Poll::Unchanged;
        }
        match load(&self.path) {
            Ok((read, geo)) => {
                self.told = Some(read);
                Poll::Changed(geo)
            }
            // The first look may have met the middle of a copy, before anyone could see it change.
            Err(error) => {
                self.told = is_settled.then_some(stamp);
                Poll::Failed(error)
            }
        }
    }
}
