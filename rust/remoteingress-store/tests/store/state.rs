//! The hub's own file: what was saved is read back, by one process at a time, within bounds.

use crate::folder::Folder;
use remoteingress_store::state_db::{
    FILE_NAME, MAX_BINDINGS, MAX_ID, MAX_NAME, MAX_REGISTRATION, MAX_TARGETS, SavedAdmin,
    SavedBinding, SavedBreaker, SavedCheck, SavedTarget, StateDb, StateDbError, UnixMillis,
};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

const SECOND: u64 = 1_000;
const DAY: u64 = 24 * 60 * 60 * SECOND;
const NOW: UnixMillis = UnixMillis(1_800_000_000 * SECOND);

pub(crate) fn open(folder: &Folder) -> StateDb {
    let state = StateDb::open(&folder.path("")).unwrap();
    assert_eq!(state.broken(), None);
    state
}

fn later(millis: u64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

pub(crate) fn target(pool: &str, id: &str) -> SavedTarget {
    SavedTarget {
        pool: pool.into(),
        id: id.into(),
        admin: SavedAdmin::Active,
        checked: SavedCheck::Unknown,
        breaker: None,
        failures: 0,
        latency_micros: None,
    }
}

fn drained(id: &str) -> SavedTarget {
    SavedTarget {
        admin: SavedAdmin::Drain,
        ..target("web", id)
    }
}

fn loaded(state: &StateDb) -> Vec<(String, UnixMillis)> {
    let targets = state.load_targets().unwrap();
    targets
        .into_iter()
        .map(|one| (one.target.id, one.at))
        .collect()
}

#[test]
fn targets_outlive_the_process() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let targets = [
        SavedTarget {
            admin: SavedAdmin::Drain,
            checked: SavedCheck::Up,
            latency_micros: Some(u64::MAX / 4),
            ..target("dns", "10.0.0.1:53")
        },
        SavedTarget {
            admin: SavedAdmin::Dead,
            checked: SavedCheck::Down,
            breaker: Some(SavedBreaker {
                open_until: later(10),
                opened: 3,
            }),
            failures: u32::MAX,
            ..target("web", "née")
        },
        target("web", "plain"),
    ];
    // In any order.
    let shuffled = [targets[2].clone(), targets[0].clone(), targets[1].clone()];
    assert_eq!(state.save_targets(&shuffled, NOW), Ok(3));
    state.close().unwrap();
    let read = open(&folder).load_targets().unwrap();
    assert!(read.iter().all(|one| one.at == NOW));
    let read: Vec<_> = read.into_iter().map(|one| one.target).collect();
    let [dns, nee, plain] = targets;
    // Byte by byte, `né` comes before `pl`.
    assert_eq!(read, [dns, nee, plain]);
}

#[test]
fn only_changes_are_written_and_all_are_as_new() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let mut targets: Vec<_> = (0..100)
        .map(|n| target("web", &format!("t{n:02}")))
        .collect();
    assert_eq!(state.save_targets(&targets, NOW), Ok(100));
    assert_eq!(state.save_targets(&targets, later(1)), Ok(0));
    targets[7].failures = 1;
    targets[8].latency_micros = Some(1);
    assert_eq!(state.save_targets(&targets, later(2)), Ok(2));
    assert!(loaded(&state).iter().all(|(_, at)| *at == later(2)));
    assert_eq!(state.load_targets().unwrap()[7].target.failures, 1);
}

#[test]
fn a_target_that_went_is_remembered_for_a_while() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let all = [drained("a"), target("web", "b"), target("web", "c")];
    state.save_targets(&all, NOW).unwrap();
    assert_eq!(state.save_targets(&all[2..], later(5)), Ok(2));
    let names = |list: &[(&str, u64)]| -> Vec<_> {
        list.iter()
            .map(|(id, at)| ((*id).to_owned(), later(*at)))
            .collect()
    };
    assert_eq!(loaded(&state), names(&[("a", 0), ("b", 0), ("c", 5)]));
    // None of them is there for a time, as when routing.db can't be read.
    state.save_targets(&[], later(3_600 * SECOND)).unwrap();
    assert_eq!(loaded(&state), names(&[("a", 0), ("b", 0), ("c", 5)]));
    state.save_targets(&[], later(3_600 * SECOND + 1)).unwrap();
    assert_eq!(loaded(&state), names(&[("a", 0), ("c", 5)]));
    state.save_targets(&[], later(30 * DAY)).unwrap();
    assert_eq!(loaded(&state), names(&[("a", 0)]));
    // It comes back, and its time counts from when it goes again.
    let back = later(30 * DAY + 1);
    assert_eq!(state.save_targets(&all[..1], back), Ok(1));
    state.save_targets(&[], later(31 * DAY)).unwrap();
    assert_eq!(loaded(&state), [("a".to_owned(), back)]);
    state.save_targets(&[], later(61 * DAY)).unwrap();
    assert_eq!(loaded(&state), []);
}

