//! Programs of others, over UDP: a DNS server that reads PROXY v2, QUIC, and iperf3.
//!
//! A missing program skips its tests aloud, unless `REMOTEINGRESS_REQUIRE_PEERS=1` makes it mandatory.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::harness::ports::free_port;
use crate::harness::proxy_header::Proxy;
use crate::harness::quic_peer::{self, QuicClient};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::udp_oracle::UdpProxy;
use crate::harness::{SOON, new_directory, run, run_heavy, seed, skip, until, within};

on_both_transports! {
    dnsdist_answers_and_logs_the_true_client_over_udp_and_tcp,
    a_quic_transfer_of_100_mebibytes_arrives_whole_through_a_udp_port,
    iperf3_loses_nothing_at_a_moderate_rate,
}

fn dnsdist_answers_and_logs_the_true_client_over_udp_and_tcp(transport: Transport) {
    run(90, async move {
        let Some(dns) = Dnsdist::start().await else {
            return;
        };
        let port = free_port();
        let mut builder = TunnelBuilder::new(transport);
        let target = dns.address.port();
        builder
            .listen(json!({"port": port, "targetPort": target, "proxyProtocol": Proxy::V2.word()}));
        builder.listen_udp(json!({
            "port": port, "targetPort": target, "proxyProtocol": UdpProxy::EveryDatagram.word(),
        }));
        let _tunnel = builder.start().await;
        for (way, host) in [("+notcp", "127.0.0.31"), ("+tcp", "127.0.0.32")] {
            let source = format!("{host}#{}", free_port());
            let mut dig = Command::new("dig");
            dig.args(["+short", "+tries=1", "+time=5", way, "-b", &source])
                .args(["@127.0.0.1", "-p", &port.to_string(), "some.example", "A"]);
            let Some(answer) = output(dig).await else {
                return;
            };
            assert_eq!(answer.trim(), DNS_ANSWER, "{way}");
            let line = format!("Packet from {} for some.example", source.replace('#', ":"));
            until(SOON, &format!("{line:?} in the log"), async || {
                let log = std::fs::read_to_string(&dns.log).unwrap_or_default();
                log.contains(&line).then_some(())
            })
            .await;
        }
    });
}

fn a_quic_transfer_of_100_mebibytes_arrives_whole_through_a_udp_port(transport: Transport) {
    run_heavy(180, async move {
        let (server, _) = quic_peer::server(PROTOCOL);
        let target = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            let (mut answer, mut upload) = connection.accept_bi().await.unwrap();
            let mut hash = Sha256::new();
            let mut buffer = vec![0; 64 * 1_024];
            while let Some(read) = upload.read(&mut buffer).await.unwrap() {
                hash.update(&buffer[..read]);
                answer.write_all(&buffer[..read]).await.unwrap();
            }
            answer.finish().unwrap();
            connection.closed().await;
            <[u8; 32]>::from(hash.finalize())
        });
        let mut builder = TunnelBuilder::new(transport);
        let entry = builder.forward_udp(UdpProxy::None, target);
        let _tunnel = builder.start().await;
        let client = QuicClient::new(&[PROTOCOL]);
        let connection = within(SOON, "a handshake", client.connect(entry))
            .await
            .unwrap();
        let (mut upload, mut echo) = connection.open_bi().await.unwrap();
        let sending = async {
            let mut rng = ChaCha8Rng::seed_from_u64(seed());
            let (mut hash, mut part) = (Sha256::new(), vec![0; 64 * 1_024]);
            for _ in 0..TRANSFER / part.len() {
                rng.fill_bytes(&mut part);
                hash.update(&part);
                upload.write_all(&part).await.unwrap();
            }
            upload.finish().unwrap();
            <[u8; 32]>::from(hash.finalize())
        };
        let receiving = async {
            let (mut hash, mut part, mut count) = (Sha256::new(), vec![0; 64 * 1_024], 0);
            while let Some(read) = echo.read(&mut part).await.unwrap() {
                hash.update(&part[..read]);
                count += read;
            }
            (count, <[u8; 32]>::from(hash.finalize()))
        };
        let (sent, (count, received)) = tokio::join!(sending, receiving);
        assert_eq!((count, received), (TRANSFER, sent));
        connection.close(0_u32.into(), b"");
        assert_eq!(serving.await.unwrap(), sent);
    });
}

