//! Peers that are let in, those that are refused, and what both ends know afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::BufMut;
use rcgen::{CertificateParams, KeyPair};
use remoteingress_proto::token::pin::Pin;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, CipherSuite, RootCertStore, ServerConfig, ServerConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::time::Instant;

use super::peer::{
    BOTH, Ours, Random, Stock, call, client_tls, pair, receive, send, server_tls, shake, sockets,
    soon,
};
use crate::transport::identity::Identity;
use crate::transport::tls::config::{
    ClientTls, OneCertificate, ServerTls, cipher_suites, provider, provider_for,
};
use crate::transport::tls::{TlsError, accept, connect};
use remoteingress_config::error::ErrorCode;

#[tokio::test]
async fn exported_key_is_that_of_a_stock_peer_for_every_suite() {
    for suite in provider().cipher_suites {
        for ours in BOTH {
            let mut stock = Stock::default();
            stock.provider.cipher_suites = vec![suite];
            let (mut connection, peer) = pair(ours, stock).await;
            let label = b"EXPORTER-remoteingress-auth-v1";
            let expected = peer
                .export_keying_material([0; 32], label, Some(&[]))
                .unwrap();
            assert_eq!(
                *connection.take_exported_key().unwrap(),
                expected,
                "{suite:?} {ours:?}"
            );
            assert!(connection.take_exported_key().is_none(), "it is given once");
        }
    }
}

#[test]
fn there_is_no_exported_key_before_the_handshake_has_ended() {
    for suite in provider().cipher_suites {
        assert!(
            client_tls(&[])
                .connection()
                .unwrap()
                .1
                .take(suite)
                .is_none()
        );
        assert!(server_tls().connection().unwrap().1.take(suite).is_none());
    }
}

#[tokio::test]
async fn both_ends_of_ours_agree() {
    let hub = Identity::in_memory().unwrap();
    let (mut near, mut far) = duplex(1000);
    let (client_tls, server_tls) = (client_tls(&[hub.pin]), ServerTls::new(&hub).unwrap());
    let (edge, hub) = tokio::join!(
        connect(&mut near, &client_tls, soon()),
        accept(&mut far, &server_tls, soon())
    );
    let (mut edge, mut hub) = (edge.unwrap(), hub.unwrap());
    assert_eq!(
        edge.take_exported_key().unwrap(),
        hub.take_exported_key().unwrap()
    );
    assert!(edge.peer_pin_verified() && !hub.peer_pin_verified());
}

#[tokio::test]
async fn post_quantum_group_is_chosen() {
    for ours in BOTH {
        let (_connection, peer) = pair(ours, Stock::default()).await;
        let group = peer.negotiated_key_exchange_group().unwrap();
        assert_eq!(group.name(), rustls::NamedGroup::X25519MLKEM768);
    }
}

#[tokio::test]
async fn end_without_aes_instructions_decides_about_the_suite() {
    use CipherSuite::{TLS13_AES_128_GCM_SHA256 as AES, TLS13_CHACHA20_POLY1305_SHA256 as CHACHA};
    let favourite = |has_aes| cipher_suites(has_aes)[0].suite();
    assert_eq!([favourite(true), favourite(false)], [AES, CHACHA]);
    for (edge_has_aes, hub_has_aes, expected) in [
        (true, true, AES),
        (true, false, CHACHA),
        (false, true, CHACHA),
        (false, false, CHACHA),
    ] {
        let mut stock = Stock::default();
        stock.provider.cipher_suites = cipher_suites(edge_has_aes);
        let hub = provider_for(hub_has_aes);
        let key = Identity::in_memory().unwrap();
        let key = CertifiedKey::from_der(key.chain, key.key, &hub).unwrap();
        let tls = ServerTls::with_resolver(hub, Arc::new(OneCertificate(key.into()))).unwrap();
        let (mut socket, far) = sockets();
        let peer = shake(stock.client(), far);
        accept(&mut socket, &tls, soon()).await.unwrap();
        let suite = peer.join().unwrap().unwrap().negotiated_cipher_suite();
        assert_eq!(
            suite.unwrap().suite(),
            expected,
            "{edge_has_aes} {hub_has_aes}"
        );
    }
}

