//! Countries of addresses, from files that this test writes: case 32.

use crate::folder::Folder;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use remoteingress_store::geo_file::{
    Country, GeoFile, GeoFileError, MAX_AGE, MAX_BYTES, Poll, Watch,
};
use remoteingress_testkit::mmdb::{Mmdb, Value, flat, geolite, text};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

fn code(geo: &GeoFile, address: &str) -> Option<String> {
    let country = geo.country(address.parse().unwrap())?;
    Some(String::from_utf8(country.code.to_vec()).unwrap())
}

fn sample(ip_version: u16, record_size: u16, shape: fn(&str) -> Value) -> Mmdb {
    let mut mmdb = Mmdb::new(ip_version, record_size);
    mmdb.add("10.0.0.0/8", shape("BR"));
    mmdb.add("10.1.0.0/16", shape("AR"));
    mmdb.add("192.0.2.1/32", shape("US"));
    mmdb.add("224.0.0.0/3", shape("DE"));
    if ip_version == 6 {
        mmdb.add("2001:db8::/32", shape("JP"));
        mmdb.add("2001:db8:1::/48", shape("KR"));
        mmdb.add("2001:db8:1::7/128", shape("SG"));
    }
    mmdb
}

const ADDRESSES: [(&str, Option<&str>); 14] = [
    ("10.0.0.0", Some("BR")),
    ("10.255.255.255", Some("BR")),
    ("10.1.2.3", Some("AR")),
    ("11.0.0.0", None),
    ("192.0.2.1", Some("US")),
    ("192.0.2.2", None),
    ("255.255.255.255", Some("DE")),
    ("::ffff:10.1.2.3", Some("AR")),
    ("::ffff:11.0.0.0", None),
    ("2001:db8::1", Some("JP")),
    ("2001:db8:1::1", Some("KR")),
    ("2001:db8:1::7", Some("SG")),
    ("2001:db9::", None),
    ("fe80::1", None),
];

const SHAPES: [fn(&str) -> Value; 2] = [|code| geolite(code, "ZA", "SA"), flat];

#[test]
fn both_shapes_in_all_sizes_of_records() {
    for shape in SHAPES {
        for (ip_version, record_size) in [(6, 24), (6, 28), (6, 32), (4, 24), (4, 28), (4, 32)] {
            let geo = GeoFile::parse(sample(ip_version, record_size, shape).bytes()).unwrap();
            for (address, expected) in ADDRESSES {
                let is_known = ip_version == 6 || !address.starts_with("2001");
                let expected = expected.filter(|_| is_known);
                assert_eq!(
                    code(&geo, address).as_deref(),
                    expected,
                    "{address} {record_size}"
                );
            }
        }
    }
}

#[test]
fn the_first_place_that_has_a_country_counts() {
    let map = Value::Map;
    for (record, expected) in [
        (geolite("BR", "US", "SA"), Some((*b"BR", Some(*b"SA")))),
        (geolite("", "US", "NA"), Some((*b"US", Some(*b"NA")))),
        (geolite("BR", "US", ""), Some((*b"BR", None))),
        (geolite("", "", "EU"), None),
        (flat("de"), Some((*b"DE", None))),
        (flat(""), None),
        (flat("DEU"), None),
        (flat("1A"), None),
        // IPinfo's two.
        (
            map(vec![
                ("country", text("Brazil")),
                ("country_code", text("BR")),
                ("continent", text("South America")),
                ("continent_code", text("SA")),
            ]),
            Some((*b"BR", Some(*b"SA"))),
        ),
        (
            map(vec![("country", text("BR")), ("continent", text("SA"))]),
            Some((*b"BR", Some(*b"SA"))),
        ),
        // Values of other types have no country, and are no damage.
        (
            map(vec![
                ("country", Value::Number32(7)),
                (
                    "registered_country",
                    Value::List(vec![Value::Flag(true), text("BR")]),
                ),
                ("country_code", text("FR")),
            ]),
            Some((*b"FR", None)),
        ),
        (map(vec![]), None),
    ] {
        let mut mmdb = Mmdb::new(4, 24);
        mmdb.add("10.0.0.0/8", record.clone());
        mmdb.add("11.0.0.0/8", flat("XX"));
        let geo = GeoFile::parse(mmdb.bytes()).unwrap();
        let expected = expected.map(|(code, continent)| Country { code, continent });
        assert_eq!(
            geo.country("10.1.1.1".parse().unwrap()),
            expected,
            "{record:?}"
        );
    }
}

