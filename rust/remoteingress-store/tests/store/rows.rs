//! Rows of all shapes: edgeProxy's, ours, and bad ones.

use crate::folder::{EDGEPROXY, Folder, changed, ids, read_once, row, three_rows};
use remoteingress_store::routing_db::{
    Admin, Cell, Cells, Column, MAX_TARGETS, Version, Watch, check_row, read_rows,
};
use std::convert::Infallible;
use std::time::Duration;

fn cells(values: &[(Column, Cell)]) -> Cells {
    let mut cells = Cells::default();
    for (column, cell) in values {
        cells.set(*column, cell.clone());
    }
    cells
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

/// A good row but for some values.
fn with(values: &[(Column, Cell)]) -> Cells {
    let mut row = cells(&[
        (Column::Id, text("a")),
        (Column::WgIp, text("10.0.0.1")),
        (Column::Port, Cell::Integer(80)),
    ]);
    for (column, cell) in values {
        row.set(*column, cell.clone());
    }
    row
}

#[test]
fn the_readmes_table_is_read_unmodified() {
    let folder = Folder::new();
    folder.database("routing.db", &three_rows());
    let reading = read_once(&folder, "routing.db");
    assert_eq!(ids(&reading.rows), ["sa-node-1", "us-node-1", "eu-node-1"]);
    let row = row(&reading.rows, "sa-node-1");
    assert_eq!(row.pool.as_deref(), Some("myapp"));
    assert_eq!((row.host.as_str(), row.port), ("10.50.1.1", 8080));
    assert_eq!((row.region.as_deref(), row.country), (Some("sa"), None));
    assert_eq!(
        (row.weight, row.soft_limit, row.hard_limit),
        (2, 50, Some(100))
    );
    assert_eq!(
        (row.healthy, row.priority, row.admin),
        (true, 0, Admin::Active)
    );
    assert!(reading.refused.is_empty());
}

/// Case 29: its code's shape (with `country`), its replicated shape, the fewest columns, ours, and a table that a
/// spreadsheet became.
#[test]
fn all_shapes_of_the_table_are_read() {
    let country = EDGEPROXY.replace("region TEXT,", "region TEXT, country TEXT,");
    let replicated = format!(
        "{country} CREATE TABLE __replication_log (seq INTEGER PRIMARY KEY, row BLOB); \
         CREATE TABLE __replication_peers (id TEXT PRIMARY KEY) WITHOUT ROWID; \
         CREATE TRIGGER backends_log AFTER INSERT ON backends BEGIN INSERT INTO __replication_log(row) VALUES (new.id); \
         END;"
    );
    let full = "INSERT INTO backends (id, app, region, country, wg_ip, port, healthy) \
                VALUES ('a', 'web', 'sa', 'br', 'fd00::1', 80, 1);";
    let few = "CREATE TABLE Backends (ID, WG_IP, Port); INSERT INTO backends VALUES (7, 'db.internal', 80);";
    let ours = format!(
        "{few} ALTER TABLE backends ADD host; ALTER TABLE backends ADD priority; ALTER TABLE backends ADD admin; \
         ALTER TABLE backends ADD slow_start_secs; \
         UPDATE backends SET host='app.example.com', wg_ip=NULL, priority=1, admin='drain', slow_start_secs=30;"
    );
    let sheet = "CREATE TABLE backends (id TEXT, wg_ip TEXT, port TEXT, weight TEXT, region TEXT, country TEXT); \
                 INSERT INTO backends VALUES ('a', '10.0.0.1', '8080', '3', '', '');";
    let view = "CREATE TABLE nodes (name, ip); INSERT INTO nodes VALUES ('a', '10.0.0.1'); \
                CREATE VIEW backends AS SELECT name AS id, ip AS wg_ip, 80 AS port FROM nodes;";
    let folder = Folder::new();
    let read = |name, sql: &str| {
        folder.database(name, sql);
        let mut reading = read_once(&folder, name);
        assert!(reading.refused.is_empty(), "{name}: {:?}", reading.refused);
        assert_eq!(reading.rows.len(), 1, "{name}");
        reading.rows.remove(0)
    };
    for (name, sql) in [("country", country), ("replicated", replicated)] {
        let row = read(name, &format!("{sql} {full}"));
        assert_eq!((row.country, row.host.as_str()), (Some(*b"BR"), "fd00::1"));
    }
    let row = read("few", few);
    assert_eq!((row.id.as_str(), row.host.as_str()), ("7", "db.internal"));
    assert_eq!((row.pool, row.healthy), (None, true));
    let row = read("ours", &ours);
    assert_eq!((row.host.as_str(), row.priority), ("app.example.com", 1));
    assert_eq!((row.admin, row.slow_start_secs), (Admin::Drain, Some(30)));
    let row = read("sheet", sheet);
    assert_eq!(
        (row.port, row.weight, row.region, row.country),
        (8080, 3, None, None)
    );
    assert_eq!(read("view", view).id, "a");
}

#[test]
fn defaults_and_what_gives_way() {
    let limits = |soft: Cell, hard: Cell| {
        let row = with(&[(Column::SoftLimit, soft), (Column::HardLimit, hard)]);
        check_row(&row, 1, false)
            .map(|row| row.map(|row| (row.soft_limit, row.hard_limit)).unwrap())
            .map_err(|refusal| refusal.reason)
    };
    let (null, number) = (Cell::Null, Cell::Integer);
    assert_eq!(limits(null.clone(), null.clone()), Ok((100, Some(150))));
    assert_eq!(limits(number(0), number(0)), Ok((1, None)));
    assert_eq!(limits(null.clone(), number(0)), Ok((100, None)));
    assert_eq!(limits(number(300), null.clone()), Ok((300, Some(300))));
    assert_eq!(limits(null, number(50)), Ok((50, Some(50))));
    assert!(limits(number(101), number(100)).is_err());
    let row = check_row(&with(&[]), 1, false).unwrap().unwrap();
    assert_eq!(
        (row.weight, row.soft_limit, row.hard_limit),
        (2, 100, Some(150))
    );
    assert_eq!((row.healthy, row.slow_start_secs), (true, None));
    let zero = with(&[
        (Column::Weight, Cell::Integer(0)),
        (Column::Healthy, Cell::Integer(0)),
    ]);
    let row = check_row(&zero, 1, false).unwrap().unwrap();
    assert_eq!((row.weight, row.healthy), (0, false));
    let unknown = with(&[(Column::Healthy, Cell::Null)]);
    assert!(!check_row(&unknown, 1, false).unwrap().unwrap().healthy);
}

#[test]
fn deleted_rows_are_left_out_whatever_else_they_have() {
    for (deleted, is_there) in [
        (Cell::Null, true),
        (Cell::Integer(0), true),
        (Cell::Integer(1), false),
        (Cell::Integer(2), false),
    ] {
        let row = with(&[(Column::Deleted, deleted)]);
        assert_eq!(check_row(&row, 1, false).unwrap().is_some(), is_there);
    }
    let broken = with(&[
        (Column::Deleted, Cell::Integer(1)),
        (Column::Port, Cell::Null),
    ]);
    assert_eq!(check_row(&broken, 1, false), Ok(None));
}

#[test]
fn special_addresses_are_refused_unless_the_hub_allows_them() {
    for (column, special) in [
        (Column::WgIp, "169.254.169.254"),
        (Column::WgIp, "::ffff:169.254.169.254"),
        (Column::WgIp, "fe80::1"),
        (Column::WgIp, "0.0.0.0"),
        (Column::Host, "ff02::1"),
        (Column::Host, "[fd00:ec2::254]"),
    ] {
        let row = with(&[(column, text(special))]);
        let refusal = check_row(&row, 4, false).unwrap_err();
        assert_eq!((refusal.id.as_deref(), refusal.row), (Some("a"), 4));
        assert!(
            refusal.reason.starts_with(column.name()),
            "{}",
            refusal.reason
        );
        assert!(refusal.reason.contains("allowSpecialTargets"));
        assert!(check_row(&row, 4, true).is_ok(), "{special}");
    }
}

/// The SQL of a value, and the start of the reason.
const BAD: [(&str, &str, &str); 20] = [
    ("id", "NULL", "id is missing"),
    ("id", "x'01'", "id is a blob"),
    ("id", "''", "id is missing"),
    ("wg_ip", "NULL", "wg_ip is missing"),
    ("wg_ip", "'not an ip'", "wg_ip is \"not an ip\""),
    ("wg_ip", "'10.0.0.300'", "wg_ip is \"10.0.0.300\""),
    ("wg_ip", "'http://a'", "wg_ip is \"http://a\""),
    ("wg_ip", "'169.254.169.254'", "wg_ip is 169.254.169.254"),
    (
        "wg_ip",
        "printf('%.*c', 2000, 'a')",
        "wg_ip is a blob, or text that is too long",
    ),
    ("port", "NULL", "port is missing"),
    (
        "port",
        "0",
        "port is 0; it must be a whole number from 1 to 65535",
    ),
    ("port", "70000", "port is 70000"),
    ("port", "'x'", "port is \"x\""),
    ("port", "80.5", "port is 80.5"),
    ("weight", "-5", "weight is -5"),
    ("weight", "70000", "weight is 70000"),
    (
        "soft_limit",
        "200",
        "soft_limit 200 is above hard_limit 100",
    ),
    ("hard_limit", "-1", "hard_limit is -1"),
    ("healthy", "'yes'", "healthy is no number"),
    ("deleted", "'no'", "deleted is no number"),
];

/// Case 27.
#[test]
fn bad_rows_among_good_ones_are_refused_alone_and_named_once() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", EDGEPROXY);
    let insert = |id: &str| {
        let sql = "INSERT INTO backends VALUES (?1,'web','sa','10.0.0.1',80,1,2,50,100,0)";
        writer.execute(sql, [id]).unwrap();
    };
    for index in 0..80 {
        insert(&format!("good-{index}"));
        if let Some((column, value, _)) = BAD.get(index) {
            insert(&format!("bad-{index}"));
            let sql = format!("UPDATE backends SET {column}={value} WHERE id='bad-{index}'");
            writer.execute(&sql, []).unwrap();
        }
    }
    let mut watch = Watch::new(folder.path("routing.db"), false);
    let (first, change) = Version::default().next(changed(watch.poll()));
    assert_eq!((first.rows.len(), first.revision), (80, 1));
    assert!(first.rows.keys().all(|id| id.starts_with("good-")));
    assert_eq!(change.refused.len(), BAD.len());
    for (index, ((_, value, reason), refusal)) in BAD.iter().zip(&change.refused).enumerate() {
        assert!(
            refusal.reason.starts_with(reason),
            "{value}: {}",
            refusal.reason
        );
        let id = (index > 2).then(|| format!("bad-{index}"));
        assert_eq!(
            (refusal.id.clone(), refusal.row),
            (id, 2 * index as u64 + 2)
        );
    }

    // A good row made bad keeps its last good version and is named; the twenty are not named again.
    let sql = "UPDATE backends SET port=70000, region='eu' WHERE id='good-7'";
    writer.execute(sql, []).unwrap();
    let (second, change) = first.next(changed(watch.poll()));
    assert_eq!(second.rows, first.rows);
    assert_eq!((second.revision, second.refused.len()), (1, 21));
    let [told] = change.refused.as_slice() else {
        panic!("{:?}", change.refused)
    };
    assert_eq!(told.id.as_deref(), Some("good-7"));
    assert!(change.added.is_empty() && change.removed.is_empty() && change.changed.is_empty());

    // Good again with other values: changed. Deleted: removed, also while it is bad.
    writer
        .execute_batch(
            "UPDATE backends SET port=81 WHERE id='good-7'; UPDATE backends SET port=0 WHERE id='good-8'; \
             UPDATE backends SET deleted=1, port=0 WHERE id='good-9'; DELETE FROM backends WHERE id='good-10'",
        )
        .unwrap();
    let (third, change) = second.next(changed(watch.poll()));
    assert_eq!(change.changed, ["good-7"]);
    assert_eq!(change.removed, ["good-10", "good-9"]);
    assert_eq!(third.rows["good-8"].port, 80);
    assert_eq!((third.rows["good-7"].port, third.revision), (81, 2));
}

