//! Records after the handshake: true bytes at any boundary, key updates, both kinds of end, garbage.

use bytes::{BufMut, Bytes};
use rustls::crypto::CipherSuiteCommon;
use rustls::{SupportedCipherSuite, Tls13CipherSuite};
use tokio::io::duplex;

use super::peer::{
    BOTH, Ours, Random, Stock, client_tls, pair, receive, send, server_tls, shake, sockets, soon,
    take_sent,
};
use crate::transport::identity::Identity;
use crate::transport::tls::config::{OneCertificate, ServerTls, provider};
use crate::transport::tls::{Opened, RECEIVE_CAPACITY, TlsConnection, TlsError, accept, connect};
use remoteingress_config::error::ErrorCode;

/// A KeyUpdate as a record, bytes.
const KEY_UPDATE: usize = 5 + 22;
/// Plaintext of one direction in the large test, bytes.
const LENGTH: usize = 16 << 20;

#[tokio::test]
async fn bytes_are_true_at_any_boundary() {
    for (seed, ours) in [(1, Ours::Client), (2, Ours::Server)] {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        connection.widen();
        let mut random = Random(seed);
        let plaintext = random.bytes(LENGTH);
        let (mut there, mut back) = (Vec::new(), Vec::new());

        let mut rest = plaintext.as_slice();
        while !rest.is_empty() {
            let (now, later) = rest.split_at(random.up_to(40_000).min(rest.len()));
            rest = later;
            let mut sealed = Vec::new();
            connection.seal(now, &mut sealed).unwrap();
            there.extend(receive(&mut peer, &sealed).0);
            let sent = send(&mut peer, now);
            let most = if random.up_to(4) == 1 { 50 } else { 70_000 };
            back.extend(
                deliver(&mut connection, &sent, || random.up_to(most))
                    .unwrap()
                    .concat(),
            );
        }
        assert!(there == plaintext, "{ours:?} sends truly");
        assert!(back == plaintext, "{ours:?} receives truly");
    }
}

#[tokio::test]
async fn one_byte_at_a_time() {
    for ours in BOTH {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        let sent = send(&mut peer, &[9; 20_000]);
        let payloads = deliver(&mut connection, &sent, || 1).unwrap();
        assert_eq!(payloads.concat(), [9; 20_000]);
        assert_eq!(payloads.len(), 2);
    }
}

#[tokio::test]
async fn full_frame_is_one_record() {
    let (mut connection, _peer) = pair(Ours::Client, Stock::default()).await;
    let mut sealed = Vec::new();
    connection.seal(&[0; 16_384], &mut sealed).unwrap();
    assert_eq!(sealed.len(), 16_384 + 22);
    connection.seal(&[], &mut sealed).unwrap();
    assert_eq!(sealed.len(), 16_384 + 22, "nothing has no record");
}

#[tokio::test]
async fn key_updates_of_the_peer_are_followed() {
    for ours in BOTH {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        let mut random = Random(3);
        for round in 0..100 {
            peer.refresh_traffic_keys().unwrap();
            let text = random.bytes(random.0 as usize % 5000 + 1);
            let sent = send(&mut peer, &text);
            assert_eq!(
                deliver(&mut connection, &sent, || 777).unwrap().concat(),
                text
            );
            let mut sealed = Vec::new();
            connection.seal(&text, &mut sealed).unwrap();
            // The answer goes ahead of the payload, in records of their own.
            assert!(
                sealed.len() > text.len() + 22,
                "round {round} has an answer"
            );
            assert_eq!(receive(&mut peer, &sealed).0, text);
        }
    }
}

#[tokio::test]
async fn key_updates_are_requested_and_answered_without_a_request() {
    for ours in BOTH {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        for _ in 0..40 {
            let mut sealed = Vec::new();
            connection
                .records
                .update_sending_key(1, &mut sealed)
                .unwrap();
            connection.seal(b"question", &mut sealed).unwrap();
            assert_eq!(receive(&mut peer, &sealed).0, b"question");
            let sent = send(&mut peer, b"answer");
            assert_eq!(
                sent.len(),
                6 + 22 + KEY_UPDATE,
                "the peer's KeyUpdate is there"
            );
            let payloads = deliver(&mut connection, &sent, || 9).unwrap();
            assert_eq!(payloads.concat(), b"answer");
            let mut answer = Vec::new();
            connection.flush(&mut answer);
            assert!(answer.is_empty(), "it didn't request anything");
        }
    }
}

