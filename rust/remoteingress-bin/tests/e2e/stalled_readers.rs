//! Ten thousand clients that ask for much and read nothing: the memory budget holds, others are served, and the memory comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, run_heavy, skip, system, until};

on_both_transports! {
    ten_thousand_stalled_readers_stay_within_the_budget,
}

fn ten_thousand_stalled_readers_stay_within_the_budget(transport: Transport) {
    run_heavy(180, async {
        if system::raise_descriptors() < READERS + SPARE_DESCRIPTORS {
            skip("a hard limit of 11,000 descriptors");
            return;
        }
        let source = source().await;
        let echo = Target::echo().await;
        let budget = json!({"memoryBudgetMiB": BUDGET_MIB});
        let mut builder = TunnelBuilder::new(transport)
            .edge(budget.clone())
            .edge(json!({"limits": {"maxConnections": 0, "maxConnectionsPerListener": 0}}))
            .hub(budget)
            .hub(json!({"limits": {"maxStreamsPerEdge": 0, "maxStreams": 0, "maxPendingDialsPerEdge": 0}}));
        let entry = builder.forward(Proxy::None, source.address());
        let served = builder.forward(Proxy::None, echo.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let processes = [&tunnel.edge, &tunnel.hub].map(|process| process.pid());
        let before = processes.map(system::resident_bytes);

        let mut client = TcpStream::connect(served).await.unwrap();
        echoed(&mut client, 100_000).await;

        let readers = stalled_readers(entry).await;
        wait_until_stalled(&tunnel).await;
        echoed(&mut client, 100_000).await;
        let status = tunnel.edge.status().await;
        assert!(
            status["activeStreams"].as_u64() > Some(LEAST_STALLED),
            "{status}"
        );
        let most = processes.map(system::most_resident_bytes);
        assert!(
            most.iter().all(|most| *most <= BOUND),
            "{most:?}, and not {BOUND} at most"
        );
        let has_stalled = |most: &u64| *most >= BUDGET_MIB / 2 * MIB;
        assert!(
            most.iter().any(has_stalled),
            "{most:?}: nothing has stalled"
        );

        drop((readers, client));
        tunnel.wait_idle(Duration::from_secs(60)).await;
        for (pid, before) in processes.into_iter().zip(before) {
            until(SOON, "return of the memory", async || {
                (system::resident_bytes(pid) <= before + NOT_RETURNED).then_some(())
            })
            .await;
        }
        assert_eq!(tunnel.edge.status().await["reconnects"], 0);
    });
}

/// A target that says [`ANSWER`] bytes to whoever comes and is done: the kernel has the rest, and we no descriptor.
async fn source() -> Target {
    Target::start(Proxy::None, |mut stream, _| async move {
        // A stream that has been refused meanwhile is reset.
        let _ = stream.write_all(&[7; ANSWER]).await;
    })
    .await
}

/// Clients whose sockets hold almost nothing, so that what they don't read waits in the tunnel.
async fn stalled_readers(entry: SocketAddr) -> Vec<TcpStream> {
    let mut connecting = JoinSet::new();
    for part in 1..=PARTS {
        connecting.spawn(async move {
            let mut readers = Vec::new();
            for _ in 0..READERS / u64::from(PARTS) {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket.set_recv_buffer_size(4_096).unwrap();
                // With small segments the edge's kernel takes little, too.
                socket.set_tcp_mss(536).unwrap();
                let own = SocketAddr::from((Ipv4Addr::new(127, 0, 3, part), 0));
                socket.bind(&own.into()).unwrap();
                let socket = TcpSocket::from_std_stream(socket.into());
                // One for which there is no memory is reset, maybe before its connect returns.
                readers.extend(socket.connect(entry).await);
            }
            readers
        });
    }
    connecting.join_all().await.into_iter().flatten().collect()
}

/// Waits until nothing moves any more.
async fn wait_until_stalled(tunnel: &Tunnel) {
    let mut last = Value::Null;
    until(Duration::from_secs(60), "stall", async || {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let moved = tunnel.edge.status().await["bytesOut"].take();
        (std::mem::replace(&mut last, moved.clone()) == moved).then_some(())
    })
    .await;
}

const READERS: u64 = 10_000;
/// Addresses that they come from.
const PARTS: u8 = 10;
/// Descriptors that the test has open besides.
const SPARE_DESCRIPTORS: u64 = 1_000;
/// To each. All together it is several times what client sockets and budgets take.
const ANSWER: usize = 40 * 1_024;
/// Of each process. The readers want several times as much, so those that come last are refused.
const BUDGET_MIB: u64 = 64;
/// At least this many are let in: one full frame of each, queued at the hub, just about fits (D9).
const LEAST_STALLED: u64 = 2_000;
const MIB: u64 = 1_024 * 1_024;
/// The sum that docs/operations.md promises, for two sessions and two workers: budget, buffers of sessions, datagrams, those of
/// workers, the process; and 3 KiB for each stream.
const BOUND: u64 = (BUDGET_MIB + 3 + 10 + 8 + 10) * MIB + READERS * 3 * 1_024;
/// Of what it took, a process may keep this for the next load: most of it is QUIC's tables, which have had an entry for
/// each of the streams and don't shrink while the connection lives.
const NOT_RETURNED: u64 = 32 * MIB;
