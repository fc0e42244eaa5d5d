//! The keys that edges have shown a hub that dials: remembered after the first proof, so that a change is noticed.

use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::pin::Pin;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// The file in the state directory.
const FILE: &str = "edge-keys.json";
/// A larger file isn't ours: 20,000 edges take 4 MiB.
const MAX_FILE: u64 = 16 * 1_024 * 1_024;

/// The pins of edges by their ids.
#[derive(Debug)]
pub(crate) struct EdgeKeys {
    /// Absent: they are remembered as long as the hub runs.
    path: Option<PathBuf>,
    pins: Mutex<BTreeMap<String, Pin>>,
}

impl EdgeKeys {
    /// Reads what an earlier run of the hub has left. A file that can't be used is told and begun anew.
    pub(crate) fn load(state_dir: Option<&PathBuf>) -> Self {
        let path = state_dir.map(|directory| directory.join(FILE));
        let pins = path
            .as_ref()
            .map(read)
            .unwrap_or_else(|| Ok(BTreeMap::new()));
        let pins = pins.unwrap_or_else(|error| {
            tracing::warn!(file = FILE, %error, "the keys of edges can't be read: they are learned anew");
            BTreeMap::new()
        });
        Self {
            path,
            pins: Mutex::new(pins),
        }
    }

    /// An edge that has proved its secret has shown this key; gives the one that it showed before, if that was another.
    pub(crate) fn learn(&self, edge: &EdgeId, pin: Pin) -> Option<Pin> {
        let mut pins = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        let before = pins.insert(edge.as_str().to_owned(), pin);
        if before == Some(pin) {
            return None;
        }
        if let Some(path) = &self.path
            && let Err(error) = write(path, &pins)
        {
            tracing::warn!(file = FILE, %error, "the key of an edge can't be kept in stateDir");
        }
        before
    }
}

fn read(path: &PathBuf) -> io::Result<BTreeMap<String, Pin>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        opened => opened?,
    };
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    let named: BTreeMap<String, String> = serde_json::from_str(&text)?;
    let parse = |(edge, pin): (String, String)| {
        let pin = pin.parse().map_err(|_| io::ErrorKind::InvalidData)?;
        Ok((edge, pin))
    };
    named.into_iter().map(parse).collect()
}

/// The file is whole at any moment: a new one takes the place of the old one.
fn write(path: &PathBuf, pins: &BTreeMap<String, Pin>) -> io::Result<()> {
    let draft = path.with_extension("new");
    let named: BTreeMap<&str, String> = pins
        .iter()
        .map(|(edge, pin)| (edge.as_str(), pin.to_string()))
        .collect();
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&serde_json::to_vec(&named)?)?;
    file.sync_all()?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_and_another_one_noticed_also_by_the_next_run() {
        let hex: u64 = u64::from_be_bytes(remoteingress_os::random::bytes());
        let directory = std::env::temp_dir().join(format!("edge-keys-{hex:x}"));
        fs::create_dir(&directory).expect("a directory for this test");
        let edge = EdgeId::new("edge-1").expect("an id");
        let (one, two) = (Pin([1; 32]), Pin([2; 32]));
        let keys = EdgeKeys::load(Some(&directory));
        assert_eq!(keys.learn(&edge, one), None);
        assert_eq!(keys.learn(&edge, one), None);
        let keys = EdgeKeys::load(Some(&directory));
        assert_eq!(keys.learn(&edge, one), None);
        assert_eq!(keys.learn(&edge, two), Some(one));
        let keys = EdgeKeys::load(Some(&directory));
        assert_eq!(keys.learn(&edge, two), None);
        fs::write(directory.join(FILE), "no JSON").expect("its own file");
        assert_eq!(EdgeKeys::load(Some(&directory)).learn(&edge, one), None);
        fs::remove_dir_all(&directory).expect("its own directory");
    }
}
