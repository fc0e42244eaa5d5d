//! ClientHellos of rustls, whole and in pieces, sound and damaged, beside its own reader of them.

use proptest::prelude::*;
use remoteingress_routing::detect::{
    ClientHello, Detected, Detector, HelloError, MAX_HELLO, Protocol,
};
use rustls::pki_types::ServerName;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use std::sync::Arc;

fn config(alpn: &[&str]) -> ClientConfig {
    let roots = Arc::new(RootCertStore::empty());
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

fn sent(config: ClientConfig, host: &str) -> Vec<u8> {
    let name = ServerName::try_from(host.to_owned()).expect("a name or an address");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a sound configuration");
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).expect("memory takes all");
    bytes
}

/// A hello without its records, and the same in records of these lengths, over and over.
fn message(bytes: &[u8]) -> Vec<u8> {
    let mut rest = bytes;
    let mut message = Vec::new();
    while let Some((header, after)) = rest.split_first_chunk::<5>() {
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        message.extend_from_slice(&after[..length]);
        rest = &after[length..];
    }
    message
}

fn in_records(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let mut rest = message;
    let mut bytes = Vec::new();
    for length in lengths.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (record, after) = rest.split_at((*length).min(rest.len()));
        bytes.extend_from_slice(&[22, 3, 1]);
        bytes.extend_from_slice(
            &u16::try_from(record.len())
                .expect("a short record")
                .to_be_bytes(),
        );
        bytes.extend_from_slice(record);
        rest = after;
    }
    bytes
}

/// All at once.
fn detect(bytes: &[u8]) -> Detected {
    Detector::new().take(bytes)
}

/// In pieces of these lengths, over and over; and how many bytes it took to tell.
fn detect_in(bytes: &[u8], pieces: &[usize]) -> (Detected, usize) {
    let mut detector = Detector::new();
    let mut rest = bytes;
    for length in pieces.iter().cycle() {
        let (piece, after) = rest.split_at((*length).min(rest.len()));
        let detected = detector.take(piece);
        if detected != Detected::NeedsMore || after.is_empty() {
            return (detected, detector.taken());
        }
        rest = after;
    }
    unreachable!("there are pieces")
}

fn hello(detected: Detected) -> ClientHello {
    let Detected::Protocol(Protocol::Tls(hello)) = detected else {
        panic!("{detected:?}");
    };
    hello
}

/// The name and the protocols as rustls reads them.
fn oracle(bytes: &[u8]) -> Option<(Option<String>, Vec<Vec<u8>>)> {
    let mut acceptor = Acceptor::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        acceptor.read_tls(&mut rest).ok()?;
        if let Some(accepted) = acceptor.accept().ok()? {
            let hello = accepted.client_hello();
            let alpn = hello.alpn().into_iter().flatten();
            // In the one form that a name has here.
            let one_form = |name: &str| name.trim_end_matches('.').to_ascii_lowercase();
            return Some((
                hello.server_name().map(one_form),
                alpn.map(<[u8]>::to_vec).collect(),
            ));
        }
    }
    None
}

#[test]
fn a_hello_tells_its_name_and_protocols() {
    let bytes = sent(config(&["h2", "http/1.1"]), "App.Example.com");
    // Keys of post-quantum exchanges alone nearly fill a segment.
    assert!(bytes.len() > 1_400, "{} bytes", bytes.len());
    let hello = hello(detect(&bytes));
    assert_eq!(hello.server_name.unwrap().as_str(), "app.example.com");
    assert_eq!(
        hello.alpn,
        [Box::from(&b"h2"[..]), Box::from(&b"http/1.1"[..])]
    );
}

#[test]
fn a_client_of_an_address_has_no_name() {
    let bytes = sent(config(&[]), "192.0.2.1");
    assert_eq!(hello(detect(&bytes)), ClientHello::default());
}

#[test]
fn the_proof_of_a_certificate_authority_is_told() {
    let is_acme = |alpn: &[&str]| hello(detect(&sent(config(alpn), "a.example"))).is_acme();
    assert!(is_acme(&["acme-tls/1"]));
    assert!(!is_acme(&["acme-tls/1", "h2"]) && !is_acme(&["h2"]) && !is_acme(&[]));
}

#[test]
fn a_hello_by_bytes_over_records_of_a_byte_is_the_same() {
    let bytes = sent(config(&["h2"]), "app.example.com");
    let whole = detect(&bytes);
    assert_eq!(detect_in(&bytes, &[1]), (whole.clone(), bytes.len()));
    let scattered = in_records(&message(&bytes), &[1]);
    assert_eq!(
        detect_in(&scattered, &[1]),
        (whole.clone(), scattered.len())
    );
    // What comes behind it is none of the detector's business.
    let more = [&bytes[..], b"more"].concat();
    assert_eq!(detect(&more), whole);
    assert_eq!(detect_in(&more, &[bytes.len()]).0, whole);
}