#[test]
fn targets_are_bounded() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let many = |prefix: &str| -> Vec<_> {
        (0..=MAX_TARGETS)
            .map(|n| target("web", &format!("{prefix}{n:05}")))
            .collect()
    };
    assert_eq!(state.save_targets(&many("a"), NOW), Ok(MAX_TARGETS));
    let mut of_hand = many("b");
    of_hand[0].admin = SavedAdmin::Dead;
    state.save_targets(&of_hand, later(1)).unwrap();
    state.save_targets(&many("c"), later(2)).unwrap();
    state.save_targets(&many("d"), later(3)).unwrap();
    let rows = loaded(&state);
    assert_eq!(rows.len(), 2 * MAX_TARGETS);
    let of = |prefix: char| rows.iter().filter(|(id, _)| id.starts_with(prefix)).count();
    assert_eq!(
        (of('a'), of('b'), of('c'), of('d')),
        (0, 1, MAX_TARGETS - 1, MAX_TARGETS)
    );
    assert_eq!(rows[0].0, "b00000");
    let fitting = target(&"x".repeat(MAX_NAME), &"x".repeat(MAX_ID));
    let long = target("web", &"x".repeat(MAX_ID + 1));
    let long_pool = target(&"x".repeat(MAX_NAME + 1), "a");
    state
        .save_targets(&[long, long_pool, fitting.clone()], later(4))
        .unwrap();
    let rows = state.load_targets().unwrap();
    let here = rows.into_iter().filter(|row| row.at == later(4));
    let here: Vec<_> = here.map(|row| row.target).collect();
    assert_eq!(here, [fitting]);
}

#[test]
fn bindings_are_replaced_as_a_whole_and_grow_old() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let binding = |key, pool, target, age| SavedBinding {
        key,
        pool,
        target,
        age: Duration::from_millis(age),
    };
    let first = [binding(1, "web", "a", 0), binding(2, "web", "b", 5)];
    assert_eq!(state.save_bindings(first, NOW), Ok(2));
    let second = [
        binding(u64::MAX, "web", "a", 10),
        binding(0, "dns", "a", 20),
        binding(7, "web", "a", 30),
    ];
    assert_eq!(state.save_bindings(second, NOW), Ok(3));
    drop(state);
    let state = open(&folder);
    let read = |now: UnixMillis| {
        let mut rows = Vec::new();
        let mut keep = |one: SavedBinding<'_>| {
            rows.push((
                one.key,
                one.pool.to_owned(),
                one.target.to_owned(),
                one.age.as_millis(),
            ));
        };
        assert_eq!(state.load_bindings(now, &mut keep), Ok(3));
        rows
    };
    let expected = |since: u128| {
        [
            (u64::MAX, "web", "a", 10),
            (0, "dns", "a", 20),
            (7, "web", "a", 30),
        ]
        .map(|(key, pool, id, age)| (key, pool.to_owned(), id.to_owned(), age + since))
    };
    assert_eq!(read(later(1_000)), expected(1_000));
    // The clock went back.
    assert_eq!(read(UnixMillis(0)), expected(0));
}

/// Case 12 and the design's bound: a hub at its limit ends, and starts, within seconds.
#[test]
fn a_million_bindings_take_a_moment() {
    let folder = Folder::new();
    let mut state = open(&folder);
    let names: Vec<_> = (0..1_000).map(|n| format!("10.0.0.{n}:8080")).collect();
    let key = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let all = |most: usize| {
        (0..most as u64)
            .zip(names.iter().cycle())
            .map(move |(n, target)| SavedBinding {
                key: key(n),
                pool: "web",
                target,
                age: Duration::from_millis(n),
            })
    };
    for round in 0..2 {
        let begin = Instant::now();
        let saved = state.save_bindings(all(MAX_BINDINGS + 1), NOW);
        assert_eq!(saved, Ok(MAX_BINDINGS));
        println!("save {round}: {:?}", begin.elapsed());
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{:?}",
            begin.elapsed()
        );
    }
    let begin = Instant::now();
    state.close().unwrap();
    println!("close: {:?}", begin.elapsed());
    let begin = Instant::now();
    let state = open(&folder);
    println!("open: {:?}", begin.elapsed());
    let begin = Instant::now();
    let mut expected = all(MAX_BINDINGS);
    let count = state.load_bindings(NOW, |one| assert_eq!(Some(one), expected.next()));
    assert_eq!(count, Ok(MAX_BINDINGS));
    println!("load: {:?}", begin.elapsed());
    let size = fs::metadata(folder.path(FILE_NAME)).unwrap().len();
    println!("{size} bytes");
    // A thousand names once, not a million times.
    assert!(size < 32 * 1024 * 1024, "{size}");
}

