//! A damaged file of the hub: it is moved aside and told, and the hub starts.

use crate::folder::Folder;
use crate::state::{open, target};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use remoteingress_store::state_db::{
    Broken, FILE_NAME, MAX_BROKEN, SavedBinding, SavedTarget, StateDb, UnixMillis,
};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

const TARGETS: usize = 200;
const BINDINGS: usize = 500;
const PAGE: usize = 4_096;

fn targets() -> Vec<SavedTarget> {
    (0..TARGETS)
        .map(|n| target("web", &format!("10.0.0.{n}:8080")))
        .collect()
}

/// Several pages in most tables.
fn sound(folder: &Folder) -> Vec<u8> {
    let mut state = open(folder);
    state.seed(0x0123_4567_89ab_cdef).unwrap();
    state.save_targets(&targets(), UnixMillis(5)).unwrap();
    let bindings = (0..BINDINGS as u64).map(|key| SavedBinding {
        key,
        pool: "web",
        target: if key % 2 == 0 { "a" } else { "b" },
        age: Duration::from_secs(key),
    });
    state.save_bindings(bindings, UnixMillis(5)).unwrap();
    let long = "{\"id\":\"eu-1\"}".repeat(300);
    let long = &*long;
    state.save_registrations([long, long, long]).unwrap();
    state.close().unwrap();
    fs::read(folder.path(FILE_NAME)).unwrap()
}

/// Rows that a hub finds: bindings, and all others.
type Found = (usize, usize);

const ALL: Found = (BINDINGS, TARGETS + 3);
const NOTHING: Found = (0, 0);

/// Starts with these bytes; what was told, and what is there then. Whatever they are, the hub starts, writes, and reads
/// again.
fn start(folder: &Folder, bytes: &[u8]) -> (Option<Broken>, Found) {
    fs::write(folder.path(FILE_NAME), bytes).unwrap();
    let mut state = StateDb::open(&folder.path("")).unwrap();
    let mut count = state.load_targets().unwrap().len();
    let bindings = state.load_bindings(UnixMillis(5), |_| {}).unwrap();
    count += state.load_registrations().unwrap().len();
    state
        .save_targets(&[target("new", "new")], UnixMillis(6))
        .unwrap();
    state.save_registrations(["{}"]).unwrap();
    state.save_bindings([], UnixMillis(6)).unwrap();
    let broken = state.broken().cloned();
    state.close().unwrap();
    let state = open(folder);
    assert!(
        state
            .load_targets()
            .unwrap()
            .iter()
            .any(|one| one.target.pool == "new")
    );
    assert_eq!(state.load_registrations().unwrap(), ["{}"]);
    (broken, (bindings, count))
}

/// The file of that name holds what was damaged.
fn assert_moved(broken: &Broken, bytes: &[u8]) {
    assert!(fs::read(&broken.moved_to).unwrap() == bytes, "{broken:?}");
}

fn all_broken(folder: &Folder) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.path("")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_str().unwrap().contains("hub.db.broken-"))
        .collect()
}

#[test]
fn a_file_cut_anywhere_is_told_and_begun_anew() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    assert_eq!(start(&folder, &bytes), (None, ALL));
    let pages = bytes.len() / PAGE;
    assert!(pages > 12, "{pages} pages");
    let mut lengths: Vec<_> = (0..pages)
        .flat_map(|page| [0, 1, 511, 2_048, PAGE - 1].map(|byte| page * PAGE + byte))
        .collect();
    lengths.extend([15, 16, 99, 100, 101]);
    for length in lengths {
        let (broken, found) = start(&folder, &bytes[..length]);
        let broken = broken.unwrap_or_else(|| panic!("{length} bytes pass for a whole file"));
        assert_eq!(found, NOTHING, "{length} bytes");
        assert_moved(&broken, &bytes[..length]);
    }
}

#[test]
fn flipped_bits_never_keep_a_hub_from_starting() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    let mut random = ChaCha8Rng::seed_from_u64(14);
    let mut told = 0;
    for round in 0..600 {
        let mut flipped = bytes.clone();
        // The header and the schema in every second round.
        let within = if round % 2 == 0 { PAGE } else { bytes.len() };
        let at = random.next_u64() as usize % within;
        flipped[at] ^= 1 << (random.next_u32() % 8);
        let (broken, found) = start(&folder, &flipped);
        match broken {
            Some(broken) => {
                told += 1;
                assert_eq!(found, NOTHING, "byte {at}: {broken:?}");
                assert_moved(&broken, &flipped);
            }
            // Another value, or a byte that nothing uses. Another number of a target leaves its bindings without one.
            None => assert!(
                found.1 == ALL.1 && found.0 <= BINDINGS,
                "byte {at}: {found:?}"
            ),
        }
    }
    println!("{told} of 600 were told");
    assert!(told > 100, "{told}");
}

