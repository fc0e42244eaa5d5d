//! A hub behind a carrier's NAT: it can dial out and nothing reaches it, its address and ports change under way, and
//! silent UDP mappings go after 30 s. The NAT is the kernel's own.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::ManualTarget;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, run_timed, skip, within};

on_both_transports! {
    nobody_reaches_the_hub_and_its_clients_are_served,
    a_stream_goes_on_when_the_nat_has_forgotten_it,
    a_client_that_comes_after_a_long_silence_is_served_at_once,
}

fn nobody_reaches_the_hub_and_its_clients_are_served(transport: Transport) {
    run(60, async {
        let Some(mut place) = Place::start(transport).await else {
            return;
        };
        {
            let _inside = place.edge_network.enter();
            let port = place.hub_port;
            let refused = TcpStream::connect((HUB, port));
            let reached = tokio::time::timeout(Duration::from_secs(1), refused).await;
            assert!(!matches!(reached, Ok(Ok(_))), "the hub can be reached");
        }
        place.exchange().await;
        let connected = place.hub.wait_event("edgeConnected", SOON, |_| true).await;
        assert_eq!(connected["transport"], transport.word(), "{connected}");
    });
}

fn a_stream_goes_on_when_the_nat_has_forgotten_it(transport: Transport) {
    run(60, async {
        let Some(mut place) = Place::start(transport).await else {
            return;
        };
        let (mut client, mut server) = place.connect().await;
        for byte in 1..=3 {
            place.forget();
            // The hub's next word comes from another port, or is dropped as part of no connection.
            server.write_all(&[byte]).await.unwrap();
            client.write_all(&[byte]).await.unwrap();
            let read = within(SOON, "the target's byte", client.read_u8()).await;
            assert_eq!(read.unwrap(), byte);
            let read = within(SOON, "the client's byte", server.read_u8()).await;
            assert_eq!(read.unwrap(), byte);
        }
        place.exchange().await;
    });
}

fn a_client_that_comes_after_a_long_silence_is_served_at_once(transport: Transport) {
    run_timed(180, async {
        let Some(mut place) = Place::start(transport).await else {
            return;
        };
        place.exchange().await;
        // Time must pass here: sessions sleep after 60 s without use, and the NAT forgets what is silent for 30 s.
        tokio::time::sleep(Duration::from_secs(100)).await;
        let (mut client, mut server) =
            within(Duration::from_secs(2), "a stream", place.connect()).await;
        server.write_all(&[1]).await.unwrap();
        let read = within(Duration::from_secs(2), "a byte", client.read_u8()).await;
        assert_eq!(read.unwrap(), 1);
        let status = place.edge.status().await;
        assert_eq!(status["reconnects"], 0, "{status}");
    });
}

const HUB: &str = "10.86.0.1";
const EDGE: &str = "10.87.0.2";

/// hub 10.86.0.1 - 10.86.0.2 NAT 10.87.0.1 - 10.87.0.2 edge, where the clients are, too
struct Place {
    hub: Process,
    hub_port: u16,
    edge: Process,
    edge_network: Namespace,
    nat: Namespace,
    _hub_network: Namespace,
    target: ManualTarget,
    port: u16,
}

impl Place {
    async fn start(transport: Transport) -> Option<Self> {
        let Some([hub_network, nat, edge_network]) = Self::network() else {
            skip("the right to make network namespaces, or nft or conntrack");
            return None;
        };
        let edge = {
            let _inside = edge_network.enter();
            Process::management("edge").await
        };
        let (secret, port, tunnel_port) = (new_secret(), free_port(), free_port());
        let config = json!({
            "listenTunnel": {"port": tunnel_port, "bindAddress": EDGE}, "edgeId": EDGE_ID, "secret": secret,
            "bindAddress": "127.0.0.1", "workers": 2, "stunServers": [],
        });
        edge.call("startEdge", config).await;
        let (target, hub) = {
            let _inside = hub_network.enter();
            let target = ManualTarget::start(Proxy::None).await;
            (target, Process::management("hub").await)
        };
        let started = hub
            .call("startHub", json!({"tunnelPort": 0, "workers": 2}))
            .await;
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0,
            "dial": {"host": EDGE, "port": tunnel_port, "transportMode": transport.word()},
            "listenPorts": [{
                "port": port, "targetHost": "127.0.0.1", "targetPort": target.address().port(),
                "proxyProtocol": "none",
            }],
        });
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        hub.wait_event("portsApplied", SOON, |_| true).await;
        Some(Self {
            hub,
            hub_port: u16::try_from(started["tunnelPort"].as_u64()?).ok()?,
            edge,
            edge_network,
            nat,
            _hub_network: hub_network,
            target,
            port,
        })
    }

    fn network() -> Option<[Namespace; 3]> {
        let hub = Namespace::new("hub")?;
        let nat = Namespace::new("nat")?;
        let edge = Namespace::new("edge")?;
        hub.join(&nat, 86, 1_500)?;
        nat.join(&edge, 87, 1_500)?;
        let has_route = hub.ip("route add default via 10.86.0.2");
        let inside = nat.enter();
        let is_set = |name: &str, value: &str| {
            std::fs::write(format!("/proc/sys/net/{name}"), value).is_ok()
        };
        let is_nat = has_route
            && ruled()
            && is_set("ipv4/ip_forward", "1")
            && is_set("netfilter/nf_conntrack_tcp_loose", "0")
            && is_set("netfilter/nf_conntrack_udp_timeout", "30")
            && is_set("netfilter/nf_conntrack_udp_timeout_stream", "30");
        drop(inside);
        is_nat.then_some([hub, nat, edge])
    }

    /// The NAT loses all its mappings, as at a restart or a change of its address.
    fn forget(&self) {
        let _inside = self.nat.enter();
        let mut command = Command::new("conntrack");
        command.arg("-F").stderr(Stdio::null());
        assert!(command.status().unwrap().success());
    }

    async fn connect(&mut self) -> (TcpStream, TcpStream) {
        let client = {
            let _inside = self.edge_network.enter();
            TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
        };
        (client, self.target.accept().await)
    }

    /// A new client gets an answer.
    async fn exchange(&mut self) {
        let (mut client, mut server) = self.connect().await;
        client.write_all(&[7]).await.unwrap();
        let read = within(SOON, "the client's byte", server.read_u8()).await;
        assert_eq!(read.unwrap(), 7);
    }
}

/// Gives the namespace that this thread is in the rules of a NAT with ports by chance, which drops what it doesn't know.
fn ruled() -> bool {
    let rules = "table ip nat {
        chain forward {
            type filter hook forward priority 0; policy drop;
            ct state established,related accept
            ct state new iifname \"v86b\" accept
        }
        chain out {
            type nat hook postrouting priority 100;
            oifname \"v87a\" masquerade random
        }
    }\n";
    let mut nft = Command::new("nft");
    nft.args(["-f", "-"]).stdin(Stdio::piped());
    let Ok(mut nft) = nft.spawn() else {
        return false;
    };
    let is_written = nft
        .stdin
        .take()
        .is_some_and(|mut stdin| stdin.write_all(rules.as_bytes()).is_ok());
    is_written && nft.wait().is_ok_and(|status| status.success())
}
