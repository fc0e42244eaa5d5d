//! UDP ports: datagrams keep their boundaries and find their flows, targets learn the client, tables hold under a flood.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use remoteingress_proxy_protocol::{Accept, Addresses, Parser, Protocol, Status};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use crate::harness::ports::free_port;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::udp_oracle::UdpProxy;
use crate::harness::{SOON, run, run_heavy, seed, until, within};

/// Datagrams of up to [`ONE_PACKET`] bytes; a full run has 200,000.
const SMALL: usize = 20_000;
/// Larger ones, and empty ones.
const LARGE: usize = 400;
/// Payload that one packet of an Ethernet carries.
const ONE_PACKET: usize = 1_472;
const LARGEST: usize = 65_507;
const FLOWS: usize = 500;
/// Clients that wait for their answer at the same time.
const IN_FLIGHT: usize = 64;

on_both_transports! {
    small_datagrams_come_back_whole_to_whom_they_belong,
    large_and_empty_datagrams_come_back_whole_to_whom_they_belong,
    the_first_datagrams_of_a_flow_arrive,
    a_target_learns_the_client_as_its_port_says,
    a_flood_of_one_way_flows_displaces_no_two_way_flow,
    one_address_gets_no_more_flows_than_its_share,
    idle_flows_end_at_both_ends_and_come_back,
    flows_are_silent_for_as_long_as_their_port_says_or_else_the_hub,
    a_hub_that_forgot_a_flow_learns_it_again,
    ports_come_and_go_without_touching_the_others,
    a_changed_target_takes_over_running_flows,
    forbidden_and_taken_ports_are_reported,
    a_refusing_target_costs_nothing_but_its_datagrams,
}

fn small_datagrams_come_back_whole_to_whom_they_belong(transport: Transport) {
    run_heavy(240, truth(transport, SMALL, IN_FLIGHT, 1..ONE_PACKET + 1));
}

fn large_and_empty_datagrams_come_back_whole_to_whom_they_belong(transport: Transport) {
    // Three at once: more of them than sockets' buffers hold would be dropped, as they should.
    run_heavy(240, truth(transport, LARGE, 3, ONE_PACKET + 1..LARGEST + 1));
}

/// A closed loop: each of `in_flight` clients sends one datagram, waits for it to come back, and compares.
async fn truth(
    transport: Transport,
    count: usize,
    in_flight: usize,
    sizes: std::ops::Range<usize>,
) {
    let target = UdpTarget::echo().await;
    let mut builder = TunnelBuilder::new(transport);
    let entry = builder.forward_udp(UdpProxy::None, target.address);
    let tunnel = builder.start().await;
    tunnel.wait_sessions().await;
    let left = Rc::new(Cell::new(count));
    let clients = LocalSet::new();
    for client in 0..in_flight {
        let (left, sizes) = (Rc::clone(&left), sizes.clone());
        clients.spawn_local(async move {
            let mut rng = ChaCha8Rng::seed_from_u64(seed() ^ client as u64);
            let mut sockets = Vec::new();
            for _ in 0..(FLOWS / in_flight).max(1) {
                sockets.push(connect("127.0.0.1", entry).await);
            }
            let mut back = vec![0; LARGEST + 1];
            while left.get() > 0 {
                left.set(left.get() - 1);
                let size = if rng.random_bool(0.02) {
                    0
                } else {
                    rng.random_range(sizes.clone())
                };
                let mut sent = vec![0; size];
                rng.fill_bytes(&mut sent);
                let socket = &sockets[rng.random_range(0..sockets.len())];
                socket.send(&sent).await.unwrap();
                let what = format!("answer to {size} bytes");
                let length = within(SOON, &what, socket.recv(&mut back)).await.unwrap();
                assert!(
                    back[..length] == sent,
                    "{length} other bytes instead of {size}"
                );
            }
        });
    }
    clients.await;
    let edge = tunnel.edge.status().await;
    assert_eq!(edge["udp"]["datagramsIn"], count, "{edge}");
    assert_eq!(edge["udp"]["datagramsOut"], count, "{edge}");
    assert_eq!(edge["udp"]["dropped"], json!({}), "{edge}");
    let hub = tunnel.hub.status().await;
    let counted = &hub["connectedEdges"][0]["udp"];
    assert_eq!(counted["datagramsIn"], count, "{hub}");
    assert_eq!(counted["dropped"], json!({}), "{hub}");
}

