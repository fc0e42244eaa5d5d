//! Strangers at the port of the end that is dialled: closed soon, told nothing, and no obstacle for the other end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use crate::harness::oracle::{Oracle, Plan};
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::transport::{Transport, whichever_end_dials};
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_secret, run, seed, tls_peer, within};

whichever_end_dials! {
    tcp_tls over TcpTls {
        other_protocols_are_closed_soon_and_learn_nothing,
        tls_without_our_protocol_is_refused_in_the_handshake,
        the_certificate_names_no_product,
        half_open_handshakes_are_closed_and_the_tunnel_lives,
        the_deadline_is_absolute_after_the_tls_handshake_too,
        connections_that_end_at_the_deadline_are_counted_as_that,
    }
}

fn other_protocols_are_closed_soon_and_learn_nothing(transport: Transport) {
    run(90, async {
        let (tunnel, oracle, entry) = tunnel(transport).await;
        let garbage = vec![0xff; 5_000];
        let greetings: [(&str, &[u8]); 6] = [
            ("HTTP", b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n"),
            ("SSH", b"SSH-2.0-guest\r\n"),
            ("garbage", &garbage),
            ("a PROXY header", b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n"),
            ("TLS 1.2", TLS12_CLIENT_HELLO),
            ("a huge record", &[0x16, 3, 1, 0xff, 0xff, 1, 0, 0xff, 0xff]),
        ];
        for (name, bytes) in greetings {
            let (answer, took) = visit(tunnel.tunnel_address(), bytes, false).await;
            assert!(took < Duration::from_secs(5), "{name}: {took:?}");
            let is_alert = matches!(answer.as_slice(), [] | [0x15, 3, _, 0, 2, _, _]);
            assert!(is_alert, "{name}: answered {answer:?}");
        }
        oracle
            .play(entry, Plan::random(seed(), 1, 1 << 16))
            .await
            .unwrap();
    });
}

fn tls_without_our_protocol_is_refused_in_the_handshake(transport: Transport) {
    run(60, async {
        let (tunnel, oracle, entry) = tunnel(transport).await;
        let hub = tunnel.tunnel_address();
        for protocols in [
            &[][..],
            &[b"h2".as_slice(), b"http/1.1"][..],
            &[b"remoteingress/0".as_slice()][..],
        ] {
            let protocols = protocols.to_vec();
            let begun = Instant::now();
            let connecting =
                tokio::task::spawn_blocking(move || tls_peer::connect(hub, &protocols));
            let outcome = connecting.await.unwrap();
            let error = outcome.map(drop).expect_err("refused").to_string();
            assert!(!error.contains("remoteingress"), "{error}");
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{:?}",
                begun.elapsed()
            );
        }
        oracle
            .play(entry, Plan::random(seed(), 1, 1 << 16))
            .await
            .unwrap();
    });
}

fn the_certificate_names_no_product(transport: Transport) {
    run(60, async {
        let (tunnel, _, _) = tunnel(transport).await;
        let hub = tunnel.tunnel_address();
        let connecting =
            tokio::task::spawn_blocking(move || tls_peer::connect(hub, &[tls_peer::ALPN]));
        let stream = connecting.await.unwrap().unwrap();
        let certificate = stream.conn.peer_certificates().unwrap()[0].to_vec();
        let text = String::from_utf8_lossy(&certificate).to_ascii_lowercase();
        for word in ["remote", "ingress", "rcgen", "localhost"] {
            assert!(!text.contains(word), "the certificate says {word}");
        }
    });
}

fn half_open_handshakes_are_closed_and_the_tunnel_lives(transport: Transport) {
    run(90, async {
        let (tunnel, oracle, entry) = tunnel(transport).await;
        let hub = tunnel.tunnel_address();
        // Nothing; half a ClientHello; one byte of it after the other, which must not move the deadline.
        for (name, bytes, drips) in [
            ("silence", &[][..], false),
            ("half a ClientHello", &TLS12_CLIENT_HELLO[..20], false),
            ("a dripping ClientHello", TLS12_CLIENT_HELLO, true),
        ] {
            let (_, took) = visit(hub, bytes, drips).await;
            assert!(took < Duration::from_secs(10), "{name}: {took:?}");
        }
        // A whole TLS handshake, then no Hello.
        let silent = tokio::task::spawn_blocking(move || {
            use std::io::Read;
            let mut stream = tls_peer::connect(hub, &[tls_peer::ALPN])?;
            let begun = Instant::now();
            let ended = stream.read(&mut [0; 100]);
            Ok::<_, std::io::Error>((begun.elapsed(), ended.unwrap_or(0)))
        });
        let (took, read) = silent.await.unwrap().unwrap();
        assert!(
            took < Duration::from_secs(10) && read == 0,
            "{took:?}, {read} bytes"
        );
        oracle
            .play(entry, Plan::random(seed(), 1, 1 << 16))
            .await
            .unwrap();
    });
}

fn the_deadline_is_absolute_after_the_tls_handshake_too(transport: Transport) {
    run(60, async {
        let (tunnel, oracle, entry) = tunnel(transport).await;
        let hub = tunnel.tunnel_address();
        let dripping = tokio::task::spawn_blocking(move || {
            use std::io::Write;
            let mut stream = tls_peer::connect(hub, &[tls_peer::ALPN])?;
            let begun = Instant::now();
            // The start of a Hello of 512 bytes, then a byte now and then.
            let mut next = vec![1, 2, 0];
            while begun.elapsed() < Duration::from_secs(15) {
                if stream
                    .write_all(&next)
                    .and_then(|()| stream.flush())
                    .is_err()
                {
                    break;
                }
                next = vec![0];
                std::thread::park_timeout(Duration::from_millis(200));
            }
            Ok::<_, std::io::Error>(begun.elapsed())
        });
        let took = dripping.await.unwrap().unwrap();
        assert!(took < Duration::from_secs(10), "{took:?}");
        oracle
            .play(entry, Plan::random(seed(), 1, 1 << 16))
            .await
            .unwrap();
    });
}

fn connections_that_end_at_the_deadline_are_counted_as_that(transport: Transport) {
    run(60, async {
        let (tunnel, _, _) = tunnel(transport).await;
        let hub = tunnel.tunnel_address();
        let hello = client_hello();
        tokio::join!(visit(hub, &[], false), visit(hub, &hello, false));
        let timeouts = |status: &Value| status["rejected"]["handshakeTimeout"] == 2;
        let status = tunnel.dialled().wait_status(SOON, "count", timeouts).await;
        assert_eq!(status["rejected"], json!({"handshakeTimeout": 2}));
    });
}

#[test]
fn silent_connections_of_one_stranger_keep_no_edge_out() {
    run(60, async {
        let hub = Process::management("hub").await;
        // The limits as they are by default.
        let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "workers": 1});
        let started = hub.call("startHub", config).await;
        let secret = new_secret();
        let entry = json!({"id": EDGE_ID, "secret": secret, "listenPorts": []});
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let port = u16::try_from(started["tunnelPort"].as_u64().unwrap()).unwrap();
        let mut silent = Vec::new();
        for _ in 0..64 {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 2], 0).into()).unwrap();
            silent.push(socket.connect(([127, 0, 0, 1], port).into()).await.unwrap());
        }
        let edge = Process::management("edge").await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": port, "edgeId": EDGE_ID, "secret": secret,
            "stunServers": [], "workers": 1,
        });
        let begun = Instant::now();
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        // Sooner than the strangers' deadline of 10 s.
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "{:?}",
            begun.elapsed()
        );
    });
}