#[test]
fn a_hello_has_a_limit_and_reaches_it() {
    // Padding (RFC 7685) up to the last byte.
    let base = message(&sent(config(&[]), "app.example.com"));
    let padded = |total: usize| {
        let mut padded = base.clone();
        let padding = total - base.len() - 4;
        padded.extend_from_slice(&[0, 21]);
        padded.extend_from_slice(&u16::try_from(padding).unwrap().to_be_bytes());
        padded.resize(total, 0);
        let length = u32::try_from(total - 4).unwrap().to_be_bytes();
        padded[1..4].copy_from_slice(&length[1..]);
        // The extensions' length stands ahead of the first of them.
        let sessions = 4 + 2 + 32;
        let suites = sessions + 1 + usize::from(padded[sessions]);
        let count = usize::from(u16::from_be_bytes([padded[suites], padded[suites + 1]]));
        let methods = suites + 2 + count;
        let extensions = methods + 1 + usize::from(padded[methods]);
        let length = u16::try_from(total - extensions - 2).unwrap();
        padded[extensions..extensions + 2].copy_from_slice(&length.to_be_bytes());
        padded
    };
    let most = padded(65_000);
    let bytes = in_records(&most, &[16 * 1024]);
    let name = hello(detect_in(&bytes, &[1_000]).0).server_name;
    assert_eq!(name.unwrap().as_str(), "app.example.com");
    // Records of a byte make six of each.
    let bytes = in_records(&most, &[1]);
    let (detected, taken) = detect_in(&bytes, &[1_000]);
    assert_eq!(detected, Detected::Refused(HelloError::TooLarge));
    assert!((MAX_HELLO..MAX_HELLO + 1_000).contains(&taken), "{taken}");
    let mut larger = message(&sent(config(&[]), "app.example.com"));
    larger[1] = 2;
    let bytes = in_records(&larger, &[16 * 1024]);
    assert_eq!(detect(&bytes), Detected::Refused(HelloError::TooLarge));
}

#[test]
fn what_is_no_hello_is_told_with_the_byte_that_shows_it() {
    for (bytes, detected) in [
        (&[22][..], Detected::NeedsMore),
        (&[22, 3], Detected::NeedsMore),
        (&[22, 3, 1, 0, 5], Detected::NeedsMore),
        (&[22, 2], Detected::Protocol(Protocol::Other)),
        (&[21, 3, 1, 0, 2], Detected::Protocol(Protocol::Other)),
        (&[0x80, 0x2e, 1], Detected::Protocol(Protocol::Other)),
        (&[22, 3, 1, 0, 0], Detected::Refused(HelloError::Record)),
        (&[22, 3, 1, 0x40, 1], Detected::Refused(HelloError::Record)),
        (&[22, 3, 1, 0, 4, 2], Detected::Refused(HelloError::NoHello)),
        (
            &[22, 3, 1, 0, 1, 1, 23],
            Detected::Refused(HelloError::Record),
        ),
        (b"GET / HTTP/1.1", Detected::Protocol(Protocol::Http)),
        (b"SSH-2.0-x", Detected::Protocol(Protocol::Other)),
        (b"", Detected::NeedsMore),
    ] {
        assert_eq!(detect(bytes), detected, "{bytes:?}");
        if !bytes.is_empty() {
            assert_eq!(detect_in(bytes, &[1]).0, detected, "{bytes:?} by bytes");
        }
    }
}

proptest! {
    #[test]
    fn pieces_and_records_of_any_length_show_the_same(
        pieces in prop::collection::vec(1_usize..600, 1..6),
        lengths in prop::collection::vec(1_usize..600, 1..6),
    ) {
        let bytes = sent(config(&["h2", "acme-tls/1"]), "a.b.example");
        let whole = detect(&bytes);
        let scattered = in_records(&message(&bytes), &lengths);
        prop_assert_eq!(detect_in(&scattered, &pieces).0, whole);
        prop_assert!(oracle(&scattered).is_some());
    }

    /// Whoever answers the connection reads the same name, unless it is refused here: rustls takes a list of names that has
    /// more behind its first one, for instance.
    #[test]
    fn a_damaged_hello_has_the_name_that_rustls_reads_or_is_refused(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = sent(config(&["h2"]), "app.example.com");
        for (place, value) in damage {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let detected = detect(&bytes);
        if let Some(theirs) = oracle(&bytes) {
            if matches!(detected, Detected::Refused(_)) {
                return Ok(());
            }
            let ours = hello(detected);
            let name = ours.server_name.map(|name| name.as_str().to_owned());
            let alpn = ours.alpn.iter().map(|name| name.to_vec()).collect::<Vec<_>>();
            prop_assert_eq!((name, alpn), theirs);
        }
    }

    #[test]
    fn no_bytes_make_it_panic_and_pieces_change_nothing(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        is_tls in any::<bool>(),
        pieces in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let mut bytes = bytes;
        if is_tls && bytes.len() >= 6 {
            bytes[..6].copy_from_slice(&[22, 3, 1, 0, 200, 1]);
        }
        let whole = detect(&bytes);
        if !bytes.is_empty() {
            prop_assert_eq!(detect_in(&bytes, &pieces).0, whole);
        }
    }
}
