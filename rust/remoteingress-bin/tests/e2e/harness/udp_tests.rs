//! The UDP relay and the datagram oracle against themselves: faults must be seen, and truth accepted.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::quic_peer::{self, QuicClient, has_early_data, is_initial};
use super::system::forbid_fragments;
use super::udp_oracle::{HEADER, LARGEST, UdpOracle, UdpPlan, UdpProxy, UdpReport};
use super::udp_relay::{Faults, Side, UdpRelay, flight};
use super::{SOON, run, seed, skip, until};

/// The oracle's report on a path with these faults.
async fn judge(change: impl FnOnce(&mut Faults)) -> UdpReport {
    let oracle = UdpOracle::start(UdpProxy::None);
    let relay = UdpRelay::start(oracle.address());
    relay.set(change);
    let sizes = (0..400).map(|number| HEADER + number).collect();
    let mut plan = UdpPlan::new(seed(), 0, 40, sizes);
    plan.patience = Duration::from_millis(300);
    oracle.play(relay.address(), &plan).await
}

#[test]
fn a_true_path_is_accepted_with_all_sizes() {
    run(60, async {
        let oracle = UdpOracle::start(UdpProxy::None);
        let relay = UdpRelay::start(oracle.address());
        let mut sizes = vec![0, HEADER, 1_472, 1_473, 9_000, LARGEST, 0];
        sizes.extend((0..2_000).map(|number| HEADER + number % 1_400));
        let plan = UdpPlan::new(seed(), 0, 100, sizes);
        oracle.play(relay.address(), &plan).await.assert_whole();
        assert_eq!((oracle.empty(), oracle.peers()), (2, 100));
        let seen = relay.seen();
        assert_eq!(seen.from_edge, seen.to_hub);
        assert_eq!(seen.from_hub.datagrams, 2_007);
    });
}

#[test]
fn loss_is_counted_and_is_no_other_fault() {
    run(60, async {
        let report = judge(|faults| faults.loss = 0.1).await;
        report.assert_true();
        assert!(report.answered > 200 && report.answered < 400, "{report:?}");
    });
}

#[test]
fn doubles_flipped_bits_and_cut_sizes_are_seen() {
    run(60, async {
        assert!(
            !judge(|faults| faults.duplicate = 0.1)
                .await
                .faults
                .is_empty()
        );
        assert!(!judge(|faults| faults.corrupt = 0.1).await.faults.is_empty());
        let small = judge(|faults| faults.largest = HEADER + 200).await;
        assert_eq!(small.answered, 201);
    });
}

#[test]
fn merges_splits_and_leaks_are_seen() {
    run(60, async {
        for wrong in [merge_two, split_in_two, answer_another] {
            let (entry, oracle) = between(wrong);
            let mut plan = UdpPlan::new(seed(), 0, 2, vec![100; 40]);
            plan.patience = Duration::from_millis(200);
            let report = oracle.play(entry, &plan).await;
            assert!(!report.faults.is_empty(), "{report:?}");
        }
    });
}

#[test]
fn delay_reorder_and_blocking_do_what_they_say() {
    run(60, async {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        target.set_read_timeout(Some(SOON)).unwrap();
        let relay = UdpRelay::start(target.local_addr().unwrap());
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(relay.address()).unwrap();
        let mut buffer = [0; 64];

        let delay = Duration::from_millis(60);
        relay.set(|faults| faults.delay = delay);
        relay.record();
        let begun = Instant::now();
        client.send(b"question").unwrap();
        let (length, from) = target.recv_from(&mut buffer).unwrap();
        assert!(begun.elapsed() >= delay);
        target.send_to(&buffer[..length], from).unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.recv(&mut buffer).unwrap();
        assert!(begun.elapsed() >= 2 * delay);
        let recorded = relay.recorded();
        let flights = recorded
            .iter()
            .map(|datagram| (datagram.from, flight(recorded[0].at, datagram.at, delay)));
        assert_eq!(
            flights.collect::<Vec<_>>(),
            [(Side::Edge, 1), (Side::Hub, 2)]
        );

        relay.set(|faults| {
            *faults = Faults {
                reorder: 0.5,
                ..Faults::none()
            }
        });
        for number in 0..100 {
            client.send(&[number]).unwrap();
        }
        let mut order = Vec::new();
        for _ in 0..100 {
            target.recv_from(&mut buffer).unwrap();
            order.push(buffer[0]);
        }
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..100));

        relay.set(|faults| *faults = Faults::none());
        relay.block(true);
        // The last of them is counted after it was sent.
        until(SOON, "all of them counted", async || {
            (relay.seen().to_hub.datagrams == 101).then_some(())
        })
        .await;
        let before = relay.seen();
        client.send(b"lost").unwrap();
        until(SOON, "the lost datagram", async || {
            (relay.seen().from_edge.datagrams > before.from_edge.datagrams).then_some(())
        })
        .await;
        assert_eq!(relay.seen().to_hub, before.to_hub);
    });
}

