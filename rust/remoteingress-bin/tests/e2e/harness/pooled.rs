//! Targets of a pool, each of which says its name and counts its clients, others that refuse or are silent, and the
//! clients that ask for them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::ports::free_port;
use super::process::Process;
use super::transport::Transport;
use super::tunnel::TunnelBuilder;
use super::{SOON, until, within};

/// How late a machine is with what is due, while this lives: limits that hold on an idle one are that much longer.
pub(crate) struct Lateness {
    most_micros: Arc<AtomicU64>,
    watching: JoinHandle<()>,
}

impl Lateness {
    pub(crate) fn watch() -> Self {
        let most_micros = Arc::<AtomicU64>::default();
        let most = most_micros.clone();
        let watching = tokio::spawn(async move {
            loop {
                let due = Instant::now() + LATENESS_PERIOD;
                tokio::time::sleep_until(due).await;
                let late = u64::try_from(due.elapsed().as_micros()).unwrap();
                most.fetch_max(late, Ordering::Relaxed);
            }
        });
        Self {
            most_micros,
            watching,
        }
    }

    /// `limit`, and what edge, hub, target and client may have been late in a row.
    pub(crate) fn on_top_of(&self, limit: Duration) -> Duration {
        limit + 4 * Duration::from_micros(self.most_micros.load(Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

const LATENESS_PERIOD: Duration = Duration::from_millis(5);

/// The pool of every test here.
pub(crate) const POOL: &str = "web";

/// A target that sends its name to each client, and then all that it gets. It ends when dropped, its connections with it.
pub(crate) struct Named {
    name: char,
    address: SocketAddr,
    counts: Arc<Counts>,
    serving: JoinHandle<()>,
}

/// Clients of a target.
#[derive(Default)]
struct Counts {
    accepted: AtomicUsize,
    live: AtomicUsize,
    most: AtomicUsize,
}

impl Named {
    /// On a port that is free over TCP and UDP, and that nobody else gets once it is killed.
    pub(crate) async fn start(name: char) -> Self {
        Self::start_on(name, SocketAddr::from(([127, 0, 0, 1], free_port()))).await
    }

    pub(crate) async fn start_on(name: char, address: SocketAddr) -> Self {
        Self::serve(name, TcpListener::bind(address).await.unwrap())
    }

    fn serve(name: char, listener: TcpListener) -> Self {
        let counts = Arc::<Counts>::default();
        Self {
            name,
            address: listener.local_addr().unwrap(),
            counts: counts.clone(),
            serving: tokio::spawn(async move {
                let mut clients = JoinSet::new();
                loop {
                    let (client, _) = listener.accept().await.unwrap();
                    counts.begin();
                    let counts = counts.clone();
                    clients.spawn(async move {
                        // Its client may be gone.
                        let _ = echo(name, client).await;
                        counts.live.fetch_sub(1, Ordering::Relaxed);
                    });
                }
            }),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// As a target of a pool, with its name as its id and these fields besides.
    pub(crate) fn target(&self, fields: Value) -> Value {
        target(self.name, self.address, fields)
    }

    /// Connections that it got so far.
    pub(crate) fn accepted(&self) -> usize {
        self.counts.accepted.load(Ordering::Relaxed)
    }

    /// Connections that it has.
    pub(crate) fn live(&self) -> usize {
        self.counts.live.load(Ordering::Relaxed)
    }

    /// Connections that it had at once.
    pub(crate) fn most(&self) -> usize {
        self.counts.most.load(Ordering::Relaxed)
    }

    /// Ends it, and gives its address, at which connections are refused from then on.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.serving.abort();
        // It is gone once its task is.
        let _ = (&mut self.serving).await;
        self.address
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Counts {
    fn begin(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let live = self.live.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(live, Ordering::Relaxed);
    }
}

async fn echo(name: char, mut client: TcpStream) -> io::Result<()> {
    client.write_u8(u8::try_from(name).unwrap()).await?;
    let (mut reader, mut writer) = client.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    writer.shutdown().await
}

/// A port that nobody listens at, and that nobody else gets.
pub(crate) struct Refusing {
    name: char,
    socket: TcpSocket,
}

impl Refusing {
    pub(crate) fn new(name: char) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        Self { name, socket }
    }

    pub(crate) fn target(&self, fields: Value) -> Value {
        target(self.name, self.socket.local_addr().unwrap(), fields)
    }

    /// It serves from now on.
    pub(crate) fn listen(self) -> Named {
        Named::serve(self.name, self.socket.listen(1_024).unwrap())
    }
}

/// A target whose kernel has no room for another connection: it drops whatever tries, as a black hole does.
pub(crate) struct Silent {
    name: char,
    address: SocketAddr,
    _listener: TcpListener,
    _waiting: Vec<TcpStream>,
}

impl Silent {
    pub(crate) async fn start(name: char) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        let limit = Duration::from_millis(300);
        while let Ok(connected) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
            waiting.push(connected.unwrap());
        }
        Self {
            name,
            address,
            _listener: listener,
            _waiting: waiting,
        }
    }

    pub(crate) fn target(&self, fields: Value) -> Value {
        target(self.name, self.address, fields)
    }
}

/// A target of a pool.
pub(crate) fn target(name: char, address: SocketAddr, fields: Value) -> Value {
    let mut target = json!({"id": name.to_string(), "host": address.ip(), "port": address.port()});
    if let Value::Object(fields) = fields {
        target.as_object_mut().unwrap().extend(fields);
    }
    target
}

/// A tunnel to be, with one pool and a port of TCP that names it.
pub(crate) fn with_pool(transport: Transport, pool: Value) -> (TunnelBuilder, SocketAddr) {
    let mut builder = TunnelBuilder::new(transport).hub(json!({"pools": {POOL: pool}}));
    let port = free_port();
    builder.listen(port_of_pool(port));
    (builder, SocketAddr::from(([127, 0, 0, 1], port)))
}

/// A port that names the pool.
pub(crate) fn port_of_pool(port: u16) -> Value {
    json!({"port": port, "pool": POOL, "proxyProtocol": "none"})
}

/// A client that has reached a target.
pub(crate) struct Reached {
    pub(crate) stream: TcpStream,
    /// The target's name.
    pub(crate) name: char,
}

impl Reached {
    /// A byte goes there and back.
    pub(crate) async fn assert_moves(&mut self) {
        self.stream.write_all(b"x").await.unwrap();
        let byte = within(SOON, "an echo", self.stream.read_u8()).await;
        assert_eq!(byte.unwrap(), b'x');
    }

    /// Ends it, and waits until its target has ended it too.
    pub(crate) async fn end(mut self) {
        self.stream.shutdown().await.unwrap();
        let end = within(SOON, "FIN", self.stream.read(&mut [0])).await;
        assert_eq!(end.unwrap(), 0);
    }
}

/// A client of any address; an error where no target took it.
pub(crate) async fn reach(entry: SocketAddr) -> io::Result<Reached> {
    reach_from(Ipv4Addr::LOCALHOST, entry).await
}

/// A client of this address of loopback.
pub(crate) async fn reach_from(client: Ipv4Addr, entry: SocketAddr) -> io::Result<Reached> {
    let mut stream = try_connect(client, entry).await?;
    let name = within(SOON, "a target's name", stream.read_u8()).await?;
    Ok(Reached {
        stream,
        name: char::from(name),
    })
}

/// A connection to an edge. Where no target takes it, its reset may come ahead of this.
pub(crate) async fn connect_from(client: Ipv4Addr, entry: SocketAddr) -> TcpStream {
    try_connect(client, entry).await.unwrap()
}

async fn try_connect(client: Ipv4Addr, entry: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if client != Ipv4Addr::LOCALHOST {
        // A bound port is nobody else's for a minute after its connection: thousands of clients would use them up.
        socket.bind(SocketAddr::from((client, 0)))?;
    }
    within(SOON, "a connection", socket.connect(entry)).await
}

/// A client leaves: with a reset, since after a FIN alone it may still read.
pub(crate) fn leave(client: TcpStream) {
    socket2::SockRef::from(&client)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// The `number`th address of clients.
pub(crate) fn client(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 1, number)
}

/// The pool's state.
pub(crate) fn pool(status: &Value) -> &Value {
    let pools = status["pools"].as_array().unwrap();
    let found = pools.iter().find(|pool| pool["name"] == POOL);
    found.unwrap_or_else(|| panic!("no pool {POOL}: {status}"))
}

/// The state of one of its targets.
pub(crate) fn state(status: &Value, name: char) -> &Value {
    let targets = pool(status)["targets"].as_array().unwrap();
    let found = targets
        .iter()
        .find(|target| target["id"] == name.to_string());
    found.unwrap_or_else(|| panic!("no target {name}: {status}"))
}

/// Waits until a target has this many streams and flows.
pub(crate) async fn wait_active(hub: &Process, limit: Duration, name: char, active: u32) {
    let what = "status with these streams";
    hub.wait_status(limit, what, |status| {
        state(status, name)["activeStreams"] == active
    })
    .await;
}

/// An operator says what a target is to do.
pub(crate) async fn say(hub: &Process, name: char, word: &str, cut: bool) {
    let params = json!({"pool": POOL, "target": name.to_string(), "state": word, "cut": cut});
    hub.call("setTargetState", params).await;
}

/// A UDP target that answers each datagram with its name, and tells of PROXY headers apart from them.
pub(crate) struct NamedUdp {
    address: SocketAddr,
    headers: Arc<std::sync::Mutex<Vec<SocketAddr>>>,
    serving: JoinHandle<()>,
}

impl NamedUdp {
    pub(crate) async fn start_on(name: char, address: SocketAddr) -> Self {
        Self::serve(name, UdpSocket::bind(address).await.unwrap())
    }

    fn serve(name: char, socket: UdpSocket) -> Self {
        let address = socket.local_addr().unwrap();
        let headers = Arc::<std::sync::Mutex<Vec<SocketAddr>>>::default();
        let seen = headers.clone();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 2_048];
            loop {
                // An error tells that a hub's socket is gone.
                let Ok((length, hub)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                if let Some(client) = named_client(&buffer[..length]) {
                    seen.lock().unwrap().push(client);
                } else {
                    let _ = socket.send_to(&[u8::try_from(name).unwrap()], hub).await;
                }
            }
        });
        Self {
            address,
            headers,
            serving,
        }
    }

    pub(crate) async fn start(name: char) -> Self {
        // A port may be taken between the choice and this; then another one does as well.
        let socket = until(SOON, "a UDP port", async || {
            let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
            UdpSocket::bind(address).await.ok()
        });
        Self::serve(name, socket.await)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The clients of the PROXY headers that came, in their order.
    pub(crate) fn headers(&self) -> Vec<SocketAddr> {
        self.headers.lock().unwrap().clone()
    }

    /// Ends it, and gives its address, which refuses datagrams from then on.
    pub(crate) async fn kill(mut self) -> SocketAddr {
        self.serving.abort();
        let _ = (&mut self.serving).await;
        self.address
    }
}

impl Drop for NamedUdp {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The client that a PROXY header of version 2 for UDP over IPv4 names, if the datagram is one.
fn named_client(datagram: &[u8]) -> Option<SocketAddr> {
    let rest = datagram.strip_prefix(b"\r\n\r\n\0\r\nQUIT\n\x21\x12")?;
    let &[_, _, a, b, c, d, _, _, _, _, high, low, ..] = rest else {
        panic!("a short PROXY header: {datagram:?}");
    };
    Some(SocketAddr::from((
        [a, b, c, d],
        u16::from_be_bytes([high, low]),
    )))
}

/// A UDP client at an edge.
pub(crate) async fn udp_client(client: Ipv4Addr, entry: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((client, 0)).await.unwrap();
    socket.connect(entry).await.unwrap();
    socket
}

/// The name of the target that answers a datagram; none within 100 ms.
pub(crate) async fn ask(client: &UdpSocket) -> Option<char> {
    let mut answer = [0];
    // Answers to what was given up.
    while client.try_recv(&mut answer).is_ok() {}
    client.send(b"?").await.unwrap();
    let limit = Duration::from_millis(100);
    let received = tokio::time::timeout(limit, client.recv(&mut answer)).await;
    (received.ok()?.unwrap() == 1).then(|| char::from(answer[0]))
}

/// The same from a target that answers, however long that takes.
pub(crate) async fn ask_until_answered(client: &UdpSocket) -> char {
    until(SOON, "an answer", async || ask(client).await).await
}