#[test]
fn zeroes_and_other_files_are_told() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    for page in 0..bytes.len() / PAGE {
        let mut zeroed = bytes.clone();
        zeroed[page * PAGE..(page + 1) * PAGE].fill(0);
        let (broken, found) = start(&folder, &zeroed);
        match broken {
            Some(_) => assert_eq!(found, NOTHING, "page {page}"),
            None => assert_eq!(found, ALL, "page {page}"),
        }
    }
    let (broken, _) = start(&folder, b"{\"strategy\":\"geo\"}");
    assert!(broken.unwrap().reason.contains("18 bytes"));
    let (broken, _) = start(&folder, &[b'x'; PAGE]);
    assert!(
        broken
            .unwrap()
            .reason
            .contains("doesn't begin as a SQLite database")
    );
    fs::remove_file(folder.path(FILE_NAME)).unwrap();
    drop(folder.database(
        FILE_NAME,
        "PRAGMA journal_mode=WAL; CREATE TABLE backends (id TEXT);",
    ));
    let other = fs::read(folder.path(FILE_NAME)).unwrap();
    let (broken, _) = start(&folder, &other);
    assert!(broken.unwrap().reason.contains("another program's"));
}

#[test]
fn a_number_that_stands_for_nothing_is_damage() {
    let folder = Folder::new();
    sound(&folder);
    for sql in [
        "PRAGMA ignore_check_constraints=ON; UPDATE targets SET admin=7 WHERE id='10.0.0.7:8080'",
        "UPDATE targets SET failures=-1 WHERE id='10.0.0.7:8080'",
        "UPDATE targets SET id=CAST(x'ff' AS TEXT) WHERE id='10.0.0.7:8080'",
        "UPDATE registrations SET json=CAST(x'22ff22' AS TEXT)",
        "DROP TABLE registrations",
        "CREATE TABLE more (x)",
    ] {
        let bytes = fs::read(folder.path(FILE_NAME)).unwrap();
        folder.database(FILE_NAME, sql).close().unwrap();
        let damaged = fs::read(folder.path(FILE_NAME)).unwrap();
        let (broken, _) = start(&folder, &damaged);
        assert!(broken.is_some(), "{sql}");
        fs::write(folder.path(FILE_NAME), bytes).unwrap();
    }
}

#[test]
fn the_log_goes_with_the_damaged_file() {
    let folder = Folder::new();
    sound(&folder);
    // As a killed hub leaves it.
    let mut state = open(&folder);
    let of_log = [targets(), vec![target("web", "of the log")]].concat();
    state.save_targets(&of_log, UnixMillis(6)).unwrap();
    let names = [FILE_NAME, "hub.db-wal"];
    let [mut bytes, log] = names.map(|name| fs::read(folder.path(name)).unwrap());
    drop(state);
    fs::write(folder.path(names[0]), &bytes).unwrap();
    fs::write(folder.path(names[1]), &log).unwrap();
    assert_eq!(open(&folder).load_targets().unwrap().len(), TARGETS + 1);
    // A page that the log doesn't replace.
    let last = bytes.len() - PAGE;
    bytes[last..].fill(0xff);
    fs::write(folder.path(names[0]), &bytes).unwrap();
    fs::write(folder.path(names[1]), &log).unwrap();
    let state = StateDb::open(&folder.path("")).unwrap();
    let broken = state.broken().unwrap();
    assert_eq!(state.load_targets(), Ok(Vec::new()));
    assert_moved(broken, &bytes);
    let mut moved_log = broken.moved_to.clone().into_os_string();
    moved_log.push("-wal");
    assert!(fs::read(moved_log).unwrap() == log);
}

#[test]
fn a_log_without_its_file_is_no_file() {
    let folder = Folder::new();
    let mut state = open(&folder);
    state.save_registrations(["{}"]).unwrap();
    let log = fs::read(folder.path("hub.db-wal")).unwrap();
    drop(state);
    fs::remove_file(folder.path(FILE_NAME)).unwrap();
    fs::write(folder.path("hub.db-wal"), log).unwrap();
    assert_eq!(open(&folder).load_registrations(), Ok(Vec::new()));
}

#[test]
fn only_the_newest_damaged_files_are_kept() {
    let folder = Folder::new();
    fs::write(folder.path("hub.db.broken-1"), "old").unwrap();
    fs::write(folder.path("hub.db.broken-1-wal"), "old").unwrap();
    fs::write(folder.path("hub.db.broken-by-hand"), "kept").unwrap();
    for round in 0..5_u8 {
        let (broken, _) = start(&folder, &[round; 50]);
        assert_moved(&broken.unwrap(), &[round; 50]);
    }
    let mut kept: Vec<_> = all_broken(&folder)
        .into_iter()
        .map(|path| fs::read(path).unwrap())
        .collect();
    kept.sort();
    let newest = (5 - MAX_BROKEN as u8..5).map(|round| vec![round; 50]);
    assert_eq!(kept, newest.chain([b"kept".to_vec()]).collect::<Vec<_>>());
}