#[test]
fn the_seed_is_made_once() {
    let folder = Folder::new();
    assert_eq!(open(&folder).seed(u64::MAX - 1), Ok(u64::MAX - 1));
    let mut state = open(&folder);
    assert_eq!(state.seed(5), Ok(u64::MAX - 1));
    assert_eq!(state.seed(6), Ok(u64::MAX - 1));
}

#[test]
fn registrations_outlive_the_process_within_their_bounds() {
    let folder = Folder::new();
    let mut state = open(&folder);
    assert_eq!(state.saved_at(), Ok(None));
    let saved = ["{\"id\":\"b\"}", "{\"id\":\"é\"}"];
    assert_eq!(state.save_registrations(["{}"]), Ok(1));
    assert_eq!(state.save_registrations(saved), Ok(2));
    state.save_targets(&[], NOW).unwrap();
    drop(state);
    let mut state = open(&folder);
    assert_eq!(state.load_registrations().unwrap(), saved);
    assert_eq!(state.saved_at(), Ok(Some(NOW)));
    let text = "x".repeat(MAX_REGISTRATION + 1);
    let list = [&text, &text[1..]].into_iter();
    let list = list.chain(std::iter::repeat_n("{}", MAX_TARGETS));
    assert_eq!(state.save_registrations(list), Ok(MAX_TARGETS));
    let loaded = state.load_registrations().unwrap();
    assert_eq!((loaded.len(), &*loaded[0]), (MAX_TARGETS, &text[1..]));
    assert_eq!(state.save_registrations([]), Ok(0));
    assert_eq!(state.load_registrations(), Ok(Vec::new()));
}

#[test]
fn the_file_is_the_hubs_alone() {
    let folder = Folder::new();
    let mut state = open(&folder);
    state.save_targets(&[target("web", "a")], NOW).unwrap();
    let mode = |name: &str| {
        fs::metadata(folder.path(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!((mode("hub.db"), mode("hub.db-wal")), (0o600, 0o600));
    drop(state);
    assert!(!folder.path("hub.db-wal").exists());
    // A copy from a backup, say.
    fs::set_permissions(folder.path("hub.db"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(loaded(&open(&folder)).len(), 1);
    assert_eq!(mode("hub.db"), 0o600);
}

#[test]
fn a_second_hub_is_told() {
    let folder = Folder::new();
    let state = open(&folder);
    let second = StateDb::open(&folder.path("")).unwrap_err();
    assert_eq!(second, StateDbError::Locked);
    assert!(
        second.to_string().contains("a stateDir of its own"),
        "{second}"
    );
    drop(state);
    drop(open(&folder));
}

/// By SQLite's own lock, which also holds where directories can't be locked.
#[test]
fn another_program_keeps_out_until_the_hub_has_ended() {
    let folder = Folder::new();
    let state = open(&folder);
    let look = || -> rusqlite::Result<i64> {
        let other = rusqlite::Connection::open(folder.path(FILE_NAME))?;
        other.busy_timeout(Duration::ZERO)?;
        other.query_row("SELECT count(*) FROM targets", [], |row| row.get(0))
    };
    let code = look().unwrap_err().sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy));
    drop(state);
    assert_eq!(look(), Ok(0));
    // And the other way round.
    let other = rusqlite::Connection::open(folder.path(FILE_NAME)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_eq!(
        StateDb::open(&folder.path("")).unwrap_err(),
        StateDbError::Locked
    );
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    drop(open(&folder));
}

#[test]
fn a_newer_file_is_left_as_it_is() {
    let folder = Folder::new();
    open(&folder).save_registrations(["{}"]).unwrap();
    let version = |number: i64| {
        let other = rusqlite::Connection::open(folder.path(FILE_NAME)).unwrap();
        other.pragma_update(None, "user_version", number).unwrap();
    };
    version(2);
    let refused = StateDb::open(&folder.path("")).unwrap_err();
    assert_eq!(refused, StateDbError::Newer { found: 2, known: 1 });
    assert_eq!(refused.reason(), "newer");
    version(1);
    assert_eq!(open(&folder).load_registrations().unwrap().len(), 1);
}

#[test]
fn a_directory_that_cant_be_written_is_an_error_to_live_with() {
    let refused = StateDb::open("/proc/self/fd".as_ref()).unwrap_err();
    assert_eq!(refused.reason(), "unwritable", "{refused}");
    assert!(
        refused
            .to_string()
            .contains("let the hub's user write in stateDir"),
        "{refused}"
    );
    let folder = Folder::new();
    let missing = StateDb::open(&folder.path("missing")).unwrap_err();
    assert_eq!(missing.reason(), "unwritable", "{missing}");
    fs::create_dir(folder.path(FILE_NAME)).unwrap();
    let directory = StateDb::open(&folder.path("")).unwrap_err();
    assert_eq!(directory.reason(), "unwritable", "{directory}");
}