#[tokio::test]
async fn our_keys_are_refreshed_before_their_limit() {
    let mut provider = provider();
    provider.cipher_suites = vec![short_lived(provider.cipher_suites[0])];
    let key = Identity::in_memory().unwrap();
    let key = rustls::sign::CertifiedKey::from_der(key.chain, key.key, &provider).unwrap();
    let resolver = std::sync::Arc::new(OneCertificate(key.into()));
    let tls = ServerTls::with_resolver(provider, resolver).unwrap();

    let (mut near, mut far) = duplex(1 << 16);
    let client = client_tls(&[]);
    let (edge, hub) = tokio::join!(
        connect(&mut near, &client, soon()),
        accept(&mut far, &tls, soon())
    );
    let (mut edge, mut hub) = (edge.unwrap(), hub.unwrap());
    let (mut socket, far) = sockets();
    let stock = shake(Stock::default().client(), far);
    let mut stock_hub = accept(&mut socket, &tls, soon()).await.unwrap();
    let mut stock = stock.join().unwrap().unwrap();

    for round in 0..500 {
        let mut sealed = Vec::new();
        hub.seal(b"payload", &mut sealed).unwrap();
        // The seventh payload and the KeyUpdate make half of the limit, 16.
        let update = if round > 0 && round % 8 == 0 {
            KEY_UPDATE
        } else {
            0
        };
        assert_eq!(sealed.len(), 7 + 22 + update, "round {round}");
        assert_eq!(
            deliver(&mut edge, &sealed, || 9).unwrap().concat(),
            b"payload"
        );
        let mut sealed = Vec::new();
        edge.seal(b"answer", &mut sealed).unwrap();
        assert_eq!(sealed.len(), 6 + 22, "it wasn't asked for new keys");
        assert_eq!(
            deliver(&mut hub, &sealed, || 9).unwrap().concat(),
            b"answer"
        );

        let mut sealed = Vec::new();
        stock_hub.seal(b"payload", &mut sealed).unwrap();
        assert_eq!(receive(&mut stock, &sealed).0, b"payload");
        let sent = send(&mut stock, b"answer");
        let payloads = deliver(&mut stock_hub, &sent, || 9).unwrap();
        assert_eq!(payloads.concat(), b"answer");
    }

    // Also within one call, and the end of the connection has new keys as well.
    let mut sealed = Vec::new();
    stock_hub.seal(&[5; 100 * 16_384], &mut sealed).unwrap();
    stock_hub.close_notify(&mut sealed);
    assert_eq!(receive(&mut stock, &sealed), (vec![5; 100 * 16_384], true));
}

#[tokio::test]
async fn every_suite_carries_payload_and_new_keys() {
    for suite in provider().cipher_suites {
        for ours in BOTH {
            let mut stock = Stock::default();
            stock.provider.cipher_suites = vec![suite];
            let (mut connection, mut peer) = pair(ours, stock).await;
            for length in [1, 15, 16, 17, 1000, 16_384, 16_385, 70_000] {
                let text = Random(9).bytes(length);
                let mut sealed = Vec::new();
                connection.seal(&text, &mut sealed).unwrap();
                assert_eq!(receive(&mut peer, &sealed).0, text, "{suite:?} {ours:?}");
                let sent = send(&mut peer, &text);
                let payloads = deliver(&mut connection, &sent, || 5000).unwrap();
                assert_eq!(payloads.concat(), text, "{suite:?} {ours:?}");
                peer.refresh_traffic_keys().unwrap();
            }
            let mut sealed = Vec::new();
            connection.close_notify(&mut sealed);
            assert!(receive(&mut peer, &sealed).1);
        }
    }
}

#[tokio::test]
async fn record_may_be_cut_at_every_boundary() {
    for ours in BOTH {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        let length = 2 * (40 + 22);
        for cut in 0..=length {
            let mut sent = send(&mut peer, &[1; 40]);
            sent.extend(send(&mut peer, &[2; 40]));
            assert_eq!(sent.len(), length);
            let mut payloads = Vec::new();
            for (part, whole) in [(&sent[..cut], cut / 62), (&sent[cut..], 2)] {
                connection.receive_buffer().put_slice(part);
                let opened = connection.open(&mut payloads).unwrap();
                assert!(!opened.peer_closed);
                assert_eq!(payloads.len(), whole, "cut at {cut}");
            }
            assert_eq!(payloads.concat(), [[1; 40], [2; 40]].concat());
        }
    }
}

