//! Case 28: files that are cut, flipped or half copied never crash anything, and never pass for a good and empty table.

use crate::folder::{EDGEPROXY, Folder, changed, read_once};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use remoteingress_store::routing_db::{Poll, Reading, Version, Watch};
use std::fs;

const ROWS: usize = 200;
const PAGE: usize = 1024;

/// Several pages of rows, and beside them a table that is empty: the place where a damaged schema can lead to.
fn sound(folder: &Folder) -> Vec<u8> {
    let sql = format!(
        "PRAGMA page_size={PAGE}; {EDGEPROXY} CREATE TABLE __replication_log (seq INTEGER PRIMARY KEY, row BLOB); \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<{ROWS}) INSERT INTO backends \
         SELECT 'node-'||i, 'app', 'sa', '10.0.1.'||i, 8080, 1, 2, 50, 100, 0 FROM n;"
    );
    drop(folder.database("sound.db", &sql));
    fs::read(folder.path("sound.db")).unwrap()
}

/// What a hub gets that starts with these bytes.
fn look(folder: &Folder, bytes: &[u8]) -> Option<Reading> {
    fs::write(folder.path("routing.db"), bytes).unwrap();
    match Watch::new(folder.path("routing.db"), false).poll() {
        Poll::Changed(reading) => Some(reading),
        Poll::Failed(_) => None,
        Poll::Unchanged => panic!("a first poll has an answer"),
    }
}

#[test]
fn a_file_cut_at_any_page_is_refused() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    assert!(bytes.len() > 10 * PAGE);
    assert_eq!(look(&folder, &bytes).unwrap().rows.len(), ROWS);
    let pages = bytes.len() / PAGE;
    let mut lengths: Vec<usize> = (0..=pages)
        .flat_map(|page| {
            [
                (page * PAGE).saturating_sub(1),
                page * PAGE,
                page * PAGE + 1,
            ]
        })
        .collect();
    lengths.extend(0..128);
    for length in lengths {
        let cut = bytes.get(..length).unwrap_or(&bytes);
        let reading = look(&folder, cut);
        assert_eq!(reading.is_some(), length >= bytes.len(), "{length} bytes");
    }
}

/// A flip inside a value is another value, and then one row may differ, go or be refused; never more.
fn judge(good: &Version, reading: Option<Reading>, what: &str) -> bool {
    let Some(reading) = reading else {
        return false;
    };
    let (next, change) = good.next(reading);
    assert!(
        next.rows.len() >= ROWS - 1,
        "{what}: {} rows",
        next.rows.len()
    );
    assert!(change.removed.len() <= 1, "{what}: {:?}", change.removed);
    true
}

#[test]
fn a_thousand_flipped_bits() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    let (good, _) = Version::default().next(look(&folder, &bytes).unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(28);
    let mut taken = 0;
    for _ in 0..1_000 {
        let bit = random.next_u64() as usize % (bytes.len() * 8);
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        taken += usize::from(judge(&good, look(&folder, &flipped), &format!("bit {bit}")));
    }
    println!("{taken} of 1,000 are sound to SQLite (bits of values), the others are refused");
    assert!((1..1_000).contains(&taken));
}

/// The schema decides where a table begins and what its columns are: each of its bits, not only a thousand.
#[test]
fn each_bit_of_the_first_page() {
    let folder = Folder::new();
    let bytes = sound(&folder);
    let (good, _) = Version::default().next(look(&folder, &bytes).unwrap());
    // The free space between the cells' list and the cells means nothing.
    let used = |byte: &usize| bytes[*byte] != 0 || *byte < 140;
    for byte in (0..PAGE).filter(used) {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[byte] ^= 1 << bit;
            let reading = look(&folder, &flipped);
            if let Some(reading) = &reading {
                // A renamed column of health or deletion changes what rows mean, and no check can know.
                assert!(!reading.rows.is_empty(), "byte {byte} bit {bit}");
            }
            judge(&good, reading, &format!("byte {byte} bit {bit}"));
        }
    }
}

/// `cp` writes into the file from its beginning, and SQLite isn't asked.
#[test]
fn a_copy_that_is_under_way_is_not_taken_for_an_empty_table() {
    let folder = Folder::new();
    let old = sound(&folder);
    let grown = "UPDATE backends SET app='a-longer-name-for-the-app', port=9090; \
                 INSERT INTO backends SELECT id||'-b', app, region, wg_ip, port, healthy, weight, soft_limit, \
                 hard_limit, deleted FROM backends;";
    drop(folder.database("sound.db", grown));
    let new = fs::read(folder.path("sound.db")).unwrap();
    let path = folder.path("routing.db");
    fs::write(&path, &old).unwrap();
    let mut watch = Watch::new(&path, false);
    let (mut version, _) = Version::default().next(changed(watch.poll()));
    let mut file = fs::File::options().write(true).open(&path).unwrap();
    for chunk in new.chunks(512) {
        folder.pass_tick();
        std::io::Write::write_all(&mut file, chunk).unwrap();
        match watch.poll() {
            Poll::Changed(reading) => {
                assert!(reading.rows.len() >= ROWS, "{} rows", reading.rows.len());
                version = version.next(reading).0;
            }
            Poll::Unchanged | Poll::Failed(_) => {}
        }
    }
    assert_eq!(version.rows.len(), 2 * ROWS);
    assert_eq!(read_once(&folder, "routing.db").rows.len(), 2 * ROWS);
}