/// Makers share values: the country of one record is a pointer into another.
#[test]
fn pointers_are_followed() {
    let mut mmdb = Mmdb::new(4, 24);
    mmdb.add("10.0.0.0/8", Value::Map(vec![("iso_code", text("BR"))]));
    mmdb.add(
        "11.0.0.0/8",
        Value::Map(vec![("country", Value::Pointer(0))]),
    );
    let geo = GeoFile::parse(mmdb.bytes()).unwrap();
    assert_eq!(code(&geo, "11.1.1.1").as_deref(), Some("BR"));
}

#[test]
fn a_database_without_countries_is_refused_by_its_name() {
    let mut mmdb = Mmdb::new(4, 24);
    mmdb.add(
        "10.0.0.0/8",
        Value::Map(vec![("autonomous_system_number", Value::Number32(64_496))]),
    );
    let error = GeoFile::parse(mmdb.bytes()).unwrap_err();
    assert_eq!(error, GeoFileError::NoCountries("Test-Country".into()));
}

#[test]
fn an_old_database_is_worth_a_warning() {
    let mut mmdb = sample(6, 28, flat);
    mmdb.build_epoch = 1_700_000_000;
    let geo = GeoFile::parse(mmdb.bytes()).unwrap();
    let built = UNIX_EPOCH + Duration::from_secs(geo.build_epoch());
    assert_eq!(geo.build_epoch(), 1_700_000_000);
    assert_eq!(geo.too_old(built + MAX_AGE), None);
    let second = Duration::from_secs(1);
    assert_eq!(
        geo.too_old(built + MAX_AGE + second),
        Some(MAX_AGE + second)
    );
    assert_eq!(
        geo.too_old(UNIX_EPOCH),
        None,
        "the machine's clock is wrong"
    );
    assert_eq!(geo.kind(), "Test-Country");
    let mut two = Mmdb::new(6, 24);
    two.add("10.0.0.0/8", flat("BR"));
    two.add("2001:db8::/32", flat("BR"));
    assert_eq!(GeoFile::parse(two.bytes()).unwrap().networks(), 2);
}

/// MaxMind's own reader, of Debian's mmdb-bin.
#[test]
fn mmdblookup_reads_the_same() {
    if Command::new("mmdblookup")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("skipped: there is no mmdblookup (Debian's mmdb-bin)");
        return;
    }
    let folder = Folder::new();
    let mut random = ChaCha8Rng::seed_from_u64(32);
    for (shape, path) in SHAPES
        .into_iter()
        .zip([&["country", "iso_code"][..], &["country_code"]])
    {
        for record_size in [24, 28, 32] {
            let mut mmdb = sample(6, record_size, shape);
            let mut addresses: Vec<IpAddr> = ADDRESSES
                .iter()
                .map(|(text, _)| text.parse().unwrap())
                .collect();
            for index in 0..60_u32 {
                let letters = [b'A' + (index % 26) as u8, b'A' + (index / 26) as u8];
                let record = shape(std::str::from_utf8(&letters).unwrap());
                let v4 = Ipv4Addr::from_bits(random.next_u32() & 0x3fff_ff00 | 0x4000_0000);
                let v6 = Ipv6Addr::from_bits(0x2a00 << 112 | u128::from(random.next_u64()) << 48);
                mmdb.add(&format!("{v4}/24"), record.clone());
                mmdb.add(&format!("{v6}/80"), record);
                addresses.extend([IpAddr::V4(v4), IpAddr::V6(v6)]);
                addresses.push(Ipv4Addr::from_bits(random.next_u32()).into());
            }
            let file = folder.path("country.mmdb");
            fs::write(&file, mmdb.bytes()).unwrap();
            let geo = GeoFile::load(&file).unwrap();
            for address in addresses {
                let lookup = Command::new("mmdblookup")
                    .arg("--file")
                    .arg(&file)
                    .args(["--ip", &address.to_canonical().to_string()])
                    .args(path)
                    .output()
                    .unwrap();
                let output = String::from_utf8(lookup.stdout).unwrap();
                let theirs = output.split('"').nth(1).map(str::to_owned);
                assert_eq!(code(&geo, &address.to_string()), theirs, "{address}");
            }
        }
    }
}