fn the_first_datagrams_of_a_flow_arrive(transport: Transport) {
    run(90, async {
        let mut target = UdpTarget::start().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let mut expected = BTreeSet::new();
        for client in 0..100_u32 {
            let socket = connect("127.0.0.1", entry).await;
            for number in 0..4_u32 {
                let payload = [client.to_be_bytes(), number.to_be_bytes()].concat();
                socket.send(&payload).await.unwrap();
                expected.insert(payload);
            }
            // A client's flow is one source at the target, and no other's.
            let mut sources = BTreeSet::new();
            for _ in 0..4 {
                let (source, payload) = target.next().await;
                assert!(expected.remove(&payload), "{payload:?} came twice");
                sources.insert(source);
            }
            assert_eq!(sources.len(), 1);
        }
    });
}

fn a_target_learns_the_client_as_its_port_says(transport: Transport) {
    run(90, async {
        let mut first = UdpTarget::start().await;
        let mut every = UdpTarget::start().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry_first = builder.forward_udp(UdpProxy::FirstDatagram, first.address);
        let entry_every = builder.forward_udp(UdpProxy::EveryDatagram, every.address);
        let _tunnel = builder.start().await;

        let client = connect("127.0.0.1", entry_first).await;
        let own = client.local_addr().unwrap();
        client.send(b"one").await.unwrap();
        client.send(b"").await.unwrap();
        let (source, header) = first.next().await;
        assert_eq!(proxy_header(&header), (own, entry_first, header.len()));
        assert_eq!(first.next().await, (source, b"one".to_vec()));
        assert_eq!(first.next().await, (source, Vec::new()));

        let client = connect("127.0.0.1", entry_every).await;
        let own = client.local_addr().unwrap();
        let large = vec![7; 20_000];
        for payload in [b"one".as_slice(), b"", &large] {
            client.send(payload).await.unwrap();
            let (_, datagram) = every.next().await;
            let (source, destination, length) = proxy_header(&datagram);
            assert_eq!((source, destination), (own, entry_every));
            assert_eq!(&datagram[length..], payload);
        }
    });
}

fn a_flood_of_one_way_flows_displaces_no_two_way_flow(transport: Transport) {
    run_heavy(120, async {
        let target = UdpTarget::answering(|payload| payload.starts_with(b"real")).await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let limits = json!({"limits": {"maxUdpFlowsPerListener": 200}});
        let tunnel = builder
            .edge(limits)
            .hub(json!({"limits": {"maxUdpFlowsPerEdge": 200}}))
            .start()
            .await;
        tunnel.wait_sessions().await;
        let mut real = Vec::new();
        for _ in 0..20 {
            let client = connect("127.0.0.1", entry).await;
            let source = ask(&client, b"real").await;
            real.push((client, source));
        }
        for number in 0..4_000_u32 {
            let [.., high, low] = number.to_be_bytes();
            let forged = connect(&format!("127.1.{high}.{low}"), entry).await;
            forged.send(b"forged").await.unwrap();
            if number % 200 == 0 {
                // The flood is no faster than the tunnel: what is shown is the table, not the queue.
                ask(&real[0].0, b"real").await;
            }
        }
        for (client, source) in &real {
            assert_eq!(&ask(client, b"real").await, source, "the flow was lost");
        }
        let status = tunnel.edge.status().await;
        assert_eq!(status["udp"]["activeFlows"], 200, "{status}");
    });
}

