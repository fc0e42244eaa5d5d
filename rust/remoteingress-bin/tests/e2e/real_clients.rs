//! Clients and servers that others wrote, through a hub that dials: `ssh`, `psql` and WireGuard do their work as they do
//! without a tunnel.
//!
//! A missing program skips its tests aloud, unless `REMOTEINGRESS_REQUIRE_PEERS=1` makes it mandatory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command as AsyncCommand;

use crate::harness::namespace::Namespace;
use crate::harness::ports::free_port;
use crate::harness::proxy_header::Proxy;
use crate::harness::system::signal;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::udp_oracle::UdpProxy;
use crate::harness::{SOON, new_directory, run, skip, until, within};

on_both_transports! {
    ssh_runs_a_command_with_its_input_output_and_status,
    psql_asks_a_postgresql_server,
    wireguard_carries_a_connection,
}

fn ssh_runs_a_command_with_its_input_output_and_status(transport: Transport) {
    run(90, async {
        let directory = new_directory("ssh");
        let keys = ["host", "user"].map(|name| directory.join(name));
        if !keys.iter().all(|key| made_key(key)) {
            return skip("ssh-keygen");
        }
        let Some((_server, address)) = sshd(&directory).await else {
            return skip("sshd");
        };
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, address);
        let _tunnel = builder.start().await;
        let mut ssh = AsyncCommand::new("ssh");
        ssh.args(["-F", "none", "-o", "BatchMode=yes", "-i"])
            .arg(directory.join("user"))
            .args(["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=error"])
            .args(["-o", "UserKnownHostsFile=/dev/null", "-p"])
            .arg(entry.port().to_string())
            .args(["root@127.0.0.1", "cat; exit 7"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let Ok(mut client) = ssh.spawn() else {
            return skip("ssh");
        };
        let sent: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_be_bytes).collect();
        let mut stdin = client.stdin.take().unwrap();
        let write = async {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        };
        let both = async { tokio::join!(write, client.wait_with_output()).1 };
        let output = within(SOON, "the end of ssh", both).await.unwrap();
        assert_eq!(output.status.code(), Some(7), "{output:?}");
        assert!(output.stdout == sent, "{} bytes", output.stdout.len());
    });
}

/// Makes a key without a passphrase.
fn made_key(path: &Path) -> bool {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-f"]);
    command
        .arg(path)
        .status()
        .is_ok_and(|status| status.success())
}

/// A server that lets the key `user` in as root.
async fn sshd(directory: &Path) -> Option<(Server, SocketAddr)> {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let (place, port) = (directory.display(), address.port());
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {place}/host\nAuthorizedKeysFile {place}/user.pub\n\
         PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPasswordAuthentication no\n"
    );
    let file = directory.join("sshd_config");
    std::fs::write(&file, config).unwrap();
    // It gives up its rights into here.
    let _ = std::fs::create_dir_all("/run/sshd");
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(&file);
    Some((Server::start(command, address).await?, address))
}

fn psql_asks_a_postgresql_server(transport: Transport) {
    run(120, async {
        let Some((_server, address)) = postgresql().await else {
            return skip("postgresql");
        };
        let mut builder = TunnelBuilder::new(transport).called();
        let entry = builder.forward(Proxy::None, address);
        let _tunnel = builder.start().await;
        let mut psql = AsyncCommand::new("psql");
        psql.args(["-X", "-A", "-t", "-v", "ON_ERROR_STOP=1"])
            .args(["-h", "127.0.0.1", "-p", &entry.port().to_string()])
            .args(["-U", "postgres", "-c"])
            .arg("create table t as select i, repeat('x', 100) as x from generate_series(1, 50000) i")
            .args(["-c", "copy t to stdout", "-c", "select sum(i) from t"])
            .stdin(Stdio::null());
        let output = within(SOON, "the end of psql", psql.output())
            .await
            .unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", output.status);
        let lines: Vec<&str> = lines.lines().collect();
        assert_eq!(lines.len(), 50_002);
        assert_eq!(lines.last(), Some(&"1250025000"));
    });
}

/// A server with a new database, which runs as the user that its package has made.
async fn postgresql() -> Option<(Server, SocketAddr)> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let programs = versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("bin"))
        .find(|path| path.join("initdb").exists())?;
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    // Another user must reach it, which this project's directory may not allow.
    let directory = Removed(std::env::temp_dir().join(format!(
        "remoteingress-{}-{}",
        std::process::id(),
        address.port()
    )));
    let as_its_user = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        command.arg(programs.join(program));
        command.arg("-D").arg(&directory.0);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    let mut initdb = as_its_user("initdb");
    initdb.args(["--no-sync", "-A", "trust"]);
    if !initdb.status().ok()?.success() {
        return None;
    }
    let mut postgres = as_its_user("postgres");
    postgres.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p"]);
    postgres.arg(address.port().to_string());
    postgres.args(["-c", "unix_socket_directories="]);
    let mut server = Server::start(postgres, address).await?;
    server.directory = Some(directory);
    Some((server, address))
}

