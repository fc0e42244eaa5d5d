//! A hub that is killed in the middle of a save: its file has the whole of one save, never parts of two.

use crate::folder::Folder;
use crate::state::{open, target};
use remoteingress_store::state_db::{SavedBinding, SavedTarget, StateDb, StateDbError, UnixMillis};
use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

/// Tells the child what it is, and where it writes.
const DIRECTORY: &str = "REMOTEINGRESS_STORE_KILLED_IN";
const TARGETS: usize = 300;
/// A log of many pages.
const BINDINGS: u64 = 20_000;

/// One test of this program, in a process of its own. Its standard output comes behind a mark.
fn child(test: &str, directory: &Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, said(lines))
}

fn said(lines: std::io::Lines<BufReader<ChildStdout>>) -> impl Iterator<Item = String> {
    lines.map_while(Result::ok).filter_map(|line| {
        let (_, said) = line.split_once("child: ")?;
        Some(said.to_owned())
    })
}

fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "child: {text}").unwrap();
    out.flush().unwrap();
}

fn targets(generation: u32) -> Vec<SavedTarget> {
    let one = |n| SavedTarget {
        failures: generation,
        ..target("web", &format!("target-{n}"))
    };
    (0..TARGETS).map(one).collect()
}

/// The child of the test below; nothing without it.
#[test]
fn child_that_saves() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let mut state = StateDb::open(directory.as_ref()).unwrap();
    let registered = state.load_registrations().unwrap();
    let mut generation = registered.first().map_or(0, |one| one.parse().unwrap());
    loop {
        generation += 1;
        let at = UnixMillis(generation.into());
        state.save_targets(&targets(generation), at).unwrap();
        let bindings = (0..BINDINGS).map(|key| SavedBinding {
            key,
            pool: "web",
            target: "target-1",
            age: Duration::from_millis(generation.into()),
        });
        state.save_bindings(bindings, at).unwrap();
        let registered = generation.to_string();
        state
            .save_registrations([&*registered, &registered])
            .unwrap();
        say(&registered);
    }
}

#[test]
fn a_hub_that_is_killed_has_its_last_save() {
    let folder = Folder::new();
    let mut told = 0;
    for round in 0..12 {
        let (mut child, mut lines) = child("state_kill::child_that_saves", &folder.path(""));
        // It goes on while this looks for the line: each round ends it at another place.
        for _ in 0..=round % 3 {
            told = lines.next().unwrap().parse().unwrap();
        }
        let end = std::time::Instant::now() + Duration::from_millis(round * 3);
        while std::time::Instant::now() < end {
            std::hint::spin_loop();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(folder.path("hub.db-wal").exists());
        // What it had told of is there; nothing is half.
        let state = open(&folder);
        let both = state.load_registrations().unwrap();
        assert_eq!(both[0], both[1]);
        let registered: u32 = both[0].parse().unwrap();
        let is_near = |generation: u32| generation == registered || generation == registered + 1;
        let rows = state.load_targets().unwrap();
        let generation = rows[0].target.failures;
        assert_eq!(rows.len(), TARGETS);
        assert!(rows.iter().all(|row| row.target.failures == generation));
        assert!(
            rows.iter()
                .all(|row| row.at == UnixMillis(generation.into()))
        );
        let mut ages = Vec::new();
        state
            .load_bindings(UnixMillis(0), |one| ages.push(one.age))
            .unwrap();
        assert_eq!(ages.len(), usize::try_from(BINDINGS).unwrap());
        assert!(ages.iter().all(|age| *age == ages[0]));
        let age = u32::try_from(ages[0].as_millis()).unwrap();
        println!(
            "killed after {told}: targets {generation}, bindings {age}, registrations {registered}"
        );
        assert!(registered >= told && is_near(generation) && is_near(age) && generation >= age);
    }
}

/// The child of the test below; nothing without it.
#[test]
fn child_that_holds() {
    let Some(directory) = env::var_os(DIRECTORY) else {
        return;
    };
    let state = StateDb::open(directory.as_ref()).unwrap();
    say("open");
    // Until it is killed, or whoever started it has gone.
    let _ = std::io::stdin().read_line(&mut String::new());
    drop(state);
}

#[test]
fn a_hub_of_another_process_is_told() {
    let folder = Folder::new();
    drop(open(&folder));
    let (mut child, mut lines) = child("state_kill::child_that_holds", &folder.path(""));
    assert_eq!(lines.next().as_deref(), Some("open"));
    let refused = StateDb::open(&folder.path("")).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refused, StateDbError::Locked);
    drop(open(&folder));
}
