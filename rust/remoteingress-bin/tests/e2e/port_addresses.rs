//! One port on several addresses of the edge, each with a target of its own.

use std::io::ErrorKind;
use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::net::{TcpStream, UdpSocket};

use crate::harness::ports::free_port;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{ManualTarget, Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run, until, within};

on_both_transports! {
    a_stream_goes_to_the_target_of_the_address_that_it_came_to,
    a_flow_goes_to_the_target_of_the_address_that_it_came_to,
    a_change_of_one_address_leaves_the_others_streams_and_flows_alone,
    a_port_on_all_addresses_becomes_one_on_two_and_the_reverse,
}

const FIRST: &str = "127.0.0.2";
const SECOND: &str = "127.0.0.3";

fn a_stream_goes_to_the_target_of_the_address_that_it_came_to(transport: Transport) {
    run(60, async {
        let port = free_port();
        let mut builder = TunnelBuilder::new(transport);
        let mut targets = Vec::new();
        for (address, proxy) in [(FIRST, Proxy::V1), (SECOND, Proxy::V2)] {
            let target = ManualTarget::start(proxy).await;
            let mut entry = on(address, port, target.address());
            entry["proxyProtocol"] = proxy.word().into();
            builder.listen(entry);
            targets.push((address, target));
        }
        let tunnel = builder.start().await;
        for (address, target) in &mut targets {
            let entry = at(address, port);
            let client = TcpStream::connect(entry).await.unwrap();
            let (_server, header) = target.accept_with_header().await;
            let header = header.unwrap();
            assert_eq!(header.source, client.local_addr().unwrap());
            assert_eq!(header.destination, entry);
        }
        let bound = |address| json!({"protocol": "tcp", "port": port, "bindAddress": address, "state": "bound"});
        let both = json!([bound(FIRST), bound(SECOND)]);
        let edge = tunnel.edge.status().await;
        assert_eq!(
            (&edge["ports"], &edge["listenPorts"]),
            (&both, &json!([port]))
        );
        let hub = tunnel.hub.status().await;
        assert_eq!(hub["connectedEdges"][0]["ports"], both);
        let refused = TcpStream::connect(at("127.0.0.1", port)).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

fn a_flow_goes_to_the_target_of_the_address_that_it_came_to(transport: Transport) {
    run(60, async {
        let port = free_port();
        let mut builder = TunnelBuilder::new(transport);
        let mut targets = Vec::new();
        for address in [FIRST, SECOND] {
            let target = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            builder.listen_udp(on(address, port, target.local_addr().unwrap()));
            targets.push((address, target));
        }
        let _tunnel = builder.start().await;
        for (address, target) in &targets {
            let entry = at(address, port);
            let client = client(entry).await;
            client.send(address.as_bytes()).await.unwrap();
            let (header, _) = received(target).await;
            let (source, destination) = endpoints(&header);
            assert_eq!(source, client.local_addr().unwrap());
            assert_eq!(destination, entry);
            let (payload, flow) = received(target).await;
            assert_eq!(payload, address.as_bytes());
            target.send_to(b"answer", flow).await.unwrap();
            assert_eq!(received(&client).await.0, b"answer");
        }
    });
}

fn a_change_of_one_address_leaves_the_others_streams_and_flows_alone(transport: Transport) {
    run(60, async {
        let port = free_port();
        let (kept, gone) = (Target::echo().await, Target::echo().await);
        let other = Target::echo().await;
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let plain = |address, target| {
            let mut entry = on(address, port, target);
            entry["proxyProtocol"] = "none".into();
            entry
        };
        let of_udp = plain(FIRST, udp.local_addr().unwrap());
        let mut builder = TunnelBuilder::new(transport);
        builder.listen(plain(FIRST, kept.address()));
        builder.listen_udp(of_udp.clone());
        let tunnel = builder.start().await;
        let mut stream = TcpStream::connect(at(FIRST, port)).await.unwrap();
        echoed(&mut stream, 1_000).await;
        let flow = client(at(FIRST, port)).await;
        flow.send(b"first").await.unwrap();
        let (_, source) = received(&udp).await;

        // The second address comes, moves to another target, goes, and comes again alone.
        let first = plain(FIRST, kept.address());
        let sets = [
            (json!([first, plain(SECOND, gone.address())]), true, true),
            (json!([first, plain(SECOND, other.address())]), true, true),
            (json!([first]), true, false),
            (json!([plain(SECOND, other.address()), first]), true, true),
        ];
        for (tcp, has_first, has_second) in sets {
            let mut of_second = of_udp.clone();
            of_second["bindAddress"] = SECOND.into();
            let udp_ports = if has_second {
                json!([of_udp, of_second])
            } else {
                json!([of_udp])
            };
            change(&tunnel, &tcp, &udp_ports).await;
            for (address, is_there) in [(FIRST, has_first), (SECOND, has_second)] {
                let connected = TcpStream::connect(at(address, port)).await;
                assert_eq!(connected.is_ok(), is_there, "{tcp} {address}");
                if let Ok(mut stream) = connected {
                    echoed(&mut stream, 1_000).await;
                }
            }
            echoed(&mut stream, 1_000).await;
            flow.send(b"more").await.unwrap();
            assert_eq!(received(&udp).await.1, source, "the flow has begun anew");
            let status = tunnel.edge.status().await;
            assert_eq!(status["udp"]["activeFlows"], 1);
        }
    });
}

fn a_port_on_all_addresses_becomes_one_on_two_and_the_reverse(transport: Transport) {
    run(60, async {
        let port = free_port();
        let (first, second) = (Target::echo().await, Target::echo().await);
        let plain = |address, target: SocketAddr| {
            let mut entry = on(address, port, target);
            entry["proxyProtocol"] = "none".into();
            entry
        };
        let mut builder = TunnelBuilder::new(transport);
        builder.listen(plain("0.0.0.0", first.address()));
        let tunnel = builder.start().await;
        let mut old = TcpStream::connect(at(FIRST, port)).await.unwrap();
        echoed(&mut old, 1_000).await;
        let both = json!([
            plain(FIRST, first.address()),
            plain(SECOND, second.address())
        ]);
        let all = json!([plain("0.0.0.0", second.address())]);
        for (ports, third) in [(both, false), (all, true)] {
            change(&tunnel, &ports, &json!([])).await;
            for (address, is_there) in [(FIRST, true), (SECOND, true), ("127.0.0.4", third)] {
                // The listener of before may take a moment to close.
                let entry = at(address, port);
                until(SOON, "the new listeners", async || {
                    let connected = TcpStream::connect(entry).await;
                    (connected.is_ok() == is_there).then_some(())
                })
                .await;
            }
            let mut new = TcpStream::connect(at(SECOND, port)).await.unwrap();
            echoed(&mut new, 1_000).await;
            echoed(&mut old, 1_000).await;
        }
    });
}

/// Waits until the edge has carried a change out without a failure at its first try.
async fn change(tunnel: &Tunnel, tcp: &Value, udp: &Value) {
    let mut entry = tunnel.entry();
    entry["listenPorts"] = tcp.clone();
    entry["listenPortsUdp"] = udp.clone();
    let mark = tunnel.hub.mark();
    tunnel.update(&entry).await;
    let wanted = tcp.as_array().unwrap().len() + udp.as_array().unwrap().len();
    let is_answer = |applied: &Value| applied["ports"].as_array().unwrap().len() == wanted;
    let applied = tunnel
        .hub
        .wait_event_since(mark, "portsApplied", SOON, is_answer)
        .await;
    let mut ports = applied["ports"].as_array().unwrap().iter();
    assert!(ports.all(|port| port["state"] == "bound"), "{applied}");
}

fn on(address: &str, port: u16, target: SocketAddr) -> Value {
    json!({
        "port": port, "bindAddress": address, "targetHost": target.ip(), "targetPort": target.port(),
    })
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

async fn client(entry: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    client.connect(entry).await.unwrap();
    client
}

async fn received(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 2_048];
    let (length, source) = within(SOON, "a datagram", socket.recv_from(&mut bytes))
        .await
        .unwrap();
    bytes.truncate(length);
    (bytes, source)
}

/// Source and destination of a PROXY v2 header for UDP over IPv4.
fn endpoints(header: &[u8]) -> (SocketAddr, SocketAddr) {
    assert_eq!(
        (&header[..12], header[12..14].to_vec()),
        (&b"\r\n\r\n\0\r\nQUIT\n"[..], vec![0x21, 0x12])
    );
    let ip = |at: usize| <[u8; 4]>::try_from(&header[at..at + 4]).unwrap();
    let port = |at: usize| u16::from_be_bytes(header[at..at + 2].try_into().unwrap());
    ((ip(16), port(24)).into(), (ip(20), port(26)).into())
}