#[track_caller]
fn changed(poll: Poll) -> GeoFile {
    match poll {
        Poll::Changed(geo) => geo,
        other @ (Poll::Unchanged | Poll::Failed(_)) => panic!("{other:?}"),
    }
}

#[track_caller]
fn failed(poll: Poll) -> GeoFileError {
    match poll {
        Poll::Failed(error) => error,
        other @ (Poll::Unchanged | Poll::Changed(_)) => panic!("{other:?}"),
    }
}

#[track_caller]
fn assert_rests(watch: &mut Watch) {
    for _ in 0..3 {
        let poll = watch.poll();
        assert!(matches!(poll, Poll::Unchanged), "{poll:?}");
    }
}

#[test]
fn a_replaced_file_is_read_when_it_rests_and_a_broken_one_is_told_once() {
    let folder = Folder::new();
    let path = folder.path("country.mmdb");
    let mut watch = Watch::new(&path);
    assert_eq!(failed(watch.poll()).reason(), "missing");
    fs::write(&path, sample(6, 24, flat).bytes()).unwrap();
    assert!(
        matches!(watch.poll(), Poll::Changed(_)),
        "the first file is read at once"
    );
    assert_rests(&mut watch);

    // Renamed to the path: same name, other inode.
    let mut mmdb = sample(6, 24, flat);
    mmdb.add("198.51.100.0/24", flat("CL"));
    fs::write(folder.path("next"), mmdb.bytes()).unwrap();
    fs::rename(folder.path("next"), &path).unwrap();
    assert!(matches!(watch.poll(), Poll::Unchanged));
    assert_eq!(
        code(&changed(watch.poll()), "198.51.100.7").as_deref(),
        Some("CL")
    );
    assert_rests(&mut watch);

    // Copied over it, slowly: nothing is read before it rests, so nothing is refused.
    let bytes = sample(6, 32, flat).bytes();
    for part in 1..=4 {
        folder.pass_tick();
        fs::write(&path, &bytes[..bytes.len() * part / 4]).unwrap();
        assert!(matches!(watch.poll(), Poll::Unchanged));
    }
    assert_eq!(code(&changed(watch.poll()), "198.51.100.7"), None);

    folder.pass_tick();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(matches!(watch.poll(), Poll::Unchanged));
    assert_eq!(failed(watch.poll()).reason(), "damaged");
    assert_rests(&mut watch);
    fs::remove_file(&path).unwrap();
    assert_eq!(failed(watch.poll()).reason(), "missing");
    assert_eq!(failed(watch.poll()).reason(), "missing");
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(watch.poll(), Poll::Unchanged));
    changed(watch.poll());
}

/// A hub that starts while the file is copied.
#[test]
fn a_broken_first_file_is_looked_at_twice() {
    let folder = Folder::new();
    let path = folder.path("country.mmdb");
    fs::write(&path, "half").unwrap();
    let mut watch = Watch::new(&path);
    assert_eq!(failed(watch.poll()).reason(), "damaged");
    assert_eq!(failed(watch.poll()).reason(), "damaged");
    assert_rests(&mut watch);
}

#[test]
fn what_is_no_database_says_so() {
    let folder = Folder::new();
    let reason = |name: &str| {
        let error = GeoFile::load(&folder.path(name)).unwrap_err();
        assert!(
            error.to_string().contains("; "),
            "no word on what to do: {error}"
        );
        error.reason()
    };
    assert_eq!(reason("none"), "missing");
    fs::create_dir(folder.path("folder")).unwrap();
    assert_eq!(reason("folder"), "notAFile");
    let large = fs::File::create(folder.path("large")).unwrap();
    large.set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(reason("large"), "tooLarge");
    fs::write(folder.path("text"), "no database").unwrap();
    assert_eq!(reason("text"), "damaged");
}
