//! Changes by whomever and however they are made: case 26, and files that can't be read.

use crate::folder::{EDGEPROXY, Folder, assert_unchanged, changed, failed, ids, three_rows};
use remoteingress_store::routing_db::{Poll, RoutingDbError, Version, Watch};
use rusqlite::Connection;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ADD: &str = "INSERT INTO backends (id, wg_ip, port) VALUES ('new', '10.0.0.9', 80)";

/// A watch that has read the README's rows and has come to rest.
fn resting(folder: &Folder) -> Watch {
    let mut watch = Watch::new(folder.path("routing.db"), false);
    assert_eq!(changed(watch.poll()).rows.len(), 3);
    assert_unchanged(&watch.poll());
    assert_unchanged(&watch.poll());
    folder.pass_tick();
    watch
}

/// The next poll sees the new row, and the ones after it nothing more.
#[track_caller]
fn assert_sees_new(watch: &mut Watch) {
    let reading = changed(watch.poll());
    assert!(
        ids(&reading.rows).contains(&"new"),
        "{:?}",
        ids(&reading.rows)
    );
    for _ in 0..3 {
        assert_unchanged(&watch.poll());
    }
}

#[test]
fn a_commit_in_rollback_mode() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", &three_rows());
    let mut watch = resting(&folder);
    writer.execute(ADD, []).unwrap();
    assert_sees_new(&mut watch);
}

/// The file itself stays as it is until a checkpoint: only SQLite can tell.
#[test]
fn a_commit_in_wal_mode_and_its_checkpoint() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", &three_rows());
    let wal = "PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;";
    writer.execute_batch(wal).unwrap();
    let mut watch = resting(&folder);
    let before = fs::read(folder.path("routing.db")).unwrap();
    writer.execute(ADD, []).unwrap();
    assert_eq!(fs::read(folder.path("routing.db")).unwrap(), before);
    assert_sees_new(&mut watch);
    // The same rows in another place are no news.
    let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
    writer.query_row(checkpoint, [], |_| Ok(())).unwrap();
    assert_ne!(fs::read(folder.path("routing.db")).unwrap(), before);
    for _ in 0..3 {
        assert_unchanged(&watch.poll());
    }
    writer
        .execute("DELETE FROM backends WHERE id='new'", [])
        .unwrap();
    assert_eq!(changed(watch.poll()).rows.len(), 3);
}

#[test]
fn another_table_is_no_news() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", &three_rows());
    let mut watch = resting(&folder);
    writer
        .execute_batch("CREATE TABLE other (a); INSERT INTO other VALUES (1)")
        .unwrap();
    for _ in 0..3 {
        assert_unchanged(&watch.poll());
    }
}

#[test]
fn a_rename_over_the_path() {
    let folder = Folder::new();
    drop(folder.database("routing.db", &three_rows()));
    drop(folder.database("next.db", &format!("{} {ADD}", three_rows())));
    let mut watch = resting(&folder);
    fs::rename(folder.path("next.db"), folder.path("routing.db")).unwrap();
    assert_sees_new(&mut watch);
}

/// Same inode, same size, same change counter in its header, and the time of its source: SQLite's cache would be stale.
#[test]
fn a_copy_over_the_file() {
    let folder = Folder::new();
    let old = format!("{} {}", three_rows(), ADD.replace("'new'", "'old'"));
    drop(folder.database("next.db", &format!("{} {ADD}", three_rows())));
    drop(folder.database("routing.db", &old));
    let next = fs::read(folder.path("next.db")).unwrap();
    assert_eq!(
        fs::read(folder.path("routing.db")).unwrap().len(),
        next.len()
    );
    let mut watch = Watch::new(folder.path("routing.db"), false);
    assert_eq!(changed(watch.poll()).rows.len(), 4);
    assert_unchanged(&watch.poll());
    folder.pass_tick();
    let copied = Command::new("cp")
        .args(["--preserve=timestamps"])
        .args([folder.path("next.db"), folder.path("routing.db")])
        .status();
    assert!(copied.unwrap().success());
    assert_sees_new(&mut watch);
}

