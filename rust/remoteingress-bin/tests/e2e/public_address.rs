//! The edge's public address: asked of a STUN server at the interval the hub sets, and shown on both ends.

use std::net::SocketAddr;

use serde_json::json;
use tokio::net::UdpSocket;

use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, run};

on_both_transports! {
    the_public_address_is_discovered_and_told_to_the_hub,
}

/// Answers every STUN binding request with `address` as XOR-MAPPED-ADDRESS (RFC 8489 section 14.2).
async fn serve(socket: UdpSocket, address: [u8; 4]) {
    let mut request = [0; 1_500];
    while let Ok((length, from)) = socket.recv_from(&mut request).await {
        assert!(length >= 20 && request[..2] == [0, 1], "a binding request");
        let cookie = [0x21, 0x12, 0xa4, 0x42];
        let mut answer = vec![1, 1, 0, 12];
        answer.extend_from_slice(&request[4..20]);
        answer.extend_from_slice(&[0, 0x20, 0, 8, 0, 1, 0x21 ^ 0x30, 0x12 ^ 0x39]);
        answer.extend(address.iter().zip(cookie).map(|(byte, mask)| byte ^ mask));
        socket.send_to(&answer, from).await.unwrap();
    }
}

fn the_public_address_is_discovered_and_told_to_the_hub(transport: Transport) {
    run(60, async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server: SocketAddr = socket.local_addr().unwrap();
        tokio::spawn(serve(socket, [198, 51, 100, 7]));
        let tunnel = TunnelBuilder::new(transport)
            .edge(json!({"stunServers": [server.to_string()]}))
            .start()
            .await;
        let mut entry = tunnel.entry();
        entry["stunIntervalSecs"] = json!(300);
        tunnel.update(&entry).await;
        let found = |data: &serde_json::Value| data["publicIp"] == "198.51.100.7";
        let edge = &tunnel.edge;
        edge.wait_event("publicIpDiscovered", SOON, found).await;
        let on_edge = tunnel.edge.status().await;
        assert_eq!(on_edge["publicIp"], "198.51.100.7");
        let told = |status: &serde_json::Value| found(&status["connectedEdges"][0]);
        tunnel
            .hub
            .wait_status(SOON, "the edge's public address", told)
            .await;
    });
}
