//! A pinned edge that reconnects lets no client wait for the hub's proof, and sends nothing early that could be replayed.
//!
//! The relay delays each direction by the same time, much longer than anything that is computed, and so sees the
//! flights of the two ends one after another.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::proxy_header::Proxy;
use crate::harness::quic_peer::{has_early_data, is_initial};
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::udp_relay::{Side, flight};
use crate::harness::{SOON, run_timed, within};

on_both_transports! {
    the_first_byte_of_a_waiting_client_is_in_the_third_flight,
}

fn the_first_byte_of_a_waiting_client_is_in_the_third_flight(transport: Transport) {
    run_timed(120, async {
        let mut target = ManualTarget::start(Proxy::None).await;
        let mut builder = TunnelBuilder::new(transport)
            .pinned()
            .relayed()
            .edge(json!({"workers": 1, "limits": {"holdTimeoutSecs": 60}}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mark = tunnel.edge.mark();
        tunnel.hub.kill().await;
        tunnel
            .edge
            .wait_event_since(mark, "tunnelDisconnected", Duration::from_secs(40), |_| {
                true
            })
            .await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        client.write_all(b"first").await.unwrap();
        let held = |status: &Value| status["heldClients"] == 1;
        tunnel.edge.wait_status(SOON, "the held client", held).await;

        tunnel.path().delay(DELAY);
        tunnel.relay().record();
        tunnel.udp_relay().record();
        tunnel.start_hub_again().await;
        let limit = Duration::from_secs(40);
        let mut server = target.accept_within(limit).await;
        let mut first = [0; 5];
        within(SOON, "the first bytes", server.read_exact(&mut first))
            .await
            .unwrap();
        // They came past the relay one delay ago.
        let passed = Instant::now().checked_sub(DELAY).unwrap();
        assert_eq!(&first, b"first");

        let begun = match transport {
            Transport::TcpTls => first_flight_of_tls(&tunnel),
            Transport::Quic | Transport::QuicWithFallback => first_flight_of_quic(&tunnel),
        };
        let number = flight(begun, passed, DELAY);
        assert_eq!(number, 3, "{:?} after the first", passed - begun);
    });
}

/// Time at which the edge spoke first on the connection that the hub answered.
fn first_flight_of_tls(tunnel: &Tunnel) -> Instant {
    let recorded = tunnel.relay().recorded();
    let answer = recorded.iter().position(|read| !read.is_from_edge);
    let answer = answer.expect("an answer of the hub");
    let hello = recorded[..answer].last().expect("a ClientHello before it");
    assert!(
        !offers_resumption(&hello.bytes),
        "a ClientHello that offers early data or an older session"
    );
    hello.at
}

fn first_flight_of_quic(tunnel: &Tunnel) -> Instant {
    let recorded = tunnel.udp_relay().recorded();
    for datagram in &recorded {
        assert!(!has_early_data(&datagram.bytes), "a 0-RTT packet");
    }
    // Datagrams before it were sent to the hub that is gone, or by a connection that is.
    let answer = recorded
        .iter()
        .position(|datagram| datagram.from == Side::Hub && is_initial(&datagram.bytes));
    let answer = answer.expect("an Initial of the hub");
    let expected = recorded[answer].at.checked_sub(DELAY).unwrap();
    let initials = recorded[..answer]
        .iter()
        .filter(|datagram| datagram.from == Side::Edge && is_initial(&datagram.bytes));
    // The one that was answered; a ClientHello may take several datagrams.
    initials
        .map(|datagram| datagram.at)
        .find(|at| *at + DELAY / 2 > expected)
        .expect("an Initial of the edge")
}

/// True if a ClientHello in one record has `early_data` or `pre_shared_key` (RFC 8446, section 4.2).
fn offers_resumption(record: &[u8]) -> bool {
    // Record and handshake header, version, random; then three vectors, with lengths of 1, 2 and 1 bytes.
    let mut at = 5 + 4 + 2 + 32;
    at += 1 + usize::from(record[at]);
    at += 2 + length(record, at);
    at += 1 + usize::from(record[at]);
    let end = at + 2 + length(record, at);
    at += 2;
    while at < end {
        if matches!(length(record, at), EARLY_DATA | PRE_SHARED_KEY) {
            return true;
        }
        at += 4 + length(record, at + 2);
    }
    false
}

fn length(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

/// One way; a handshake of an unoptimised build takes a small part of it.
const DELAY: Duration = Duration::from_millis(200);
const EARLY_DATA: usize = 42;
const PRE_SHARED_KEY: usize = 41;