/// The stamp is the same after both halves, as within one step of the kernel's clock; the poll after looks again.
#[test]
fn a_copy_that_ends_within_the_clocks_step_is_seen_at_the_next_poll() {
    let folder = Folder::new();
    drop(folder.database("routing.db", &three_rows()));
    let path = folder.path("routing.db");
    let old = fs::read(&path).unwrap();
    let place = old.windows(9).position(|text| text == b"10.50.1.1");
    let mut new = old.clone();
    new[place.unwrap()..][..9].copy_from_slice(b"10.50.9.9");
    let times = || {
        let metadata = fs::metadata(&path).unwrap();
        (metadata.ctime(), metadata.ctime_nsec())
    };
    for _ in 0..500 {
        fs::write(&path, &old).unwrap();
        let before = times();
        let mut watch = Watch::new(&path, false);
        assert_eq!(changed(watch.poll()).rows[0].host.as_str(), "10.50.1.1");
        fs::write(&path, &new).unwrap();
        if times() == before {
            let reading = changed(watch.poll());
            assert_eq!(reading.rows[0].host.as_str(), "10.50.9.9");
            return;
        }
    }
    eprintln!("skipped: the clock of files has no steps here");
}

#[test]
fn the_sqlite3_program_writes_with_and_without_wal() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        eprintln!("skipped: there is no sqlite3");
        return;
    }
    for mode in ["DELETE", "WAL"] {
        let folder = Folder::new();
        let run = |sql: &str| {
            let sqlite3 = Command::new("sqlite3")
                .arg(folder.path("routing.db"))
                .arg(sql)
                .output();
            let output = sqlite3.unwrap();
            assert!(output.status.success(), "{output:?}");
        };
        run(&format!("PRAGMA journal_mode={mode}; {}", three_rows()));
        let mut watch = resting(&folder);
        run(ADD);
        assert_sees_new(&mut watch);
    }
}

/// The program sqlite3, which runs and answers until it is dropped: another process, with locks and a cache of its own.
struct Sqlite3 {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Sqlite3 {
    /// None, told aloud, where there is no such program.
    fn open(path: &Path) -> Option<Self> {
        let child = Command::new("sqlite3")
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            eprintln!("skipped: there is no sqlite3");
            return None;
        };
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, answers })
    }

    /// Returns when it has been done.
    fn run(&mut self, sql: &str) {
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{sql}; SELECT 'done';").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
    }
}

impl Drop for Sqlite3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// For as long as that one likes; nothing of what was read is lost, and the rest comes with the next poll.
#[test]
fn an_exclusive_lock_of_another_process() {
    let folder = Folder::new();
    drop(folder.database("routing.db", &three_rows()));
    let mut watch = resting(&folder);
    let Some(mut sqlite3) = Sqlite3::open(&folder.path("routing.db")) else {
        return;
    };
    sqlite3.run(&format!("BEGIN EXCLUSIVE; {ADD}"));
    for _ in 0..20 {
        let start = Instant::now();
        let error = failed(watch.poll());
        assert_eq!((error.reason(), error.is_passing()), ("locked", true));
        assert!(
            start.elapsed() < Duration::from_secs(1),
            "a lock is not waited for"
        );
    }
    sqlite3.run("COMMIT");
    assert_sees_new(&mut watch);
}

/// Also one that changes nothing ends with an answer, and the merge finds no difference.
#[test]
fn after_a_failure_the_first_good_reading_is_told() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", &three_rows());
    let mut watch = Watch::new(folder.path("routing.db"), false);
    let (version, _) = Version::default().next(changed(watch.poll()));
    writer.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert_eq!(failed(watch.poll()), RoutingDbError::Locked);
    writer.execute_batch("ROLLBACK").unwrap();
    let (next, change) = version.next(changed(watch.poll()));
    assert!(change.is_empty());
    assert_eq!(next, version);
}

#[test]
fn a_table_without_valid_rows_is_an_operators_act() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", &three_rows());
    let mut watch = resting(&folder);
    writer.execute("DELETE FROM backends", []).unwrap();
    assert!(changed(watch.poll()).rows.is_empty());
}

#[test]
fn what_is_no_routing_db_says_so() {
    let folder = Folder::new();
    let reason = |name: &str| {
        let error = failed(Watch::new(folder.path(name), false).poll());
        let text = error.to_string();
        assert!(text.contains("; "), "no word on what to do: {text}");
        error.reason()
    };
    assert_eq!(reason("none.db"), "missing");
    fs::create_dir(folder.path("folder.db")).unwrap();
    assert_eq!(reason("folder.db"), "notAFile");
    let pipe = Command::new("mkfifo").arg(folder.path("pipe.db")).status();
    assert!(pipe.unwrap().success());
    assert_eq!(reason("pipe.db"), "notAFile");
    fs::write(folder.path("empty.db"), "").unwrap();
    assert_eq!(reason("empty.db"), "noTable");
    fs::write(folder.path("text.db"), "id,wg_ip,port\n".repeat(500)).unwrap();
    assert_eq!(reason("text.db"), "notADatabase");
    folder.database("other.db", "CREATE TABLE nodes (id, wg_ip, port)");
    assert_eq!(reason("other.db"), "noTable");
    folder.database("columns.db", "CREATE TABLE backends (id, wg_ip)");
    let error = failed(Watch::new(folder.path("columns.db"), false).poll());
    assert_eq!(
        error.to_string(),
        "the table backends has no column port; add it"
    );
    let endless = "CREATE VIEW backends AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n) \
                   SELECT i AS id, '10.0.0.1' AS wg_ip, 80 AS port FROM n WHERE i<0";
    folder.database("endless.db", endless);
    assert_eq!(reason("endless.db"), "tooMuchWork");
}

