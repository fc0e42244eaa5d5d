//! Link-local addresses with their zones: a hub at one, and its targets. Edge and hub in namespaces that a link joins.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, skip, until, within};

on_both_transports! {
    hubs_and_targets_at_link_local_addresses_are_reached,
}

fn hubs_and_targets_at_link_local_addresses_are_reached(transport: Transport) {
    run(90, async {
        let Some((outside, inside)) = network() else {
            skip("the right to make network namespaces");
            return;
        };
        let (hub, listener, datagrams) = {
            let _inside = inside.enter();
            let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 2_001));
            let listener = std::net::TcpListener::bind(any).unwrap();
            listener.set_nonblocking(true).unwrap();
            let datagrams = std::net::UdpSocket::bind(any).unwrap();
            datagrams.set_nonblocking(true).unwrap();
            (
                Process::management("hub").await,
                TcpListener::from_std(listener).unwrap(),
                UdpSocket::from_std(datagrams).unwrap(),
            )
        };
        let edge = {
            let _outside = outside.enter();
            Process::management("edge").await
        };
        let secret = new_secret();
        let port = json!([{
            "port": 1_001, "targetHost": "fe80::2%v83b", "targetPort": 2_001, "proxyProtocol": "none",
        }]);
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0, "listenPorts": port,
            "listenPortsUdp": port,
        });
        let edges = json!({"edges": [entry]});
        let config = json!({"tunnelPort": 8_443, "workers": 1, "allowSpecialTargets": true});
        hub.call("startHub", config).await;
        hub.call("updateAllowedEdges", edges).await;
        let config = json!({
            "hubHost": "fe80::2%v83a", "hubPort": 8_443, "edgeId": EDGE_ID, "secret": secret,
            "workers": 1, "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        hub.wait_event("portsApplied", SOON, |_| true).await;

        let entry = SocketAddr::from(([127, 0, 0, 1], 1_001));
        let (client, asking) = {
            let _outside = outside.enter();
            let client = std::net::TcpStream::connect(entry).unwrap();
            client.set_nonblocking(true).unwrap();
            let asking = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            asking.set_nonblocking(true).unwrap();
            asking.connect(entry).unwrap();
            (client, asking)
        };
        let mut client = TcpStream::from_std(client).unwrap();
        let (mut target, _) = within(SOON, "stream", listener.accept()).await.unwrap();
        client.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        let read = target.read_exact(&mut received);
        within(SOON, "bytes", read).await.unwrap();
        assert_eq!(&received, b"ping");

        let asking = UdpSocket::from_std(asking).unwrap();
        until(SOON, "datagram", async || {
            asking.send(b"pong").await.unwrap();
            datagrams.try_recv(&mut received).ok()
        })
        .await;
        assert_eq!(&received, b"pong");
    });
}

/// edge fe80::1%v83a - fe80::2%v83b hub
fn network() -> Option<(Namespace, Namespace)> {
    let (outside, inside) = (Namespace::new("outside")?, Namespace::new("inside")?);
    outside.join(&inside, 83, 1_500)?;
    let is_addressed = outside.ip("address add fe80::1/64 dev v83a nodad")
        && inside.ip("address add fe80::2/64 dev v83b nodad");
    is_addressed.then_some((outside, inside))
}