#[tokio::test]
async fn fragmented_handshake_and_early_payload_are_taken() {
    for ours in BOTH {
        let stock = Stock {
            fragment: Some(64),
            ..Stock::default()
        };
        let (mut connection, mut peer) = pair(ours, stock).await;
        let mut sealed = Vec::new();
        connection.seal(b"after fragments", &mut sealed).unwrap();
        assert_eq!(receive(&mut peer, &sealed).0, b"after fragments");
    }

    // The client's last flight, its first payload and a part of the second come in one segment.
    let (mut near, mut far) = duplex(1 << 16);
    let tls = server_tls();
    let client = async {
        let mut peer = Stock::default().client();
        let mut incoming = Vec::new();
        while peer.is_handshaking() {
            far.write_all(&super::peer::take_sent(&mut peer))
                .await
                .unwrap();
            far.read_buf(&mut incoming).await.unwrap();
            receive(&mut peer, &std::mem::take(&mut incoming));
        }
        let mut last = send(&mut peer, b"early");
        let cut = last.len() + 10;
        last.extend(send(&mut peer, b"later"));
        far.write_all(&last[..cut]).await.unwrap();
        (peer, last.split_off(cut))
    };
    let (established, (mut peer, rest)) = tokio::join!(accept(&mut near, &tls, soon()), client);
    let mut connection = established.unwrap();
    let mut payloads = Vec::new();
    connection.open(&mut payloads).unwrap();
    assert_eq!(payloads, [b"early".as_slice()]);
    connection.receive_buffer().put_slice(&rest);
    connection.open(&mut payloads).unwrap();
    assert_eq!(payloads.concat(), b"earlylater");
    let mut sealed = Vec::new();
    connection.seal(b"answer", &mut sealed).unwrap();
    assert_eq!(receive(&mut peer, &sealed).0, b"answer");
}

#[tokio::test]
async fn no_session_tickets_are_sent() {
    let (_ours, peer) = pair(Ours::Server, Stock::default()).await;
    let rustls::Connection::Client(peer) = peer else {
        panic!("the peer is the client")
    };
    assert_eq!(peer.tls13_tickets_received(), 0);
}

#[tokio::test]
async fn peers_without_our_protocol_are_refused() {
    for alpn in [
        vec![],
        vec![b"h2".to_vec()],
        vec![b"remoteingress/10".to_vec()],
    ] {
        let stock = || Stock {
            alpn: alpn.clone(),
            ..Stock::default()
        };
        let (mut socket, far) = sockets();
        let peer = shake(stock().client(), far);
        accept(&mut socket, &server_tls(), soon())
            .await
            .unwrap_err();
        drop(socket);
        peer.join().unwrap().unwrap_err();
        let error = call(&client_tls(&[]), stock().server()).await.unwrap_err();
        assert_eq!(error.code(), ErrorCode::Tls, "{error}");
    }
}

#[tokio::test]
async fn older_tls_is_refused_with_an_alert() {
    let mut hello = vec![0x16, 3, 1, 0, 47, 1, 0, 0, 43, 3, 3];
    hello.extend([7; 32]); // random
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0, 0, 0]); // no session, one suite of TLS 1.2, no extension
    hello.truncate(5 + 47);
    let (mut near, mut far) = duplex(1 << 16);
    far.write_all(&hello).await.unwrap();
    let error = accept(&mut near, &server_tls(), soon()).await.unwrap_err();
    assert!(matches!(error, TlsError::Tls(_)), "{error}");
    drop(near);
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer[0], 0x15, "an alert and nothing else");
    assert_eq!(answer.len(), 7);
}

#[tokio::test]
async fn garbage_never_passes_and_never_panics() {
    let mut random = Random(7);
    for case in 0..300 {
        let mut garbage = random.bytes(case * 7);
        if case % 3 == 0 && garbage.len() > 5 {
            let length = u16::try_from(garbage.len() - 5).unwrap().to_be_bytes();
            garbage[..5].copy_from_slice(&[0x16, 3, 1, length[0], length[1]]);
        }
        let (mut near, mut far) = duplex(1 << 16);
        far.write_all(&garbage).await.unwrap();
        far.shutdown().await.unwrap();
        if case % 2 == 0 {
            accept(&mut near, &server_tls(), soon()).await.unwrap_err();
        } else {
            connect(&mut near, &client_tls(&[]), soon())
                .await
                .unwrap_err();
        }
    }
    // Bytes that are no TLS are refused at once, before any record is whole.
    let (mut near, mut far) = duplex(1 << 16);
    far.write_all(b"SSH-2.0-client\r\n").await.unwrap();
    accept(&mut near, &server_tls(), soon()).await.unwrap_err();
}

