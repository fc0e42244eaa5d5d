//! Strangers at a UDP port of the edge: the product reflects nothing of its own, and floods push nobody out.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::udp_oracle::{HEADER, LARGEST, UdpOracle, UdpPlan, UdpProxy};
use crate::harness::{SOON, run, run_heavy, run_timed, seed, system, until};

on_both_transports! {
    a_datagram_of_the_target_is_one_for_the_client,
    a_source_that_spoke_once_gets_at_most_three_times_its_bytes,
    a_target_that_refuses_is_silence_for_the_client,
    a_flood_of_one_way_flows_pushes_no_live_flow_out,
    one_address_gets_no_more_than_its_share_of_flows,
    no_size_is_cut_whatever_header_it_gets,
}

fn a_datagram_of_the_target_is_one_for_the_client(transport: Transport) {
    run(90, async {
        // Three answers to each question; what isn't told a client that was there before isn't reflection.
        let target = Responder::start(3);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let _tunnel = builder.start().await;
        let client = client("127.0.0.1", entry);
        let mut received = 0;
        for _ in 0..200 {
            client.send(&[1; 100]).unwrap();
            received += count_for(&client, Duration::from_millis(20)).await.0;
        }
        received += count_for(&client, Duration::from_millis(500)).await.0;
        let sent = target.sent.load(Ordering::Relaxed);
        assert!(received <= sent, "{received} of {sent}");
        assert!(received > 300, "{received} of {sent}");
    });
}

fn a_source_that_spoke_once_gets_at_most_three_times_its_bytes(transport: Transport) {
    run(60, async {
        let target = Responder::start(10);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let limits = json!({"limits": {"unvalidatedReplyFactor": 3}});
        let _tunnel = builder.edge(limits).start().await;
        let victim = client("127.0.0.1", entry);
        // Its answers have 1,000 bytes: one is within three times the question.
        victim.send(&[1; 400]).unwrap();
        until(SOON, "the target's answers", async || {
            (target.sent.load(Ordering::Relaxed) >= 10).then_some(())
        })
        .await;
        let (_, bytes) = count_for(&victim, Duration::from_millis(500)).await;
        assert!((1..=1_200).contains(&bytes), "{bytes} bytes for 400");
    });
}

fn a_target_that_refuses_is_silence_for_the_client(transport: Transport) {
    run(60, async {
        let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
        let closed = gone.local_addr().unwrap();
        drop(gone);
        let oracle = UdpOracle::start(UdpProxy::None);
        let mut builder = TunnelBuilder::new(transport);
        let refused = builder.forward_udp(UdpProxy::None, closed);
        let entry = builder.forward_udp(UdpProxy::None, oracle.address());
        let _tunnel = builder.start().await;
        let client = client("127.0.0.1", refused);
        for _ in 0..20 {
            // An ICMP error would be an error here.
            client.send(b"anyone?").unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // The target's ICMP errors cost the other flows nothing.
        let plan = UdpPlan::new(seed(), 0, 10, vec![100; 200]);
        oracle.play(entry, &plan).await.assert_whole();
        let silence = client.recv(&mut [0; 16]).unwrap_err();
        assert_eq!(silence.kind(), ErrorKind::WouldBlock, "{silence}");
    });
}

fn a_flood_of_one_way_flows_pushes_no_live_flow_out(transport: Transport) {
    run_heavy(240, async {
        let target = Responder::start(1);
        let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let silent_entry = builder.forward_udp(UdpProxy::None, silent.local_addr().unwrap());
        let tunnel = builder.start().await;
        let live: Vec<_> = (0..LIVE_FLOWS)
            .map(|number| client(&format!("127.0.2.{}", 1 + number % 200), entry))
            .collect();
        for client in &live {
            exchange(client).await;
            exchange(client).await;
        }
        let peers = target.peers.load(Ordering::Relaxed);
        let before = system::resident_bytes(tunnel.edge.pid());
        // The same listener and another, from more addresses and ports than a table has room for.
        for flow in 0..FLOOD_FLOWS {
            let host = format!("127.3.{}.{}", (flow / 200) % 250, 1 + flow % 200);
            let entry = if flow % 2 == 0 { entry } else { silent_entry };
            // The byte says that no answer is wanted.
            let _ = client(&host, entry).send(&[0; 20]);
            if flow % 200 == 0 {
                tokio::task::yield_now().await;
            }
        }
        for client in &live {
            exchange(client).await;
        }
        let after = target.peers.load(Ordering::Relaxed);
        assert_eq!(after - peers, 0, "live flows began anew");
        // Most of it is lost on its way to a busy edge.
        let flooded = target.flooded.load(Ordering::Relaxed);
        assert!(flooded > LEAST_FLOODED, "{flooded} of the flood arrived");
        let grown = system::resident_bytes(tunnel.edge.pid()).saturating_sub(before);
        assert!(grown < MAX_GROWTH, "{grown} bytes");
    });
}

fn one_address_gets_no_more_than_its_share_of_flows(transport: Transport) {
    run(90, async {
        let target = Responder::start(1);
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target.address);
        let limits = json!({"limits": {"maxUdpFlowsPerIp": MAX_FLOWS_PER_ADDRESS}});
        let _tunnel = builder.edge(limits).start().await;
        let greedy: Vec<_> = (0..MAX_FLOWS_PER_ADDRESS + 100)
            .map(|_| client("127.0.4.1", entry))
            .collect();
        for client in &greedy {
            client.send(&[1; 20]).unwrap();
        }
        // Another address isn't concerned.
        exchange(&client("127.0.4.2", entry)).await;
        let peers = target.peers.load(Ordering::Relaxed);
        // Where one-way flows are evicted for new ones the target has seen more than live at once: what counts is
        // how many of them still get answers.
        let mut answered = 0;
        for client in &greedy {
            answered += usize::from(count_for(client, Duration::from_millis(5)).await.0 > 0);
        }
        assert!(
            answered <= MAX_FLOWS_PER_ADDRESS,
            "{answered} flows of one address, {peers} peers"
        );
        assert!(answered > MAX_FLOWS_PER_ADDRESS / 2, "{answered}");
    });
}