/// Two rows of one id: no index forbids it in a table that somebody made by hand.
#[test]
fn of_two_rows_with_one_id_the_first_counts() {
    let rows = [with(&[]), with(&[(Column::Port, Cell::Integer(81))])];
    let reading = read_rows(rows.into_iter().map(Ok::<_, Infallible>), false).unwrap();
    assert_eq!((reading.rows.len(), reading.rows[0].port), (1, 80));
    assert!(reading.refused[0].reason.contains("there twice"));
}

#[test]
fn no_more_rows_and_targets_than_the_bounds() {
    let row =
        |number: usize| Ok::<_, Infallible>(with(&[(Column::Id, Cell::Integer(number as i64))]));
    let reading = read_rows((0..100_000).map(row), false).unwrap();
    assert_eq!((reading.rows.len(), reading.beyond), (MAX_TARGETS, 90_000));
    assert!(!reading.is_cut);
    let mut looked_at = 0;
    let rows = (0..200_000).map(row).inspect(|_| looked_at += 1);
    let deleted = rows.map(|row| {
        row.map(|mut row| {
            row.set(Column::Deleted, Cell::Integer(1));
            row
        })
    });
    let reading = read_rows(deleted, false).unwrap();
    assert_eq!(
        (reading.deleted, reading.is_cut, looked_at),
        (100_000, true, 100_001)
    );
    // Kept rows find no room beside as many good ones.
    let (before, _) = Version::default().next(read_rows([row(1_000_000)], false).unwrap());
    let bad = with(&[
        (Column::Id, Cell::Integer(1_000_000)),
        (Column::Port, Cell::Null),
    ]);
    let rows = (0..10_000).map(row).chain([Ok(bad)]);
    let (next, change) = before.next(read_rows(rows, false).unwrap());
    assert_eq!((next.rows.len(), change.removed.len()), (MAX_TARGETS, 1));
}

/// What this thread has computed, to a tick of the kernel's clock; other programs don't count.
fn computed() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

/// Case 30, as far as a crate alone can show it: the mean of ten loads.
#[test]
fn ten_thousand_rows_are_loaded_within_50_ms() {
    let folder = Folder::new();
    let writer = folder.database("routing.db", EDGEPROXY);
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<10000) INSERT INTO backends \
               SELECT 'node-'||i, 'app-'||(i%100), 'sa', '10.'||(i%200)||'.1.2', 8080, 1, 2, 50, 100, 0 FROM n";
    writer.execute_batch(sql).unwrap();
    let start = computed();
    for _ in 0..10 {
        assert_eq!(read_once(&folder, "routing.db").rows.len(), 10_000);
    }
    let mean = (computed() - start) / 10;
    println!("10,000 rows checked and read in {mean:?}");
    // Of a build without optimisation, on a busy machine; the figure is 20 ms.
    assert!(mean <= Duration::from_millis(500), "{mean:?}");
}
