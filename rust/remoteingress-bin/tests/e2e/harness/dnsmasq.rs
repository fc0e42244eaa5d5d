//! A name server that others wrote, whose answers a test changes.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use super::ports::free_port;
use super::{SOON, new_directory, skip, system, until};

/// A dnsmasq that knows only names below `test`, each for a second.
pub(crate) struct Dnsmasq {
    port: u16,
    hosts: PathBuf,
    process: Option<Child>,
    failing: Failing,
}

impl Dnsmasq {
    /// With these further arguments; none if it isn't installed.
    pub(crate) async fn start(arguments: &[String]) -> Option<Self> {
        let hosts = new_directory("dnsmasq").join("hosts");
        std::fs::write(&hosts, "").unwrap();
        let mut started = Self {
            port: free_port(),
            hosts,
            process: None,
            failing: Failing::start().await,
        };
        started
            .run(&["--local=/test/".to_owned()], arguments)
            .await?;
        Some(started)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    async fn run(&mut self, mode: &[String], arguments: &[String]) -> Option<()> {
        self.kill();
        let mut command = Command::new("dnsmasq");
        command.args([
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file",
            "--no-resolv",
            "--no-hosts",
            "--no-poll",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            "--local-ttl=1",
            "--cache-size=0",
            // As root it would become somebody who can't read the test's files.
            "--user=",
            "--group=",
        ]);
        command.arg(format!("--port={}", self.port));
        command.arg(format!("--addn-hosts={}", self.hosts.display()));
        command.args(mode).args(arguments).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        match command.spawn() {
            Ok(child) => self.process = Some(child),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip("dnsmasq");
                return None;
            }
            Err(error) => panic!("dnsmasq: {error}"),
        }
        let address = self.address();
        until(SOON, "a listening dnsmasq", async || {
            tokio::net::TcpStream::connect(address).await.ok()
        })
        .await;
        Some(())
    }

    /// `web.test` has these addresses from now on.
    pub(crate) fn set_hosts(&self, addresses: &[Ipv4Addr]) {
        self.write_hosts(addresses);
        system::signal(self.process.as_ref().unwrap().id(), libc::SIGHUP);
    }

    fn write_hosts(&self, addresses: &[Ipv4Addr]) {
        let lines = addresses
            .iter()
            .map(|address| format!("{address} web.test\n"));
        std::fs::write(&self.hosts, lines.collect::<String>()).unwrap();
    }

    /// Every question is answered by SERVFAIL from now on.
    pub(crate) async fn fail(&mut self) {
        self.write_hosts(&[]);
        let mode = format!(
            "--server=/test/{}",
            self.failing.address.to_string().replace(':', "#")
        );
        self.run(&[mode], &[]).await;
    }

    /// Nobody answers from now on.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// It knows these again, and of other names that there are none.
    pub(crate) async fn restart(&mut self, addresses: &[Ipv4Addr], arguments: &[String]) {
        self.write_hosts(addresses);
        self.run(&["--local=/test/".to_owned()], arguments).await;
    }
}

impl Drop for Dnsmasq {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A name server for which every question fails: dnsmasq passes on what it says.
struct Failing {
    address: SocketAddr,
    answering: JoinHandle<()>,
}

impl Failing {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        Self {
            address: socket.local_addr().unwrap(),
            answering: tokio::spawn(async move {
                let mut message = [0; 1_500];
                loop {
                    // An error tells that whoever asked has gone.
                    let Ok((length, from)) = socket.recv_from(&mut message).await else {
                        continue;
                    };
                    // The question again, as an answer (QR) with SERVFAIL (RFC 1035, 4.1.1).
                    message[2] |= 0x80;
                    message[3] = message[3] & 0xf0 | 2;
                    let _ = socket.send_to(&message[..length], from).await;
                }
            }),
        }
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        self.answering.abort();
    }
}