fn iperf3_loses_nothing_at_a_moderate_rate(transport: Transport) {
    run_heavy(120, async move {
        let (server_port, port) = (free_port(), free_port());
        let directory = new_directory("iperf3");
        let mut command = Command::new("iperf3");
        command
            .args(["-s", "-B", "127.0.0.1", "-p", &server_port.to_string()])
            .stdout(Stdio::null());
        let address = SocketAddr::from(([127, 0, 0, 1], server_port));
        let Some(_server) = Server::start(command, address, directory).await else {
            return;
        };
        let mut builder = TunnelBuilder::new(transport);
        builder.listen(json!({"port": port, "targetPort": server_port, "proxyProtocol": "none"}));
        builder
            .listen_udp(json!({"port": port, "targetPort": server_port, "proxyProtocol": "none"}));
        let _tunnel = builder.start().await;
        for direction in [None, Some("--reverse")] {
            // Where the machine stalls for 100 ms the loss is in iperf3's own socket: then once more.
            let mut lost = Vec::new();
            while lost.last().is_none_or(|lost| *lost >= DATAGRAMS / 100) && lost.len() < 3 {
                lost.push(lost_by_iperf3(port, direction).await);
            }
            assert!(lost.last() < Some(&(DATAGRAMS / 100)), "{lost:?} lost");
        }
    });
}

/// Runs an iperf3 client at 20 Mbit/s; gives how many of its [`DATAGRAMS`] didn't arrive.
async fn lost_by_iperf3(port: u16, direction: Option<&str>) -> u64 {
    let mut client = Command::new("iperf3");
    client
        .args(["-c", "127.0.0.1", "-p", &port.to_string(), "-J", "-u"])
        .args(["-b", "20M", "-l", "1200", "-k", &DATAGRAMS.to_string()])
        .args(direction);
    let report = output(client).await.unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let sum = &report["end"]["sum"];
    // Datagrams that were on their way at the end aren't in it.
    assert!(
        sum["packets"].as_u64() > Some(DATAGRAMS * 9 / 10),
        "{report}"
    );
    sum["lost_packets"].as_u64().unwrap()
}

/// The program's output, run off this thread; `None` where it is missing.
async fn output(mut command: Command) -> Option<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.output());
    let limit = Duration::from_secs(40);
    let Ok(output) = within(limit, &name, running).await.unwrap() else {
        skip(&name);
        return None;
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {text}{errors}");
    Some(text)
}

/// A DNS server that takes PROXY v2 only, answers by itself and logs who asked.
struct Dnsdist {
    address: SocketAddr,
    log: PathBuf,
    _server: Server,
}

impl Dnsdist {
    async fn start() -> Option<Self> {
        let directory = new_directory("dnsdist");
        let (config, log) = (directory.join("dnsdist.conf"), directory.join("log"));
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let text = format!(
            "setLocal('{address}')\nsetACL({{'0.0.0.0/0', '::/0'}})\n\
             setProxyProtocolACL({{'127.0.0.0/8'}})\nsetSecurityPollSuffix('')\n\
             addAction(AllRule(), LogAction('{}', false, true, false, false))\n\
             addAction(AllRule(), SpoofAction('{DNS_ANSWER}'))\n",
            log.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("dnsdist");
        command
            .args(["--supervised", "--disable-syslog", "-C"])
            .arg(&config)
            .stdout(std::fs::File::create(directory.join("stdout")).unwrap());
        Some(Self {
            address,
            log,
            _server: Server::start(command, address, directory).await?,
        })
    }
}

/// A running server; killed when dropped.
struct Server {
    child: Child,
    directory: PathBuf,
}

impl Server {
    /// Waits until it takes TCP connections, as all of them here do besides UDP.
    async fn start(mut command: Command, address: SocketAddr, directory: PathBuf) -> Option<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = std::fs::File::create(directory.join("stderr")).unwrap();
        command.stdin(Stdio::null()).stderr(errors);
        let Ok(child) = command.spawn() else {
            skip(&name);
            return None;
        };
        let server = Self { child, directory };
        until(SOON, &format!("listening {name}"), async || {
            TcpStream::connect(address).await.ok()
        })
        .await;
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let errors = std::fs::read_to_string(self.directory.join("stderr")).unwrap_or_default();
            eprintln!("--- {}:\n{errors}", self.directory.display());
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const PROTOCOL: &[u8] = b"transfer";
/// Bytes each way.
const TRANSFER: usize = 100 * 1_024 * 1_024;
/// For every name; an address of RFC 5737.
const DNS_ANSWER: &str = "192.0.2.7";
/// Of iperf3 each way, at 20 Mbit/s: 2 s.
const DATAGRAMS: u64 = 4_000;