fn wireguard_carries_a_connection(transport: Transport) {
    run(90, async {
        let networks = [Namespace::new("here"), Namespace::new("there")];
        let [Some(here), Some(there)] = networks else {
            return skip("the right to make network namespaces");
        };
        here.join(&there, 88, 1_500).unwrap();
        let port = free_port();
        let tunnel = {
            let _inside = there.enter();
            let mut builder = TunnelBuilder::new(transport)
                .called()
                .edge(json!({"bindAddress": "10.88.0.2"}));
            let entry =
                builder.forward_udp(UdpProxy::None, SocketAddr::from(([127, 0, 0, 1], port)));
            (builder.start().await, entry.port())
        };
        let directory = new_directory("wireguard");
        let (Some(near), Some(far)) = (
            Peer::start(&here, "wgn", &directory).await,
            Peer::start(&there, "wgf", &directory).await,
        ) else {
            return skip("wireguard-go or wg");
        };
        let endpoint = format!("10.88.0.2:{}", tunnel.1);
        near.set(&format!(
            "peer {} allowed-ips 10.99.0.2/32 endpoint {endpoint}",
            far.key
        ));
        far.set(&format!(
            "listen-port {port} peer {} allowed-ips 10.99.0.1/32",
            near.key
        ));
        for (network, peer, host) in [(&here, &near, 1), (&there, &far, 2)] {
            assert!(network.ip(&format!("address add 10.99.0.{host}/24 dev {}", peer.link)));
            assert!(network.ip(&format!("link set {} up", peer.link)));
        }
        let target = {
            let _inside = there.enter();
            Target::echo_on("10.99.0.2:0").await
        };
        let mut client = {
            let _inside = here.enter();
            let connecting = TcpStream::connect(target.address());
            within(SOON, "a connection inside", connecting)
                .await
                .unwrap()
        };
        echoed(&mut client, 1 << 20).await;
        let edge = tunnel.0.edge.status().await;
        assert!(edge["udp"]["datagramsIn"].as_u64() > Some(700), "{edge}");
    });
}

/// One end of a WireGuard tunnel, in user space, where no kernel module is needed.
struct Peer<'a> {
    link: &'static str,
    key: String,
    network: &'a Namespace,
    _process: Server,
}

impl<'a> Peer<'a> {
    async fn start(network: &'a Namespace, link: &'static str, directory: &Path) -> Option<Self> {
        let file = directory.join(link);
        let secret = wg(&["genkey"], None)?;
        std::fs::write(&file, &secret).ok()?;
        let key = wg(&["pubkey"], Some(&file))?.trim().to_owned();
        let inside = network.enter();
        let mut command = Command::new("wireguard-go");
        command.args(["-f", link]).env("LOG_LEVEL", "error");
        let process = Server::spawn(command)?;
        let words = format!("set {link} private-key {}", file.display());
        let words: Vec<&str> = words.split(' ').collect();
        until(SOON, "WireGuard", async || wg(&words, None)).await;
        drop(inside);
        Some(Self {
            link,
            key,
            network,
            _process: process,
        })
    }

    /// `wg set` with these words.
    fn set(&self, words: &str) {
        let _inside = self.network.enter();
        let mut all = vec!["set", self.link];
        all.extend(words.split(' '));
        assert!(wg(&all, None).is_some(), "{words}");
    }
}

/// What `wg` says if it succeeds.
fn wg(words: &[&str], input: Option<&Path>) -> Option<String> {
    let mut command = Command::new("wg");
    command.args(words).stderr(Stdio::null());
    match input {
        Some(path) => command.stdin(std::fs::File::open(path).ok()?),
        None => command.stdin(Stdio::null()),
    };
    let output = command.output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(said)
}

/// A server of others; it ends when dropped.
struct Server {
    child: Child,
    log: PathBuf,
    /// Removed once the server has ended.
    directory: Option<Removed>,
}

impl Server {
    fn spawn(mut command: Command) -> Option<Self> {
        let log = new_directory("server").join("log");
        let file = std::fs::File::create(&log).ok()?;
        let copy = file.try_clone().ok()?;
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        Some(Self {
            child: command.spawn().ok()?,
            log,
            directory: None,
        })
    }

    /// Starts it and waits until it listens.
    async fn start(command: Command, address: SocketAddr) -> Option<Self> {
        let server = Self::spawn(command)?;
        until(SOON, "a server that listens", async || {
            TcpStream::connect(address).await.ok()
        })
        .await;
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // PostgreSQL takes it for a shutdown that doesn't wait for clients.
        signal(self.child.id(), libc::SIGINT);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("--- {}:\n{log}", self.log.display());
        }
    }
}

/// A directory that is removed when dropped.
struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
