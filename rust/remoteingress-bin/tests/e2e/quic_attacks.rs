//! Strangers at the hub's UDP port: no amplification, no way in, nothing learned, and no harm to the tunnel that lives.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use quinn::{Connection, ConnectionError, VarInt};
use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::proxy_header::Proxy;
use crate::harness::quic_peer::{QuicClient, is_initial};
use crate::harness::steady::Steady;
use crate::harness::target::Target;
use crate::harness::tls_peer::ALPN;
use crate::harness::transport::{Transport, whichever_end_dials};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::udp_relay::{Side, UdpRelay};
use crate::harness::{SOON, run, run_heavy, seed, until, within};

whichever_end_dials! {
    quic over Quic {
        an_unvalidated_address_gets_at_most_three_times_its_bytes,
        junk_replays_and_truncated_packets_disturb_no_live_tunnel,
        half_open_handshakes_keep_no_edge_out,
        forged_first_packets_keep_no_edge_out,
        another_protocol_is_refused_in_the_handshake,
        what_is_no_quic_learns_nothing,
        the_certificate_names_no_product,
        silence_and_dripping_after_the_handshake_are_closed_in_ten_seconds,
        what_a_stranger_may_send_is_bounded,
        no_session_tickets_are_given,
    }
}

fn an_unvalidated_address_gets_at_most_three_times_its_bytes(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let relay = UdpRelay::start(tunnel.tunnel_address());
        relay.set(|faults| faults.drop_from_hub = true);
        relay.record();
        let client = QuicClient::new(&[ALPN]);
        let attempts: Vec<_> = (0..8).map(|_| client.begin(relay.address())).collect();
        // Long enough for the hub to send its flight again several times, and for the client its Initials.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let seen = relay.seen();
        assert!(seen.to_hub.bytes >= 8 * 1_200 && seen.from_hub.bytes > 0);
        assert!(
            seen.from_hub.bytes <= 3 * seen.to_hub.bytes,
            "amplification: {seen:?}"
        );
        drop(attempts);

        // One Initial each from new addresses, and never a word again.
        let initials = relay.recorded();
        let initial = initials
            .iter()
            .find(|datagram| datagram.from == Side::Edge && is_initial(&datagram.bytes));
        let initial = &initial.unwrap().bytes;
        let (mut sent, mut received) = (0, 0);
        let sockets: Vec<_> = (0..16).map(|_| stranger(tunnel.tunnel_address())).collect();
        for socket in &sockets {
            sent += socket.send(initial).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut buffer = [0; 2_048];
        for socket in &sockets {
            while let Ok(length) = socket.recv(&mut buffer) {
                received += length;
            }
        }
        assert!(received <= 3 * sent, "{received} bytes for {sent}");
    });
}