fn one_address_gets_no_more_flows_than_its_share(transport: Transport) {
    run(60, async {
        let target = UdpTarget::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let limits = json!({"workers": 1, "limits": {"maxUdpFlowsPerIp": 8}});
        let tunnel = builder.edge(limits).start().await;
        let mut clients = Vec::new();
        for _ in 0..8 {
            let client = connect("127.0.0.1", entry).await;
            ask(&client, b"in").await;
            clients.push(client);
        }
        let surplus = connect("127.0.0.1", entry).await;
        surplus.send(b"too many").await.unwrap();
        let counted = |status: &Value| status["udp"]["dropped"]["maxUdpFlowsPerIp"] == 1;
        tunnel
            .edge
            .wait_status(SOON, "the count of the surplus", counted)
            .await;
        ask(&connect("127.0.0.2", entry).await, b"another").await;
        ask(&clients[0], b"still in").await;
    });
}

fn idle_flows_end_at_both_ends_and_come_back(transport: Transport) {
    run(60, async {
        let target = UdpTarget::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let idle = json!({"udpIdleTimeoutSecs": 1});
        let tunnel = builder.edge(idle.clone()).hub(idle).start().await;
        let client = connect("127.0.0.1", entry).await;
        for _ in 0..2 {
            ask(&client, b"here").await;
            assert_eq!(tunnel.edge.status().await["udp"]["activeFlows"], 1);
            let what = "status without flows";
            let is_idle = |status: &Value| status["udp"]["activeFlows"] == 0;
            tunnel.edge.wait_status(SOON, what, is_idle).await;
            let is_idle = |status: &Value| is_idle(&status["connectedEdges"][0]);
            tunnel.hub.wait_status(SOON, what, is_idle).await;
        }
    });
}

fn flows_are_silent_for_as_long_as_their_port_says_or_else_the_hub(transport: Transport) {
    run(60, async {
        let target = UdpTarget::echo().await;
        // The edge's own word doesn't count.
        let mut builder = TunnelBuilder::new(transport).edge(json!({"udpIdleTimeoutSecs": 1}));
        let long = builder.forward_udp(UdpProxy::None, target.address);
        let (short, port) = (free_port(), target.address.port());
        builder.listen_udp(json!({
            "port": short, "targetHost": "127.0.0.1", "targetPort": port, "proxyProtocol": "none",
            "udpIdleTimeoutSecs": 3,
        }));
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (steady, brief) = (
            connect("127.0.0.1", long).await,
            connect("127.0.0.1", SocketAddr::from(([127, 0, 0, 1], short))).await,
        );
        let (steadily, begun) = (ask(&steady, b"steady").await, Instant::now());
        ask(&brief, b"brief").await;
        let at_edge = |status: &Value| status["udp"]["activeFlows"] == 1;
        tunnel.edge.wait_status(SOON, "one flow", at_edge).await;
        let at_hub = |status: &Value| status["connectedEdges"][0]["udp"]["activeFlows"] == 1;
        tunnel.hub.wait_status(SOON, "one flow", at_hub).await;
        assert!(begun.elapsed() >= Duration::from_secs(3));
        // The same flow, which was silent for as long.
        assert_eq!(ask(&steady, b"steady").await, steadily);
    });
}

fn a_hub_that_forgot_a_flow_learns_it_again(transport: Transport) {
    run(60, async {
        let mut target = UdpTarget::start().await;
        let mut builder = TunnelBuilder::new(transport)
            .edge(json!({"workers": 1}))
            .hub(json!({"limits": {"maxUdpFlowsPerEdge": 1}}));
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let (client, other) = (
            connect("127.0.0.1", entry).await,
            connect("127.0.0.1", entry).await,
        );
        // Each flow displaces the other one at the hub, and the edge isn't told.
        until(SOON, "datagram of an unknown flow", async || {
            client.send(b"here").await.unwrap();
            other.send(b"here").await.unwrap();
            let status = tunnel.hub.status().await;
            status["connectedEdges"][0]["udp"]["dropped"]["unknownFlow"].as_u64()
        })
        .await;
        // The datagram that found no flow is lost, as UDP may be.
        until(SOON, "datagram at the target", async || {
            client.send(b"here again").await.unwrap();
            let received = target.received.try_recv().ok()?;
            (received.1 == b"here again").then_some(())
        })
        .await;
    });
}