async fn tunnel(transport: Transport) -> (Tunnel, Oracle, SocketAddr) {
    let oracle = Oracle::start(Proxy::None).await;
    let quick = json!({"limits": {"handshakeTimeoutSecs": 1}});
    let mut builder = TunnelBuilder::new(transport).dialled(quick);
    let entry = builder.forward(Proxy::None, oracle.address());
    (builder.start().await, oracle, entry)
}

/// Sends `bytes`, at once or drop by drop, and gives all that came back and how long it took until the close.
async fn visit(hub: SocketAddr, bytes: &[u8], drips: bool) -> (Vec<u8>, Duration) {
    let client = TcpStream::connect(hub).await.unwrap();
    let (mut reader, mut writer) = client.into_split();
    let begun = Instant::now();
    let mut answer = Vec::new();
    let write = async {
        // The hub may close while we still write; what counts is what it answered.
        for part in bytes.chunks(if drips { 1 } else { bytes.len().max(1) }) {
            let _ = writer.write_all(part).await;
            if drips {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let read = async {
        let mut part = [0; 1_000];
        while let Ok(read @ 1..) = reader.read(&mut part).await {
            answer.extend_from_slice(&part[..read]);
        }
    };
    within(Duration::from_secs(30), "close by the hub", async {
        tokio::select! {
            () = write => {}
            () = read => {}
        }
    })
    .await;
    (answer, begun.elapsed())
}

/// A ClientHello that the hub answers.
fn client_hello() -> Vec<u8> {
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(
        rustls::crypto::aws_lc_rs::default_provider(),
    ))
    .with_protocol_versions(&[&rustls::version::TLS13])
    .unwrap()
    .with_root_certificates(rustls::RootCertStore::empty())
    .with_no_client_auth();
    config.alpn_protocols = vec![tls_peer::ALPN.to_vec()];
    let name = "hub.example".try_into().unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}

/// A ClientHello that offers TLS 1.2 and one suite of it.
const TLS12_CLIENT_HELLO: &[u8] = &[
    0x16, 3, 1, 0, 65, // record
    1, 0, 0, 61, // handshake message
    3, 3, // TLS 1.2
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    27, 28, 29, 30, 31, 32, // random
    0,  // no session id
    0, 2, 0xc0, 0x2b, // TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
    1, 0, // no compression
    0, 18, // extensions
    0, 10, 0, 4, 0, 2, 0, 23, // secp256r1
    0, 13, 0, 6, 0, 4, 4, 3, 8, 4, // signatures
];