fn junk_replays_and_truncated_packets_disturb_no_live_tunnel(transport: Transport) {
    run_heavy(120, async {
        let (tunnel, entry, _target) = echo_tunnel(transport).await;
        let relay = tunnel.udp_relay();
        relay.record();
        let steady = Steady::start(entry, 10);
        until(SOON, "recorded traffic", async || {
            (relay.recorded().len() > 400).then_some(())
        })
        .await;
        let recorded = relay.recorded();
        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        let strangers: Vec<_> = (0..20).map(|_| stranger(tunnel.tunnel_address())).collect();
        for number in 0..20_000_usize {
            let original = &recorded[rng.random_range(0..recorded.len())];
            let mut bytes = original.bytes.clone();
            match number % 4 {
                // Random bytes, of which some look like long and short headers.
                0 => {
                    bytes = vec![0; rng.random_range(1..1_400)];
                    rng.fill_bytes(&mut bytes);
                }
                1 => bytes.truncate(rng.random_range(0..bytes.len())),
                2 => {
                    let bit = rng.random_range(0..bytes.len() * 8);
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
                _ => {}
            }
            if number % 2 == 0 {
                // From elsewhere: a full socket loses it, which is as good.
                let _ = strangers[number % strangers.len()].send(&bytes);
            } else {
                // From the addresses of the tunnel itself.
                relay.inject(original.from, bytes);
            }
            if number % 100 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let moved = steady.moved();
        until(SOON, "moved bytes", async || {
            (steady.moved() > moved + (1 << 20)).then_some(())
        })
        .await;
        steady.finish().await;
        assert_undisturbed(&tunnel).await;
    });
}

fn half_open_handshakes_keep_no_edge_out(transport: Transport) {
    run_heavy(120, async {
        let (mut tunnel, entry, _target) = echo_tunnel(transport).await;
        // Their first flights arrive, and nothing of the hub's comes back to them.
        let relay = UdpRelay::start(tunnel.tunnel_address());
        relay.set(|faults| faults.drop_from_hub = true);
        let client = QuicClient::new(&[ALPN]);
        let attempts: Vec<_> = (0..400).map(|_| client.begin(relay.address())).collect();
        until(SOON, "half-open handshakes", async || {
            (relay.seen().to_hub.datagrams >= 400).then_some(())
        })
        .await;
        let steady = Steady::start(entry, 5);
        until(SOON, "moved bytes", async || {
            (steady.moved() > 1 << 20).then_some(())
        })
        .await;
        steady.finish().await;
        assert_undisturbed(&tunnel).await;

        // An edge that comes now is let in.
        tunnel.edge.kill().await;
        let again = crate::harness::process::Process::management("edge again").await;
        again.call("startEdge", tunnel.edge_config()).await;
        again.wait_event("tunnelConnected", SOON, |_| true).await;
        drop(attempts);
    });
}

/// First packets that nobody encrypted: some look right until they are opened.
fn forged_first_packets_keep_no_edge_out(transport: Transport) {
    run(60, async {
        let limits = json!({"limits": {"maxPreAuth": 8}});
        let tunnel = TunnelBuilder::new(transport).dialled(limits).start().await;
        let socket = stranger(tunnel.tunnel_address());
        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        for _ in 0..256 {
            let mut packet = [0; 1_200];
            rng.fill_bytes(&mut packet);
            // Long header, Initial; version 1; ids of 8 bytes; no token; the rest is payload (RFC 9000 section 17.2.2).
            packet[0] = 0xc0 | (packet[0] & 0x0f);
            packet[1..6].copy_from_slice(&[0, 0, 0, 1, 8]);
            packet[14] = 8;
            packet[23] = 0;
            packet[24..26].copy_from_slice(&(0x4000_u16 | (1_200 - 26)).to_be_bytes());
            socket.send(&packet).unwrap();
        }
        let is_known = |status: &Value| status["rejected"]["handshakeFailed"].as_u64() >= Some(9);
        tunnel
            .dialled()
            .wait_status(SOON, "more forged ones than places", is_known)
            .await;
        let client = QuicClient::new(&[ALPN]);
        let connecting = client.connect(tunnel.tunnel_address());
        within(SOON, "a handshake", connecting).await.unwrap();
    });
}

fn another_protocol_is_refused_in_the_handshake(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        for alpn in [&[&b"h3"[..]][..], &[b"remoteingress/2"], &[]] {
            let client = QuicClient::new(alpn);
            let connecting = client.connect(tunnel.tunnel_address());
            let error = within(SOON, "an answer", connecting).await.unwrap_err();
            let ConnectionError::ConnectionClosed(close) = error else {
                panic!("{alpn:?}: {error}");
            };
            let code = u64::from(close.error_code);
            if alpn.is_empty() {
                // No certificate is shown to who names no protocol; any alert says so.
                assert!(CRYPTO_ERRORS.contains(&code), "{close}");
            } else {
                assert_eq!(code, NO_APPLICATION_PROTOCOL, "{close}");
            }
            let reason = String::from_utf8_lossy(&close.reason).to_lowercase();
            assert!(!reason.contains("remoteingress"), "{reason}");
        }
    });
}

fn what_is_no_quic_learns_nothing(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let greetings: [&[u8]; 2] = [b"GET / HTTP/1.1\r\nHost: hub\r\n\r\n", b"SSH-2.0-guest\r\n"];
        let strangers = greetings.map(|greeting| {
            let socket = stranger(tunnel.tunnel_address());
            socket.send(greeting).unwrap();
            socket
        });
        // A first packet of a version that is reserved to be unknown (RFC 9000, section 15).
        let mut packet = vec![0; 1_200];
        packet[..6].copy_from_slice(&[0xc3, 0x1a, 0x2a, 0x3a, 0x4a, 8]);
        packet[14] = 8;
        let curious = stranger(tunnel.tunnel_address());
        curious.send(&packet).unwrap();
        let mut buffer = [0; 2_048];
        let length = until(SOON, "versions", async || curious.recv(&mut buffer).ok()).await;
        // Version 0 is version negotiation (RFC 8999, section 6): two connection ids and a few numbers.
        assert!(
            length < 100 && buffer[1..5] == [0; 4],
            "{:?}",
            &buffer[..length]
        );
        // By now the others have theirs: the hub takes packets in their order. A datagram that looks like a packet of a
        // connection that is gone gets a reset, which looks like random bytes (RFC 9000, section 10.3).
        for (socket, greeting) in strangers.iter().zip(greetings) {
            let length = socket.recv(&mut buffer).unwrap_or(0);
            assert!(length < greeting.len(), "{length} bytes");
        }
    });
}