fn ports_come_and_go_without_touching_the_others(transport: Transport) {
    run(90, async {
        let target = UdpTarget::answering(|_| true).await;
        let tcp_target = Target::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        builder.forward(Proxy::None, tcp_target.address());
        let tunnel = builder.start().await;
        // Before that a worker without a session lends its clients to the other.
        tunnel.wait_sessions().await;
        let client = connect("127.0.0.1", entry).await;
        let source = ask(&client, b"first").await;

        let mut changed = tunnel.entry();
        let added = free_port();
        let ports = changed["listenPortsUdp"].as_array_mut().unwrap();
        ports.push(json!({
            "port": added, "targetHost": "127.0.0.1", "targetPort": target.address.port(),
            "proxyProtocol": "none",
        }));
        tunnel.update(&changed).await;
        let bound = BTreeSet::from([entry.port(), added]);
        wait_bound(&tunnel, &bound).await;
        let second = connect("127.0.0.1", SocketAddr::from(([127, 0, 0, 1], added))).await;
        ask(&second, b"second").await;
        assert_eq!(ask(&client, b"first").await, source);

        tunnel.update(&tunnel.entry()).await;
        wait_bound(&tunnel, &BTreeSet::from([entry.port()])).await;
        // Its socket is closed at once: somebody else may have the port.
        until(SOON, "port that is free again", async || {
            UdpSocket::bind(("127.0.0.1", added)).await.ok()
        })
        .await;
        assert_eq!(ask(&client, b"first").await, source);
    });
}

fn a_changed_target_takes_over_running_flows(transport: Transport) {
    run(60, async {
        let (old, new) = (UdpTarget::start().await, UdpTarget::echo().await);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, old.address);
        let tunnel = builder.start().await;
        let client = connect("127.0.0.1", entry).await;
        let mut old = old;
        client.send(b"to the old one").await.unwrap();
        old.next().await;
        let mut changed = tunnel.entry();
        changed["listenPortsUdp"][0]["targetPort"] = json!(new.address.port());
        tunnel.update(&changed).await;
        ask(&client, b"to the new one").await;
    });
}

fn forbidden_and_taken_ports_are_reported(transport: Transport) {
    run(90, async {
        let target = UdpTarget::echo().await;
        let mut builder = TunnelBuilder::new(transport);
        let taken = builder.forward_udp(UdpProxy::None, target.address);
        let forbidden = builder.forward_udp(UdpProxy::None, target.address);
        let foreign = UdpSocket::bind(taken).await.unwrap();
        let builder = builder.edge(json!({"allowedPorts": {"udp": [taken.port()]}}));
        let tunnel = builder.start().await;
        let reported = |status: &Value| {
            let ports = &status["connectedEdges"][0]["ports"];
            port_error(ports, taken.port()) == Some("E_ADDRESS_IN_USE")
                && port_error(ports, forbidden.port()) == Some("E_PORT_NOT_ALLOWED")
        };
        let what = "report of both ports";
        tunnel.hub.wait_status(SOON, what, reported).await;
        drop(foreign);
        wait_bound(&tunnel, &BTreeSet::from([taken.port()])).await;
        ask(&connect("127.0.0.1", taken).await, b"free now").await;
    });
}

fn a_refusing_target_costs_nothing_but_its_datagrams(transport: Transport) {
    run(60, async {
        let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, nobody);
        let tunnel = builder.start().await;
        let client = connect("127.0.0.1", entry).await;
        // The kernel tells of the first one's fate when the next is sent.
        until(SOON, "count of a refused datagram", async || {
            client.send(b"to nobody").await.unwrap();
            let status = tunnel.hub.status().await;
            status["connectedEdges"][0]["udp"]["dropped"]["targetRefused"].as_u64()
        })
        .await;
        let target = UdpTarget::serve(UdpSocket::bind(nobody).await.unwrap(), |_| true);
        ask(&client, b"to somebody").await;
        drop(target);
    });
}

/// A target on a port of its own.
struct UdpTarget {
    address: SocketAddr,
    received: mpsc::UnboundedReceiver<(SocketAddr, Vec<u8>)>,
    task: JoinHandle<()>,
}

