//! Proxies on the way of the tunnel: one that does as a test wants, and real ones.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::ports::free_port;
use super::{SOON, new_directory, skip, until};

/// The doings of a proxy.
#[derive(Clone, Debug)]
pub(crate) enum Doing {
    /// Connects to this address for HTTP CONNECT, whatever it is asked for.
    Connect(SocketAddr),
    /// Answers the first bytes with these, and waits.
    Answer(Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Takes the request and says nothing.
    Silence,
    /// Says one byte of an answer that never ends, again and again.
    Drip,
}

/// A proxy on loopback.
pub(crate) struct TestProxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<JoinSet<()>>>,
    accepts: JoinHandle<()>,
}

impl TestProxy {
    pub(crate) async fn start(doing: Doing) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, connections) = (Arc::default(), Arc::<Mutex<JoinSet<()>>>::default());
        let accepts = {
            let (asked, connections) = (Arc::clone(&asked), connections.clone());
            tokio::spawn(async move {
                loop {
                    let Ok((client, _)) = listener.accept().await else {
                        return;
                    };
                    let served = serve(client, doing.clone(), Arc::clone(&asked));
                    connections.lock().unwrap().spawn(served);
                }
            })
        };
        Self {
            address,
            asked,
            connections,
            accepts,
        }
    }

    /// The bytes of the first request.
    pub(crate) fn asked(&self) -> Vec<u8> {
        self.asked.lock().unwrap().clone()
    }

    /// Drops every connection; new ones are welcome.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}

impl Drop for TestProxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn serve(mut client: TcpStream, doing: Doing, asked: Arc<Mutex<Vec<u8>>>) {
    let mut request = vec![0; 4_096];
    let read = client.read(&mut request).await.unwrap_or(0);
    request.truncate(read);
    {
        let mut asked = asked.lock().unwrap();
        if asked.is_empty() {
            *asked = request;
        }
    }
    match doing {
        Doing::Connect(peer) => {
            let mut peer = TcpStream::connect(peer).await.unwrap();
            // Two segments, as slow proxies do.
            let _ = client.write_all(b"HTTP/1.1 200 Connection ").await;
            tokio::task::yield_now().await;
            let _ = client.write_all(b"established\r\nVia: test\r\n\r\n").await;
            let _ = copy_bidirectional(&mut client, &mut peer).await;
        }
        Doing::Answer(bytes) => {
            let _ = client.write_all(&bytes).await;
            // Until the client goes.
            let _ = client.read(&mut [0; 1]).await;
        }
        Doing::Close => {}
        Doing::Silence => {
            let _ = client.read(&mut [0; 1]).await;
        }
        Doing::Drip => {
            let _ = client.write_all(b"HTTP/1.1 200 ").await;
            while client.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// A proxy that others wrote, with the login `canary-user` and `canary-pass`.
pub(crate) struct RealProxy {
    child: Child,
    pub(crate) address: SocketAddr,
    directory: PathBuf,
}

impl RealProxy {
    /// tinyproxy: HTTP CONNECT.
    pub(crate) async fn tinyproxy() -> Option<Self> {
        let (directory, port) = (new_directory("tinyproxy"), free_port());
        let config = directory.join("tinyproxy.conf");
        let text = format!(
            "Port {port}\nListen 127.0.0.1\nTimeout 600\nAllow 127.0.0.1\nMaxClients 50\nBasicAuth canary-user canary-pass\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("tinyproxy");
        command.args(["-d", "-c"]).arg(&config);
        Self::start(command, port, directory).await
    }

    /// microsocks: SOCKS5.
    pub(crate) async fn microsocks() -> Option<Self> {
        let (directory, port) = (new_directory("microsocks"), free_port());
        let mut command = Command::new("microsocks");
        let port_word = port.to_string();
        command.args(["-i", "127.0.0.1", "-p", &port_word]);
        command.args(["-u", "canary-user", "-P", "canary-pass"]);
        Self::start(command, port, directory).await
    }

    async fn start(mut command: Command, port: u16, directory: PathBuf) -> Option<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let (out, errors) = (log.try_clone().unwrap(), log);
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        let Ok(child) = command.spawn() else {
            skip(&name);
            return None;
        };
        let proxy = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            directory,
        };
        until(SOON, &format!("listening {name}"), async || {
            TcpStream::connect(proxy.address).await.ok()
        })
        .await;
        Some(proxy)
    }

    fn log(&self) -> String {
        let path: &Path = &self.directory.join("log");
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

impl Drop for RealProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the proxy:\n{}", self.log());
        }
    }
}