#[tokio::test]
async fn silence_and_excess_are_cut() {
    let (mut near, _far) = duplex(1 << 16);
    let deadline = Instant::now() + Duration::from_millis(20);
    let error = accept(&mut near, &server_tls(), deadline)
        .await
        .unwrap_err();
    assert!(matches!(error, TlsError::TimedOut));

    // A ClientHello of 60,000 bytes in records of one byte each.
    let mut hello = vec![0x16, 3, 1, 0, 4, 1, 0, 0xea, 0x60];
    hello.extend([0x16, 3, 1, 0, 1, 0].repeat(60_000));
    let (mut near, mut far) = duplex(hello.len());
    far.write_all(&hello).await.unwrap();
    let error = accept(&mut near, &server_tls(), soon()).await.unwrap_err();
    assert!(matches!(error, TlsError::HandshakeTooLarge), "{error}");
}

#[tokio::test]
async fn pin_matches_at_each_place_and_only_there() {
    for place in 0..4 {
        let stock = Stock::default();
        let mut pins = [1, 2, 3, 4].map(|byte| Pin([byte; 32]));
        pins[place] = stock.identity.pin;
        let connection = call(&client_tls(&pins), stock.server()).await.unwrap();
        assert!(connection.peer_pin_verified());
    }
    let mut near_miss = Stock::default().identity.pin;
    near_miss.0[31] ^= 1;
    let error = call(&client_tls(&[near_miss]), Stock::default().server())
        .await
        .unwrap_err();
    assert!(matches!(error, TlsError::PinMismatch));
    assert_eq!(error.code(), ErrorCode::HubPinMismatch);

    let unpinned = call(&client_tls(&[]), Stock::default().server())
        .await
        .unwrap();
    assert!(!unpinned.peer_pin_verified());
}

#[tokio::test]
async fn pinned_certificate_without_its_key_is_refused() {
    let (shown, owned) = (
        Identity::in_memory().unwrap(),
        Identity::in_memory().unwrap(),
    );
    for pins in [vec![shown.pin], vec![]] {
        let server = signing_server(&shown, &owned.key);
        let error = call(&client_tls(&pins), server).await.unwrap_err();
        let TlsError::Tls(rustls::Error::InvalidCertificate(reason)) = error else {
            panic!("{error}")
        };
        assert_eq!(reason, CertificateError::BadSignature);
    }
}

#[tokio::test]
async fn host_name_mode_checks_chain_and_name_and_pins() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["hub.example".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let identity = || Identity::from_pem(&certificate.pem(), &key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let try_name = async |name: &str, pins: &[Pin], roots: &RootCertStore| {
        let tls = ClientTls::with_roots("10.0.0.1", pins, Some(name), roots.clone());
        let stock = Stock {
            identity: identity(),
            ..Stock::default()
        };
        call(&tls.unwrap(), stock.server()).await
    };

    try_name("hub.example", &[], &roots).await.unwrap();
    try_name("hub.example", &[identity().pin], &roots)
        .await
        .unwrap();
    let error = try_name("other.example", &[], &roots).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::Tls, "{error}");
    let error = try_name("hub.example", &[Pin([9; 32])], &roots)
        .await
        .unwrap_err();
    assert!(matches!(error, TlsError::PinMismatch));

    let mut others = RootCertStore::empty();
    let stranger = Identity::in_memory().unwrap();
    others.add(stranger.chain[0].clone()).unwrap();
    let error = try_name("hub.example", &[identity().pin], &others)
        .await
        .unwrap_err();
    assert_eq!(error.code(), ErrorCode::Tls, "{error}");
}

#[test]
fn hosts_are_names_or_addresses() {
    for host in [
        "hub.example",
        "hub_1.internal",
        "127.0.0.1",
        "::1",
        "[::1]",
        "[fe80::1%eth0]",
    ] {
        ClientTls::new(host, &[], None).unwrap();
    }
    for host in ["", "hub example", "[::1", "hub:8443"] {
        let error = ClientTls::new(host, &[], None).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidConfig);
    }
}

/// A hub that shows one identity and signs with the key of another.
fn signing_server(shown: &Identity, key: &PrivateKeyDer<'static>) -> rustls::Connection {
    let key = provider()
        .key_provider
        .load_private_key(key.clone_key())
        .unwrap();
    let certified = CertifiedKey::new(shown.chain.clone(), key);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(OneCertificate(certified.into())));
    config.alpn_protocols = vec![b"remoteingress/1".to_vec()];
    ServerConnection::new(Arc::new(config)).unwrap().into()
}