impl UdpTarget {
    /// Answers nothing; what comes is given by `next`.
    async fn start() -> Self {
        Self::answering(|_| false).await
    }

    /// Sends back what it gets.
    async fn echo() -> Self {
        Self::answering(|_| true).await
    }

    /// Sends back what `is_answered` wants, except that `real` is answered with the source's address.
    async fn answering(is_answered: fn(&[u8]) -> bool) -> Self {
        Self::serve(UdpSocket::bind("127.0.0.1:0").await.unwrap(), is_answered)
    }

    fn serve(socket: UdpSocket, is_answered: fn(&[u8]) -> bool) -> Self {
        let address = socket.local_addr().unwrap();
        // As large as an edge's: the kernel gives back up to a quarter of it late, and three of the largest datagrams are to
        // have room.
        let _ = SockRef::from(&socket).set_recv_buffer_size(1 << 20);
        let (sender, received) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; LARGEST + 1];
            loop {
                let Ok((length, source)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                let payload = &buffer[..length];
                if let Some(rest) = payload.strip_prefix(ASK).filter(|rest| is_answered(rest)) {
                    let answer = [rest, source.to_string().as_bytes()].concat();
                    socket.send_to(&answer, source).await.unwrap();
                } else if is_answered(payload) {
                    socket.send_to(payload, source).await.unwrap();
                } else {
                    let _ = sender.send((source, payload.to_vec()));
                }
            }
        });
        Self {
            address,
            received,
            task,
        }
    }

    async fn next(&mut self) -> (SocketAddr, Vec<u8>) {
        let next = within(SOON, "datagram at the target", self.received.recv());
        next.await.unwrap()
    }
}

impl Drop for UdpTarget {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client with a flow of its own.
async fn connect(ip: &str, entry: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).await.unwrap();
    socket.connect(entry).await.unwrap();
    socket
}

/// Sends `payload` until it is answered; gives the source that the target has seen.
async fn ask(client: &UdpSocket, payload: &[u8]) -> String {
    let question = [ASK, payload].concat();
    let mut answer = vec![0; LARGEST];
    until(SOON, "answer", async || {
        client.send(&question).await.ok()?;
        let answered = tokio::time::timeout(Duration::from_secs(1), client.recv(&mut answer));
        let length = answered.await.ok()?.ok()?;
        let source = answer[..length].strip_prefix(payload)?;
        Some(String::from_utf8(source.to_vec()).unwrap())
    })
    .await
}

/// Client and listener of a PROXY v2 header for UDP, and its length.
fn proxy_header(datagram: &[u8]) -> (SocketAddr, SocketAddr, usize) {
    let parser = Parser::new(Accept::V2);
    let Ok(Status::Complete { header, length }) = parser.parse(datagram) else {
        panic!("no PROXY header: {datagram:?}");
    };
    let is_udp = matches!(
        header.addresses,
        Addresses::Inet {
            protocol: Protocol::Datagram,
            ..
        }
    );
    assert!(is_udp, "{header:?}");
    (
        header.source().unwrap(),
        header.destination().unwrap(),
        length,
    )
}

async fn wait_bound(tunnel: &Tunnel, ports: &BTreeSet<u16>) {
    let bound = |status: &Value| {
        let listed = status["listenPortsUdp"].as_array().unwrap();
        let listed = listed.iter().map(|port| port.as_u64().unwrap());
        &listed.map(|port| port as u16).collect::<BTreeSet<u16>>() == ports
    };
    let limit = Duration::from_secs(35);
    tunnel.edge.wait_status(limit, "UDP ports", bound).await;
}

fn port_error(ports: &Value, number: u16) -> Option<&str> {
    let mut ports = ports.as_array()?.iter();
    let port = ports.find(|port| {
        port["port"] == number && port["protocol"] == "udp" && port["state"] == "failed"
    })?;
    port["error"]["code"].as_str()
}

/// Asks a target to say whom it sees.
const ASK: &[u8] = b"\0who am I? ";