#[test]
fn a_new_port_still_finds_its_edge_and_what_was_recorded_can_be_sent_again() {
    run(60, async {
        let target = UdpSocket::bind("127.0.0.1:0").unwrap();
        target.set_read_timeout(Some(SOON)).unwrap();
        let relay = UdpRelay::start(target.local_addr().unwrap());
        relay.record();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(SOON)).unwrap();
        client.connect(relay.address()).unwrap();
        let mut buffer = [0; 64];
        let mut ports = Vec::new();
        for round in 1..=3_u64 {
            client.send(b"ping").unwrap();
            let (length, from) = target.recv_from(&mut buffer).unwrap();
            ports.push(from.port());
            target.send_to(&buffer[..length], from).unwrap();
            assert_eq!(client.recv(&mut buffer).unwrap(), 4);
            relay.rebind();
            until(SOON, "a new port", async || {
                (relay.seen().rebinds == round).then_some(())
            })
            .await;
        }
        ports.dedup();
        assert_eq!(ports.len(), 3, "{ports:?}");
        relay.inject(Side::Edge, relay.recorded()[0].bytes.clone());
        let (length, _) = target.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"ping");
    });
}

#[test]
fn stock_quic_peers_meet_through_a_relay_and_tickets_are_counted() {
    run(60, async {
        let (server, _) = quic_peer::server(b"test");
        let relay = UdpRelay::start(server.local_addr().unwrap());
        relay.record();
        let client = QuicClient::new(&[b"test"]);
        let serving = tokio::spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            connection.closed().await;
        });
        let connection = client.connect(relay.address()).await.unwrap();
        // A stock server gives tickets: with our hub the count stays 0.
        until(SOON, "a ticket", async || {
            (client.tickets() > 0).then_some(())
        })
        .await;
        connection.close(0_u32.into(), b"");
        serving.await.unwrap();
        let recorded = relay.recorded();
        assert!(is_initial(&recorded[0].bytes));
        assert!(
            !recorded
                .iter()
                .any(|datagram| has_early_data(&datagram.bytes))
        );
        // A coalesced 0-RTT packet after an Initial, as a client with a ticket would send.
        let mut early = recorded[0].bytes.clone();
        early.extend([0xd0, 0, 0, 0, 1, 0, 0, 0x01, 0]);
        assert!(has_early_data(&early));
    });
}

#[test]
fn namespaces_have_links_of_their_own_mtu() {
    run(60, async {
        let ends = Namespace::new("near").zip(Namespace::new("far"));
        let Some((near, far)) = ends.filter(|(near, far)| near.join(far, 83, 1_500).is_some())
        else {
            skip("the right to make network namespaces");
            return;
        };
        let target = SocketAddr::from(([10, 83, 0, 2], 0));
        let oracle = {
            let _inside = far.enter();
            UdpOracle::start_on(UdpProxy::None, target)
        };
        let _inside = near.enter();
        let mut plan = UdpPlan::new(seed(), 0, 4, vec![0, HEADER, 1_472, 1_473, 9_000, LARGEST]);
        plan.in_flight = 1;
        oracle.play(oracle.address(), &plan).await.assert_whole();
        // A datagram that must not be fragmented doesn't fit: the link is as narrow as it says.
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        forbid_fragments(&socket);
        socket.connect(oracle.address()).unwrap();
        socket.send(&[0; 1_472]).unwrap();
        let error = socket.send(&[0; 1_473]).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    });
}

/// A forwarder in front of an oracle that does `wrong` to what it gets.
fn between(wrong: fn(&Forwarder, Vec<Vec<u8>>)) -> (SocketAddr, UdpOracle) {
    let oracle = UdpOracle::start(UdpProxy::None);
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let entry = front.local_addr().unwrap();
    front.set_read_timeout(Some(SOON)).unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    back.connect(oracle.address()).unwrap();
    std::thread::spawn(move || {
        let mut forwarder = Forwarder {
            front,
            back,
            clients: Vec::new(),
        };
        let mut buffer = [0; 2_048];
        let mut pair = Vec::new();
        while let Ok((length, client)) = forwarder.front.recv_from(&mut buffer) {
            if !forwarder.clients.contains(&client) {
                forwarder.clients.push(client);
            }
            pair.push(buffer[..length].to_vec());
            if pair.len() == 2 {
                wrong(&forwarder, std::mem::take(&mut pair));
            }
        }
    });
    (entry, oracle)
}

struct Forwarder {
    front: UdpSocket,
    back: UdpSocket,
    clients: Vec<SocketAddr>,
}

fn merge_two(forwarder: &Forwarder, pair: Vec<Vec<u8>>) {
    forwarder.back.send(&pair.concat()).unwrap();
}

fn split_in_two(forwarder: &Forwarder, pair: Vec<Vec<u8>>) {
    forwarder.back.send(&pair[0][..50]).unwrap();
    forwarder.back.send(&pair[0][50..]).unwrap();
}

fn answer_another(forwarder: &Forwarder, pair: Vec<Vec<u8>>) {
    for bytes in pair {
        for client in &forwarder.clients {
            forwarder.front.send_to(&bytes, client).unwrap();
        }
    }
}
