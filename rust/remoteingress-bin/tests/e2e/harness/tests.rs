//! The harness against itself: a fault that isn't injected, or an oracle that sees nothing, would prove nothing.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::oracle::{Oracle, Plan};
use super::proxy_header::{self, Proxy};
use super::relay::{Cut, Relay};
use super::target::{ManualTarget, Target};
use super::tls_peer::{self, ALPN, TlsServer};
use super::{SOON, run, seed, within};

#[test]
fn the_oracle_accepts_a_true_path() {
    run(60, async {
        let oracle = Oracle::start(Proxy::None).await;
        let relay = Relay::start(oracle.address()).await;
        relay.slice(1_000);
        for id in 0..40 {
            let plan = Plan::random(seed(), id, 1 << 18);
            oracle.play(relay.address(), plan).await.unwrap();
        }
    });
}

#[test]
fn the_oracle_sees_one_flipped_bit() {
    run(60, async {
        let oracle = Oracle::start(Proxy::None).await;
        let relay = Relay::start(oracle.address()).await;
        relay.flip_bit_after(100_000);
        let plan = Plan::bulk(seed(), 1, 1 << 20);
        // The target gives up at the wrong byte and the client sees its connection end.
        oracle.play(relay.address(), plan).await.unwrap_err();
    });
}

#[test]
fn a_cut_is_a_rst_or_a_fin_as_ordered() {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let relay = Relay::start(target.address()).await;
        for how in [Cut::Rst, Cut::Fin] {
            let (mut client, mut server) = target.connect(relay.address()).await;
            client.write_all(b"x").await.unwrap();
            server.read_u8().await.unwrap();
            relay.cut(how);
            for stream in [&mut client, &mut server] {
                let read = within(SOON, "end", stream.read(&mut [0])).await;
                match how {
                    Cut::Rst => assert_eq!(read.unwrap_err().kind(), ErrorKind::ConnectionReset),
                    Cut::Fin => assert_eq!(read.unwrap(), 0),
                }
            }
        }
    });
}

#[test]
fn a_refusing_relay_resets_and_a_black_hole_keeps_silent() {
    run(60, async {
        let target = Target::echo().await;
        let relay = Relay::start(target.address()).await;
        let mut client = TcpStream::connect(relay.address()).await.unwrap();
        client.write_all(b"x").await.unwrap();
        assert_eq!(client.read_u8().await.unwrap(), b'x');
        relay.black_hole(true);
        client.write_all(b"y").await.unwrap();
        relay.refuse(true);
        let mut refused = TcpStream::connect(relay.address()).await.unwrap();
        refused.read_u8().await.unwrap_err();
        assert_eq!(relay.bytes(), 2);
        relay.black_hole(false);
        assert_eq!(client.read_u8().await.unwrap(), b'y');
    });
}

#[test]
fn both_tls_peers_export_the_same() {
    run(60, async {
        let server = TlsServer::start();
        let address = server.address();
        let accepting = tokio::task::spawn_blocking(move || {
            server
                .accept()
                .map(|stream| tls_peer::server_exporter(&stream))
        });
        let connecting = tokio::task::spawn_blocking(move || tls_peer::connect(address, &[ALPN]));
        let client = connecting.await.unwrap().unwrap();
        assert_eq!(
            accepting.await.unwrap().unwrap(),
            tls_peer::exporter(&client)
        );
    });
}

#[test]
fn proxy_headers_are_read_and_bad_ones_refused() {
    run(60, async {
        let source: SocketAddr = "192.0.2.1:56324".parse().unwrap();
        let mut bytes = &b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\nrest"[..];
        let header = proxy_header::read(&mut bytes, Proxy::V1)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (header.source, header.destination.port(), bytes),
            (source, 443, &b"rest"[..])
        );
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.2 056324 443\r\n",
            "PROXY TCP6 192.0.2.1 198.51.100.2 56324 443\r\n",
            "PROXY TCP4  192.0.2.1 198.51.100.2 56324 443\r\n",
        ] {
            proxy_header::read(&mut line.as_bytes(), Proxy::V1)
                .await
                .unwrap_err();
        }
        let mut v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x01\xbb\x05\0\x01\x09".to_vec();
        let header = proxy_header::read(&mut v2.as_slice(), Proxy::V2)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((header.source, header.tlvs), (source, vec![(5, vec![9])]));
        v2[18] = 2;
        v2[30] = 9;
        proxy_header::read(&mut v2.as_slice(), Proxy::V2)
            .await
            .unwrap_err();
    });
}
