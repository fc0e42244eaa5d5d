//! An edge with fewer descriptors than its ports could take: what it promises to clients stays theirs.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::JoinSet;

use crate::harness::namespace::Namespace;
use crate::harness::process::Process;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::EDGE_ID;
use crate::harness::{SOON, new_secret, run, run_heavy, skip, system, within};

on_both_transports! {
    listeners_leave_the_descriptors_of_clients,
    as_many_ports_as_there_are_descriptors_for_take_one_each,
}

/// The limit of 1,024 descriptors promises 408 of them to clients.
const FEW: u64 = 1_024;

fn listeners_leave_the_descriptors_of_clients(transport: Transport) {
    run(90, async {
        let Some(network) = Namespace::new("few") else {
            skip("the right to make network namespaces");
            return;
        };
        let _inside = network.enter();
        let echo = Target::echo().await;
        let hub = Process::management("hub").await;
        let edge = Process::management_with_descriptors("edge", FEW).await;
        let secret = new_secret();
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0,
            "listenPorts": [
                {"port": "20000-20499", "targetPort": 9_000},
                {"port": 443, "targetHost": "127.0.0.1", "targetPort": echo.address().port(), "proxyProtocol": "none"},
                {"port": "300-301", "targetPort": 9_000},
            ],
        });
        let config = json!({"tunnelPort": 8_443, "bindAddress": "127.0.0.1", "workers": 2});
        hub.call("startHub", config).await;
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": 8_443, "edgeId": EDGE_ID, "secret": secret, "workers": 2,
            "stunServers": [], "transportMode": transport.word(),
        });
        edge.call("startEdge", config).await;
        edge.wait_event("tunnelConnected", SOON, |_| true).await;
        let applied = hub.wait_event("portsApplied", SOON, |_| true).await;

        let mut clients = JoinSet::new();
        for number in 0..380_u16 {
            clients.spawn(async move {
                // From addresses of their own: one alone would get half of what there is.
                let [high, low] = number.to_be_bytes();
                let socket = TcpSocket::new_v4()?;
                socket.bind(([127, 1, high, low], 0).into())?;
                let entry = SocketAddr::from(([127, 0, 0, 1], 443));
                let mut client = socket.connect(entry).await?;
                client.write_all(b"x").await?;
                client.read_u8().await.map(|_| client)
            });
        }
        let served = within(SOON, "answers", clients.join_all()).await;
        let served = served.iter().filter(|client| client.is_ok()).count();
        assert_eq!(served, 380);

        for status in [edge.status().await, applied] {
            let ports = status["ports"].as_array().unwrap();
            assert_eq!(ports.len(), 503);
            let is_bound = |port: &Value| port["state"] == "bound";
            let small = |port: &Value| port["port"].as_u64() < Some(20_000);
            assert!(ports.iter().filter(|port| small(port)).all(is_bound));
            let bound = ports.iter().filter(|port| is_bound(port)).count();
            assert!((350..450).contains(&bound), "{bound} ports are bound");
            for port in ports.iter().filter(|port| !is_bound(port)) {
                assert_eq!(port["error"]["code"], "E_DESCRIPTOR_LIMIT");
                let message = port["error"]["message"].as_str().unwrap();
                assert!(message.contains("LimitNOFILE"), "{message}");
            }
        }
        for process in [&hub, &edge] {
            let log = String::from_utf8(process.log()).unwrap();
            let lines = log
                .lines()
                .filter(|line| line.contains("failed to open a port"));
            assert_eq!(lines.count(), 1, "{log}");
            assert!(log.lines().count() < 60, "{log}");
        }
    });
}

/// What the edge may have beside clients and listeners.
const SPARE: u64 = 1_024;
const CLIENTS: u64 = 200;
const FIRST: u64 = 1_000;
/// Below the ports that the kernel gives to the tunnel.
const LAST: u64 = 32_000;

fn as_many_ports_as_there_are_descriptors_for_take_one_each(transport: Transport) {
    run_heavy(120, async {
        let Some(network) = Namespace::new("many") else {
            skip("the right to make network namespaces");
            return;
        };
        let _inside = network.enter();
        let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let hub = Process::management("hub").await;
        let edge = Process::management("edge").await;
        let per_protocol = (system::raise_descriptors() - SPARE - CLIENTS) / 2;
        let last = LAST.min(FIRST + per_protocol - 1);
        let total = usize::try_from(2 * (last - FIRST + 1)).unwrap();
        // The last port of a range goes to the target.
        let range = format!("{FIRST}-{}", last - 20);
        let last_range = format!("{}-{last}", last - 19);
        let first_target = |address: std::io::Result<SocketAddr>| address.unwrap().port() - 19;
        let secret = new_secret();
        let entry = json!({
            "id": EDGE_ID, "secret": secret, "stunIntervalSecs": 0,
            "listenPorts": [
                {"port": range, "targetPort": 9},
                {"port": last_range, "targetHost": "127.0.0.1", "targetPort": first_target(target.local_addr())},
            ],
            "listenPortsUdp": [
                {"port": range, "targetPort": 9},
                {
                    "port": last_range, "targetHost": "127.0.0.1", "targetPort": first_target(echo.local_addr()),
                    "proxyProtocol": "none",
                },
            ],
        });
        let config = json!({"tunnelPort": 443, "bindAddress": "127.0.0.1", "workers": 2});
        hub.call("startHub", config).await;
        hub.call("updateAllowedEdges", json!({"edges": [entry]}))
            .await;
        let config = json!({
            "hubHost": "127.0.0.1", "hubPort": 443, "edgeId": EDGE_ID, "secret": secret, "workers": 2,
            "stunServers": [], "transportMode": transport.word(), "limits": {"maxConnections": CLIENTS},
        });
        edge.call("startEdge", config).await;
        let applied = hub.wait_event("portsApplied", SOON, |_| true).await;
        for status in [applied, edge.status().await] {
            let ports = status["ports"].as_array().unwrap();
            let bound = ports.iter().filter(|port| port["state"] == "bound");
            assert_eq!((bound.count(), ports.len()), (total, total));
        }
        if let Some(descriptors) = system::descriptors(edge.pid()) {
            assert!(descriptors < total + 200, "{descriptors} for {total} ports");
        }

        // Clients of either family are told to the target by their own addresses.
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().unwrap();
            let entry = SocketAddr::new(ip, u16::try_from(last).unwrap());
            let client = within(SOON, "connect", TcpStream::connect(entry)).await;
            let client = client.unwrap();
            let (mut served, _) = within(SOON, "stream", target.accept()).await.unwrap();
            let from = client.local_addr().unwrap();
            let family = if ip.is_ipv4() { "TCP4" } else { "TCP6" };
            let expected = format!("PROXY {family} {ip} {ip} {} {last}\r\n", from.port());
            let mut header = vec![0; expected.len()];
            let read = served.read_exact(&mut header);
            within(SOON, "header", read).await.unwrap();
            assert_eq!(String::from_utf8_lossy(&header), expected);

            let client = UdpSocket::bind((ip, 0)).await.unwrap();
            client.connect(entry).await.unwrap();
            client.send(b"ping").await.unwrap();
            let mut datagram = [0; 16];
            let received = within(SOON, "datagram", echo.recv_from(&mut datagram)).await;
            let (length, from) = received.unwrap();
            echo.send_to(&datagram[..length], from).await.unwrap();
            let answer = within(SOON, "answer", client.recv(&mut datagram)).await;
            assert_eq!(&datagram[..answer.unwrap()], b"ping");
        }
    });
}