fn no_size_is_cut_whatever_header_it_gets(transport: Transport) {
    run_timed(120, async {
        for proxy in [UdpProxy::FirstDatagram, UdpProxy::EveryDatagram] {
            let oracle = UdpOracle::start(proxy);
            let mut builder = TunnelBuilder::new(transport);
            let entry = builder.forward_udp(proxy, oracle.address());
            let _tunnel = builder.start().await;
            let mut plan = UdpPlan::new(seed(), 0, 4, (LARGEST - 200..=LARGEST).collect());
            plan.patience = Duration::from_millis(500);
            // With a header in the same datagram the largest don't fit: dropped whole, never in part.
            let report = oracle.play(entry, &plan).await;
            report.assert_true();
            match proxy {
                UdpProxy::EveryDatagram => assert!(report.answered > 50, "{report:?}"),
                UdpProxy::None | UdpProxy::FirstDatagram => report.assert_whole(),
            }
            let small = UdpPlan::new(seed(), 4, 4, vec![0, HEADER, 1_400, 0, HEADER, 1_400]);
            oracle.play(entry, &small).await.assert_whole();
        }
    });
}

/// A target that answers each datagram whose first byte isn't 0 with some of 1,000 bytes, or as many as the question
/// has where it is to answer once.
struct Responder {
    address: SocketAddr,
    sent: Arc<AtomicU64>,
    peers: Arc<AtomicU64>,
    flooded: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Responder {
    fn start(answers: usize) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let tick = Some(Duration::from_millis(50));
        socket.set_read_timeout(tick).unwrap();
        let address = socket.local_addr().unwrap();
        let counters = [(); 3].map(|()| Arc::new(AtomicU64::new(0)));
        let ends = Arc::new(AtomicBool::new(false));
        let [sent, peers, flooded] = counters.clone();
        let is_over = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            let mut known = std::collections::HashSet::new();
            let mut buffer = [0; 2_048];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((length, peer)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                if buffer[0] == 0 {
                    flooded.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                if known.insert(peer) {
                    peers.fetch_add(1, Ordering::Relaxed);
                }
                let size = if answers == 1 { length } else { 1_000 };
                for _ in 0..answers {
                    let _ = socket.send_to(&vec![2; size], peer);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let [sent, peers, flooded] = counters;
        Self {
            address,
            sent,
            peers,
            flooded,
            ends,
            thread: Some(thread),
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn client(host: &str, entry: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((host, 0)).unwrap();
    socket.connect(entry).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Asks until an answer comes: in a flood a datagram may be lost.
async fn exchange(client: &UdpSocket) {
    until(SOON, "an answer", async || {
        client.send(&[1; 50]).unwrap();
        for _ in 0..50 {
            if client.recv(&mut [0; 2_048]).is_ok() {
                return Some(());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        None
    })
    .await;
}

/// Datagrams and bytes that come within this time.
async fn count_for(client: &UdpSocket, time: Duration) -> (u64, u64) {
    let deadline = std::time::Instant::now() + time;
    let (mut datagrams, mut bytes) = (0, 0);
    let mut buffer = [0; 2_048];
    while std::time::Instant::now() < deadline {
        match client.recv(&mut buffer) {
            Ok(length) => {
                datagrams += 1;
                bytes += length as u64;
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
    (datagrams, bytes)
}

const LIVE_FLOWS: usize = 100;
/// More than the table of a listener holds, for each of two listeners.
const FLOOD_FLOWS: usize = 140_000;
/// At least this many of them make it to the target.
const LEAST_FLOODED: u64 = 1_000;
/// Two full tables of 65,536 flows at 1 KiB, in bytes.
const MAX_GROWTH: u64 = 2 * 65_536 * 1_024;
const MAX_FLOWS_PER_ADDRESS: usize = 256;