/// As in a directory that the hub can't write; for root there is none, so that something is in the place of a file.
#[test]
fn wal_that_cannot_be_opened_says_so() {
    let folder = Folder::new();
    let writer = folder.database("wal.db", &three_rows());
    writer.execute_batch("PRAGMA journal_mode=WAL").unwrap();
    drop(writer);
    fs::rename(folder.path("wal.db"), folder.path("routing.db")).unwrap();
    fs::create_dir(folder.path("routing.db-wal")).unwrap();
    let mut watch = Watch::new(folder.path("routing.db"), false);
    for _ in 0..2 {
        let error = failed(watch.poll());
        assert_eq!(error.reason(), "walUnwritable", "{error}");
    }
    fs::remove_dir(folder.path("routing.db-wal")).unwrap();
    assert_eq!(changed(watch.poll()).rows.len(), 3);
}

/// The pages of a half transaction are in the file, and only its journal knows what was there. The writer is another
/// process: within one, SQLite's cache is shared, and would hold the pages back.
#[test]
fn a_writer_that_died_is_told() {
    let folder = Folder::new();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000) \
                INSERT INTO backends (id, wg_ip, port) SELECT 'node-'||i, '10.0.0.1', 80 FROM n;";
    drop(folder.database("routing.db", &format!("{EDGEPROXY} {rows}")));
    let Some(mut sqlite3) = Sqlite3::open(&folder.path("routing.db")) else {
        return;
    };
    sqlite3.run("PRAGMA cache_size=5; BEGIN; UPDATE backends SET port=81; DELETE FROM backends WHERE rowid<4000");
    drop(sqlite3);
    let mut watch = Watch::new(folder.path("routing.db"), false);
    assert_eq!(failed(watch.poll()).reason(), "hotJournal");
    let repaired = Connection::open(folder.path("routing.db")).unwrap();
    let count = "SELECT count(*) FROM backends";
    let count = repaired.query_row(count, [], |row| row.get::<_, i64>(0));
    assert_eq!(count.unwrap(), 5000);
    let reading = changed(watch.poll());
    assert_eq!(reading.rows.len(), 5000);
    assert!(reading.rows.iter().all(|row| row.port == 80));
}

#[test]
fn a_file_that_goes_and_comes() {
    let folder = Folder::new();
    drop(folder.database("routing.db", &three_rows()));
    let mut watch = resting(&folder);
    fs::rename(folder.path("routing.db"), folder.path("away.db")).unwrap();
    for _ in 0..3 {
        assert_eq!(failed(watch.poll()), RoutingDbError::Missing);
    }
    fs::rename(folder.path("away.db"), folder.path("routing.db")).unwrap();
    assert_eq!(changed(watch.poll()).rows.len(), 3);
}

/// The same bad bytes aren't walked four times a second; other bytes are read at once.
#[test]
fn bad_content_is_tried_again_ever_more_rarely() {
    let folder = Folder::new();
    fs::write(folder.path("routing.db"), "no database".repeat(100)).unwrap();
    let mut watch = Watch::new(folder.path("routing.db"), false);
    let tries: Vec<bool> = (0..16)
        .map(|_| match watch.poll() {
            Poll::Failed(_) => true,
            Poll::Unchanged => false,
            Poll::Changed(_) => panic!("this is no database"),
        })
        .collect();
    let expected = [0, 1, 3, 7, 15].map(|at| tries[at]);
    assert_eq!(
        (expected, tries.iter().filter(|tried| **tried).count()),
        ([true; 5], 5)
    );
    for _ in 0..100 {
        watch.poll();
    }
    drop(folder.database("good.db", &three_rows()));
    fs::rename(folder.path("good.db"), folder.path("routing.db")).unwrap();
    assert_eq!(changed(watch.poll()).rows.len(), 3);
}
