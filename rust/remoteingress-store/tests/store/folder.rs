//! A folder for one test, with databases in it.

use remoteingress_store::routing_db::{Poll, Reading, RoutingDbError, Row, Watch};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// As edgeProxy's readme, its SQL file and its Docker image have it.
pub(crate) const EDGEPROXY: &str = "CREATE TABLE backends (id TEXT PRIMARY KEY, app TEXT, region TEXT, wg_ip TEXT, \
     port INTEGER, healthy INTEGER, weight INTEGER, soft_limit INTEGER, hard_limit INTEGER, deleted INTEGER DEFAULT 0);";

/// Removed at its end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("remoteingress-store-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A writer of a database.
    pub(crate) fn database(&self, name: &str, sql: &str) -> Connection {
        let connection = Connection::open(self.path(name)).unwrap();
        connection.execute_batch(sql).unwrap();
        connection
    }

    /// Waits until a file that is written now gets another time than before: polls are 250 ms apart, and tests aren't.
    pub(crate) fn pass_tick(&self) {
        let scratch = self.path("scratch");
        let time = || {
            fs::write(&scratch, "x").unwrap();
            let metadata = fs::metadata(&scratch).unwrap();
            (metadata.mtime(), metadata.mtime_nsec())
        };
        let (first, deadline) = (time(), Instant::now() + Duration::from_secs(10));
        while time() == first {
            assert!(Instant::now() < deadline, "the clock of files stands");
            std::thread::yield_now();
        }
        // A full step of the kernel's clock at 100 Hz.
        let end = Instant::now() + Duration::from_millis(10);
        while Instant::now() < end {
            std::thread::yield_now();
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The README's three rows.
pub(crate) fn three_rows() -> String {
    format!(
        "{EDGEPROXY} INSERT INTO backends (id, app, region, wg_ip, port, healthy, weight, soft_limit, hard_limit) VALUES \
         ('sa-node-1','myapp','sa','10.50.1.1',8080,1,2,50,100), \
         ('us-node-1','myapp','us','10.50.2.1',8080,1,2,50,100), \
         ('eu-node-1','myapp','eu','10.50.3.1',8080,1,2,50,100);"
    )
}

pub(crate) fn changed(poll: Poll) -> Reading {
    match poll {
        Poll::Changed(reading) => reading,
        Poll::Unchanged => panic!("nothing changed"),
        Poll::Failed(error) => panic!("{}: {error}", error.reason()),
    }
}

pub(crate) fn failed(poll: Poll) -> RoutingDbError {
    match poll {
        Poll::Failed(error) => error,
        Poll::Unchanged => panic!("nothing changed"),
        Poll::Changed(reading) => panic!("good, with {} rows", reading.rows.len()),
    }
}

#[track_caller]
pub(crate) fn assert_unchanged(poll: &Poll) {
    assert!(matches!(poll, Poll::Unchanged), "{poll:?}");
}

/// What a hub that starts now gets from the file.
pub(crate) fn read_once(folder: &Folder, name: &str) -> Reading {
    changed(Watch::new(folder.path(name), false).poll())
}

pub(crate) fn row<'a>(rows: &'a [Row], id: &str) -> &'a Row {
    rows.iter().find(|row| row.id == id).unwrap()
}

pub(crate) fn ids(rows: &[Row]) -> Vec<&str> {
    rows.iter().map(|row| row.id.as_str()).collect()
}
