//! The keys that edges have shown a hub that dials: remembered after the first proof, so that a change is noticed.

use remoteingress_os::whole_file;
use remoteingress_proto::token::edge_id::EdgeId;
use remoteingress_proto::token::pin::Pin;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;

/// The file in the state directory.
const FILE: &str = "edge-keys.json";
/// A larger file isn't ours: 20,000 edges take 4 MiB.
const MAX_FILE: u64 = 16 * 1_024 * 1_024;

/// The pins of edges by their ids.
type Pins = BTreeMap<String, Pin>;

/// The keys that edges have shown.
#[derive(Debug)]
pub(crate) struct EdgeKeys {
    pins: Arc<Mutex<Pins>>,
    /// Absent: they are remembered as long as the hub runs.
    file: Option<Arc<KeyFile>>,
}

impl EdgeKeys {
    /// Reads what an earlier run of the hub has left. A file that can't be used is told and begun anew.
    pub(crate) fn load(state_dir: Option<&PathBuf>) -> Self {
        let path = state_dir.map(|directory| directory.join(FILE));
        let pins = path.as_deref().map_or_else(|| Ok(Pins::new()), read);
        let pins = pins.unwrap_or_else(|error| {
            tracing::warn!(file = FILE, %error, "the keys of edges can't be read: they are learned anew");
            Pins::new()
        });
        let pins = Arc::new(Mutex::new(pins));
        let file = path.map(|path| {
            Arc::new(KeyFile {
                path,
                pins: pins.clone(),
                is_behind: AtomicBool::new(false),
                turn: Mutex::default(),
            })
        });
        Self { pins, file }
    }

    /// An edge that has proved its secret has shown this key; gives the one that it showed before, if that was another.
    /// A new key is in the file soon after.
    pub(crate) fn learn(&self, edge: &EdgeId, pin: Pin) -> Option<Pin> {
        let before = lock(&self.pins).insert(edge.as_str().to_owned(), pin);
        if before == Some(pin) {
            return None;
        }
        if let Some(file) = &self.file
            && !file.is_behind.swap(true, Ordering::AcqRel)
        {
            let file = file.clone();
            spawn_blocking(move || file.catch_up());
        }
        before
    }
}

/// The file, and its writers: one that writes and at most one that waits, however many keys come meanwhile. Each takes all
/// keys that are there, because a write of all edges takes a disk some 10 ms and a hub may call 20,000 at once.
#[derive(Debug)]
struct KeyFile {
    path: PathBuf,
    pins: Arc<Mutex<Pins>>,
    /// A key isn't in it, and a writer is on its way.
    is_behind: AtomicBool,
    turn: Mutex<()>,
}

impl KeyFile {
    fn catch_up(&self) {
        let _turn = lock(&self.turn);
        // Before the keys are taken: a later one has a later writer.
        self.is_behind.store(false, Ordering::Release);
        let pins = lock(&self.pins).clone();
        if let Err(error) = write(&self.path, &pins) {
            tracing::warn!(file = FILE, %error, "the keys of edges can't be kept in stateDir");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(path: &Path) -> io::Result<Pins> {
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

fn write(path: &Path, pins: &Pins) -> io::Result<()> {
    let named: BTreeMap<&str, String> = pins
        .iter()
        .map(|(edge, pin)| (edge.as_str(), pin.to_string()))
        .collect();
    whole_file::replace(path, &serde_json::to_vec(&named)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::Duration;

    fn edge(id: &str) -> EdgeId {
        EdgeId::new(id).expect("an id")
    }

    /// A directory that isn't there yet.
    fn directory() -> PathBuf {
        let hex: u64 = u64::from_be_bytes(remoteingress_os::random::bytes());
        std::env::temp_dir().join(format!("edge-keys-{hex:x}"))
    }

    /// The keys of the next run of the hub, after all that this one writes.
    async fn next_run(keys: EdgeKeys, directory: &PathBuf) -> EdgeKeys {
        let file = keys.file.expect("a file");
        while Arc::strong_count(&file) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        EdgeKeys::load(Some(directory))
    }

    #[tokio::test]
    async fn a_key_is_remembered_and_another_one_noticed_also_by_the_next_run() {
        let directory = directory();
        let edge = edge("edge-1");
        let (one, two) = (Pin([1; 32]), Pin([2; 32]));
        let keys = EdgeKeys::load(Some(&directory));
        assert_eq!(keys.learn(&edge, one), None);
        assert_eq!(keys.learn(&edge, one), None);
        let keys = next_run(keys, &directory).await;
        assert_eq!(keys.learn(&edge, one), None);
        assert_eq!(keys.learn(&edge, two), Some(one));
        let keys = next_run(keys, &directory).await;
        assert_eq!(keys.learn(&edge, two), None);
        fs::write(directory.join(FILE), "no JSON").expect("its own file");
        let keys = EdgeKeys::load(Some(&directory));
        assert_eq!(keys.learn(&edge, one), None);
        next_run(keys, &directory).await;
        fs::remove_dir_all(&directory).expect("its own directory");
    }

    #[tokio::test]
    async fn a_slow_disk_holds_no_edge_up_and_gets_the_keys_together() {
        let directory = directory();
        let keys = EdgeKeys::load(Some(&directory));
        let file = keys.file.clone().expect("a file");
        let is_slow = lock(&file.turn);
        let ids = (0..1_000).map(|number| edge(&format!("edge-{number}")));
        let ids: Vec<EdgeId> = ids.collect();
        for id in &ids {
            assert_eq!(keys.learn(id, Pin([1; 32])), None);
        }
        // `keys`, the test and the one writer that waits.
        assert!(Arc::strong_count(&file) <= 3);
        drop(is_slow);
        drop(file);
        let keys = next_run(keys, &directory).await;
        let other = Pin([2; 32]);
        assert!(
            ids.iter()
                .all(|id| keys.learn(id, other) == Some(Pin([1; 32])))
        );
        next_run(keys, &directory).await;
        fs::remove_dir_all(&directory).expect("its own directory");
    }
}