fn the_certificate_names_no_product(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let client = QuicClient::new(&[ALPN]);
        let connecting = client.connect(tunnel.tunnel_address());
        let connection = within(SOON, "a handshake", connecting).await.unwrap();
        let identity = connection.peer_identity().unwrap();
        let chain = identity.downcast::<Vec<CertificateDer<'_>>>().unwrap();
        let text = String::from_utf8_lossy(&chain[0]).to_ascii_lowercase();
        for word in ["remote", "ingress", "rcgen", "localhost"] {
            assert!(!text.contains(word), "the certificate says {word}");
        }
    });
}

fn silence_and_dripping_after_the_handshake_are_closed_in_ten_seconds(transport: Transport) {
    run(90, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let client = QuicClient::new(&[ALPN]);
        let connect = async || {
            let connecting = client.connect(tunnel.tunnel_address());
            within(SOON, "a handshake", connecting).await.unwrap()
        };
        let (silent, dripping) = (connect().await, connect().await);
        let begun = Instant::now();
        let drip = async {
            let (mut hello, _answer) = dripping.open_bi().await.unwrap();
            // One byte each second of a Hello that never ends; the length says 512.
            while hello.write_all(&[2]).await.is_ok() {
                if timeout(Duration::from_secs(1), dripping.closed())
                    .await
                    .is_ok()
                {
                    break;
                }
            }
            begun.elapsed()
        };
        let silence = async {
            silent.closed().await;
            begun.elapsed()
        };
        let (silence, drip) = within(SOON, "an end of both", async {
            tokio::join!(silence, drip)
        })
        .await;
        for took in [silence, drip] {
            assert!(took < Duration::from_millis(11_500), "{took:?}");
        }
    });
}

fn what_a_stranger_may_send_is_bounded(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let client = QuicClient::new(&[ALPN]);
        let connecting = client.connect(tunnel.tunnel_address());
        let connection = within(SOON, "a handshake", connecting).await.unwrap();
        let short = Duration::from_secs(1);
        let uni = timeout(short, connection.open_uni()).await;
        assert!(!matches!(uni, Ok(Ok(_))), "a stream of one direction");
        let mut streams = Vec::new();
        while let Ok(Ok(stream)) = timeout(short, connection.open_bi()).await {
            streams.push(stream);
            assert!(streams.len() <= MAX_STREAMS, "too many streams");
        }
        // Whatever the hub does with it, close or no credit, it takes no more than this.
        let mut written = 0;
        for (sender, _) in &mut streams {
            while let Ok(Ok(bytes)) = timeout(short, sender.write(&[0; 1_024])).await {
                written += bytes;
                assert!(written <= MAX_BYTES, "{written} bytes before any proof");
            }
            if connection.close_reason().is_some() || written == 0 {
                break;
            }
        }
        assert_ne!(written, 0, "a Hello must be possible");
        assert_alive(&tunnel, &connection).await;
    });
}

fn no_session_tickets_are_given(transport: Transport) {
    run(60, async {
        let tunnel = TunnelBuilder::new(transport).start().await;
        let client = QuicClient::new(&[ALPN]);
        for _ in 0..2 {
            let connecting = client.connect(tunnel.tunnel_address());
            let connection = within(SOON, "a handshake", connecting).await.unwrap();
            // Tickets would be in the flight that confirms the handshake; the hub's close comes after all of it.
            within(SOON, "the hub's close", connection.closed()).await;
            let early = client.begin(tunnel.tunnel_address()).into_0rtt();
            assert!(early.is_err(), "early data is possible");
        }
        assert_eq!(client.tickets(), 0);
    });
}

async fn echo_tunnel(transport: Transport) -> (Tunnel, SocketAddr, Target) {
    let target = Target::echo().await;
    let mut builder = TunnelBuilder::new(transport).relayed();
    let entry = builder.forward(Proxy::None, target.address());
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    (tunnel, entry, target)
}

/// Whatever became of the stranger, the edge is where it was.
async fn assert_alive(tunnel: &Tunnel, stranger: &Connection) {
    stranger.close(VarInt::from_u32(0), b"");
    assert_undisturbed(tunnel).await;
}

async fn assert_undisturbed(tunnel: &Tunnel) {
    let status = tunnel.edge.status().await;
    assert_eq!(status["connected"], true, "{status}");
    assert_eq!(status["reconnects"], 0, "{status}");
    assert!(!tunnel.hub.has_event_since(0, "edgeDisconnected"));
}

/// A socket of no edge.
fn stranger(hub: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(hub).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Streams that a stranger may open before any proof.
const MAX_STREAMS: usize = 64;
/// Bytes that a stranger may send before any proof, with what one write may exceed.
const MAX_BYTES: usize = 64 * 1_024 + 1_024;
/// CRYPTO_ERROR with TLS alert 120 (RFC 9001, section 4.8).
const NO_APPLICATION_PROTOCOL: u64 = 0x178;
const CRYPTO_ERRORS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;
