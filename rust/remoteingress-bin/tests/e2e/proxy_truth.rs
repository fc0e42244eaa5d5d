//! The target learns the client's true address, in both versions of the PROXY header and both families.

use std::net::SocketAddr;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::ports::{free_port, has_ipv6};
use crate::harness::proxy_header::Proxy;
use crate::harness::run;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};

on_both_transports! {
    v1_tells_the_ipv4_client,
    v2_tells_the_ipv4_client,
    v1_tells_the_ipv6_client,
    v2_tells_the_ipv6_client,
    a_clients_own_header_is_payload,
}

fn v1_tells_the_ipv4_client(transport: Transport) {
    run(60, check(transport, "127.0.0.1", Proxy::V1));
}

fn v2_tells_the_ipv4_client(transport: Transport) {
    run(60, check(transport, "127.0.0.1", Proxy::V2));
}

fn v1_tells_the_ipv6_client(transport: Transport) {
    run(60, check(transport, "::1", Proxy::V1));
}

fn v2_tells_the_ipv6_client(transport: Transport) {
    run(60, check(transport, "::1", Proxy::V2));
}

fn a_clients_own_header_is_payload(transport: Transport) {
    run(60, async {
        let mut target = ManualTarget::start(Proxy::V1).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward(Proxy::V1, target.address());
        let _tunnel = builder.start().await;
        let forged = b"PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\n";
        let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
        client.write_all(forged).await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, header) = target.accept_with_header().await;
        assert_eq!(header.unwrap().source, client.local_addr().unwrap());
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, forged);
    });
}

async fn check(transport: Transport, bind_address: &str, proxy: Proxy) {
    if bind_address == "::1" && !has_ipv6() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let mut target = ManualTarget::start(proxy).await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = SocketAddr::new(bind_address.parse().unwrap(), free_port());
    builder.listen(json!({
        "port": entry.port(), "bindAddress": bind_address, "targetPort": target.address().port(),
        "proxyProtocol": proxy.word(),
    }));
    let _tunnel = builder.start().await;
    let mut unique = Vec::new();
    for _ in 0..2 {
        let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
        client.write_all(b"first bytes").await.unwrap();
        let (mut server, header) = target.accept_with_header().await;
        let header = header.unwrap();
        assert_eq!(header.source, client.local_addr().unwrap());
        assert_eq!(header.destination, entry);
        let mut first = [0; 11];
        server.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"first bytes");
        let tlv = |kind: u8| {
            header
                .tlvs
                .iter()
                .find(|tlv| tlv.0 == kind)
                .map(|tlv| tlv.1.clone())
        };
        if proxy == Proxy::V2 {
            assert_eq!(tlv(TLV_EDGE_ID).as_deref(), Some(EDGE_ID.as_bytes()));
            let id = tlv(TLV_UNIQUE_ID).unwrap();
            // Half of the session's id, and the stream's number.
            let text = String::from_utf8(id.clone()).unwrap();
            assert_eq!(text.find('-'), Some(16), "{text}");
            unique.push(id);
        }
    }
    unique.dedup();
    assert_ne!(unique.len(), 1, "two streams with the same unique id");
}

/// `PP2_TYPE_UNIQUE_ID` of the specification.
const TLV_UNIQUE_ID: u8 = 0x05;
/// Ours: the edge's id.
const TLV_EDGE_ID: u8 = 0xEE;