#[tokio::test]
async fn proper_end_is_told_from_truncation() {
    for ours in BOTH {
        let (mut connection, mut peer) = pair(ours, Stock::default()).await;
        let sent = send(&mut peer, b"whole");
        connection
            .receive_buffer()
            .put_slice(&sent[..sent.len() - 1]);
        let mut payloads = Vec::new();
        let open = Opened { peer_closed: false };
        assert_eq!(connection.open(&mut payloads).unwrap(), open);
        assert!(payloads.is_empty(), "a part of a record is no payload");
        connection
            .receive_buffer()
            .put_slice(&sent[sent.len() - 1..]);

        peer.send_close_notify();
        let sent = take_sent(&mut peer);
        connection.receive_buffer().put_slice(&sent);
        connection
            .receive_buffer()
            .put_slice(b"bytes after the end are ignored");
        assert!(connection.open(&mut payloads).unwrap().peer_closed);
        assert_eq!(payloads.concat(), b"whole");
        assert!(connection.open(&mut payloads).unwrap().peer_closed);

        // Our direction is still open, and ends by itself.
        let mut sealed = Vec::new();
        connection.seal(b"answer", &mut sealed).unwrap();
        connection.close_notify(&mut sealed);
        assert_eq!(receive(&mut peer, &sealed), (b"answer".to_vec(), true));
        connection.seal(b"too late", &mut sealed).unwrap_err();
    }
}

#[tokio::test]
async fn altered_records_never_give_wrong_bytes() {
    let mut random = Random(5);
    for case in 0..60 {
        let (mut connection, mut peer) = pair(BOTH[case % 2], Stock::default()).await;
        let text = random.bytes(3000);
        let mut sent = send(&mut peer, &text);
        let at = if case < 10 {
            case / 2
        } else {
            random.up_to(sent.len()) - 1
        };
        sent[at] ^= 1 << (random.next() % 8);
        match deliver(&mut connection, &sent, || 1000) {
            // A larger length waits for more.
            Ok(payloads) => {
                assert!((3..5).contains(&at) && payloads.is_empty(), "at {at}");
            }
            Err(error) => {
                assert_eq!(error.code(), ErrorCode::Tls);
                let mut alert = Vec::new();
                connection.flush(&mut alert);
                assert!(!alert.is_empty(), "the peer is told");
                connection.seal(b"more", &mut alert).unwrap_err();
                connection.open(&mut Vec::new()).unwrap_err();
                connection.close_notify(&mut alert);
            }
        }
    }
}

#[tokio::test]
async fn receive_buffer_is_reused_once_its_slices_are_gone() {
    let (mut connection, mut peer) = pair(Ours::Client, Stock::default()).await;
    assert!(
        connection.receive_buffer().remaining_mut() <= 64 * 1024,
        "small before the proof"
    );
    connection.widen();
    let mut read = |text: &[u8]| {
        let sent = send(&mut peer, text);
        connection.receive_buffer().put_slice(&sent);
        let mut payloads = Vec::new();
        connection.open(&mut payloads).unwrap();
        let start = payloads[0].as_ptr();
        (payloads, start, connection.receive_buffer().remaining_mut())
    };

    let (kept, _, _) = read(&[1; 100_000]);
    let (second, start, room) = read(&[2; 100_000]);
    assert!(room >= RECEIVE_CAPACITY / 2);
    assert_eq!(kept.concat(), [1; 100_000], "kept slices stay as they are");
    drop((kept, second));
    let again: Vec<_> = (0..8).map(|_| read(&[3; 100_000]).1).collect();
    assert!(
        again.windows(2).all(|pair| pair[0] == pair[1]),
        "{again:?} after {start:?}"
    );
}

#[tokio::test]
async fn connection_moves_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let (connection, _peer) = pair(Ours::Server, Stock::default()).await;
    is_send(&connection);
    is_send(&server_tls());
}

/// Gives ours `sent` in pieces.
fn deliver(
    connection: &mut TlsConnection,
    mut sent: &[u8],
    mut piece: impl FnMut() -> usize,
) -> Result<Vec<Bytes>, TlsError> {
    let mut payloads = Vec::new();
    while !sent.is_empty() {
        let mut buffer = connection.receive_buffer();
        let (now, later) = sent.split_at(piece().min(sent.len()).min(buffer.remaining_mut()));
        buffer.put_slice(now);
        sent = later;
        assert!(!connection.open(&mut payloads)?.peer_closed);
    }
    Ok(payloads)
}

/// The suite with keys for a few records only.
fn short_lived(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let suite = suite.tls13().unwrap();
    let common = CipherSuiteCommon {
        suite: suite.common.suite,
        hash_provider: suite.common.hash_provider,
        confidentiality_limit: 16,
    };
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common,
        hkdf_provider: suite.hkdf_provider,
        aead_alg: suite.aead_alg,
        quic: None,
    })))
}
