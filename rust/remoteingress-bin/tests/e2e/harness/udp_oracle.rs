//! The datagram oracle: clients send seeded datagrams in a closed loop, the target verifies each and sends it back.
//!
//! A datagram says which flow it belongs to, its number and its size, and the rest is a pseudo-random function of
//! these: one that is lost, merged, split, doubled, changed or given to another flow is seen, at the target and at the
//! client. An empty one says nothing, so it is told by its flow alone, and each is answered before the next.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use remoteingress_proxy_protocol::{Accept, Addresses, Parser, Protocol, Status};
use socket2::SockRef;
use tokio::task::JoinSet;

/// The way in which a UDP listener tells the target about the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UdpProxy {
    None,
    FirstDatagram,
    EveryDatagram,
}

/// Datagrams to exchange.
#[derive(Debug, Clone)]
pub(crate) struct UdpPlan {
    pub(crate) seed: u64,
    /// Number of the first flow; never the same twice at one oracle.
    pub(crate) first_flow: u32,
    /// Sockets of clients.
    pub(crate) flows: u32,
    /// Datagrams on their way at any time.
    pub(crate) in_flight: usize,
    /// Size of each datagram: 0, or from [`HEADER`] to 65,507. They are dealt to the flows in turn.
    pub(crate) sizes: Vec<usize>,
    /// Time that an answer may take before it counts as lost.
    pub(crate) patience: Duration,
}

/// The result of a plan.
#[derive(Debug, Default)]
pub(crate) struct UdpReport {
    pub(crate) sent: u64,
    pub(crate) answered: u64,
    /// First datagrams of flows that weren't answered.
    pub(crate) first_lost: u64,
    /// Everything that isn't simply a loss: merges, splits, doubles, wrong bytes, wrong flows, wrong headers.
    pub(crate) faults: Vec<String>,
}

/// The target; it ends when dropped.
pub(crate) struct UdpOracle {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    ends: AtomicBool,
}

/// The target's knowledge.
#[derive(Default)]
struct Seen {
    /// The client that a header named, by the peer that sent it.
    clients: HashMap<SocketAddr, SocketAddr>,
    /// The flow of each peer, and of each client in a header.
    flows: HashMap<SocketAddr, u32>,
    datagrams: HashSet<(u32, u32)>,
    empty: u64,
    faults: Vec<String>,
}

/// Identity of a datagram that isn't empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Label {
    seed: u64,
    flow: u32,
    number: u32,
    size: u32,
}

impl Seen {
    /// True if a header named this client, or if there are no headers.
    fn names(&self, client: SocketAddr) -> bool {
        self.clients.is_empty() || self.clients.values().any(|known| *known == client)
    }
}

impl UdpProxy {
    /// The word in the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FirstDatagram => "firstDatagram",
            Self::EveryDatagram => "everyDatagram",
        }
    }
}

impl UdpPlan {
    /// `sizes` over `flows`, 64 in flight.
    pub(crate) fn new(seed: u64, first_flow: u32, flows: u32, sizes: Vec<usize>) -> Self {
        Self {
            seed,
            first_flow,
            flows,
            in_flight: 64,
            sizes,
            patience: PATIENCE,
        }
    }
}

impl UdpReport {
    /// Fails unless each datagram came back as it was, once, on its own flow.
    pub(crate) fn assert_whole(&self) {
        self.assert_true();
        let lost = self.sent - self.answered;
        assert_eq!(
            lost, 0,
            "datagrams lost of {}, {} of them the first of their flow",
            self.sent, self.first_lost
        );
    }

    /// Fails if anything came that isn't what was sent; loss is allowed.
    pub(crate) fn assert_true(&self) {
        let some: Vec<_> = self.faults.iter().take(10).collect();
        assert!(
            some.is_empty(),
            "{} faults, such as {some:#?}",
            self.faults.len()
        );
    }
}

impl UdpOracle {
    /// A target that verifies and echoes.
    pub(crate) fn start(proxy: UdpProxy) -> Self {
        Self::start_on(proxy, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
    }

    pub(crate) fn start_on(proxy: UdpProxy, address: SocketAddr) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        large_buffers(&socket);
        socket.set_read_timeout(Some(TICK)).unwrap();
        let address = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::spawn(move || serve(&socket, proxy, &of_thread));
        Self {
            address,
            shared,
            thread: Some(thread),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Plays a plan through `entry`.
    pub(crate) async fn play(&self, entry: SocketAddr, plan: &UdpPlan) -> UdpReport {
        let lanes = plan.in_flight.min(plan.flows as usize);
        let mut playing = JoinSet::new();
        for lane in 0..lanes {
            let plan = plan.clone();
            let shared = Arc::clone(&self.shared);
            playing.spawn(async move { play_lane(entry, &plan, lane, lanes, &shared).await });
        }
        let mut report = UdpReport::default();
        for outcome in playing.join_all().await {
            report.sent += outcome.sent;
            report.answered += outcome.answered;
            report.first_lost += outcome.first_lost;
            report.faults.extend(outcome.faults);
        }
        report.faults.append(&mut lock(&self.shared).faults);
        report
    }

    /// Empty datagrams that reached the target.
    pub(crate) fn empty(&self) -> u64 {
        lock(&self.shared).empty
    }

    /// Peers that the target has heard from: sockets of the hub.
    pub(crate) fn peers(&self) -> usize {
        lock(&self.shared).flows.len()
    }
}

impl Drop for UdpOracle {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.expect("the target's thread didn't panic");
            }
        }
    }
}

/// A part of the flows, one datagram at a time.
async fn play_lane(
    entry: SocketAddr,
    plan: &UdpPlan,
    lane: usize,
    lanes: usize,
    shared: &Shared,
) -> UdpReport {
    let mut report = UdpReport::default();
    let flows = plan.flows as usize;
    let mut sockets = Vec::new();
    for flow in (lane..flows).step_by(lanes) {
        let socket = bind_client(entry, flow).await;
        large_buffers(&socket);
        socket.connect(entry).await.unwrap();
        sockets.push((flow, socket));
    }
    let mut buffer = vec![0; LARGEST + 1];
    let mut round = 0;
    while round * flows < plan.sizes.len() {
        for (flow, socket) in &sockets {
            let Some(&size) = plan.sizes.get(round * flows + flow) else {
                continue;
            };
            let number = u32::try_from(round).unwrap();
            let label = Label {
                seed: plan.seed,
                flow: plan.first_flow + u32::try_from(*flow).unwrap(),
                number,
                size: u32::try_from(size).unwrap(),
            };
            let bytes = label.encode();
            socket.send(&bytes).await.unwrap();
            report.sent += 1;
            match answer(socket, &mut buffer, &bytes, label, plan, &mut report.faults).await {
                true => report.answered += 1,
                false if number == 0 => report.first_lost += 1,
                false => {}
            }
            // The header, where there is one, must have named this very socket.
            let local = socket.local_addr().unwrap();
            if number == 0 && !lock(shared).names(local) {
                let flow = label.flow;
                report
                    .faults
                    .push(format!("no header named {local}, flow {flow}"));
            }
        }
        round += 1;
    }
    // Whatever comes now is one too many.
    for (flow, socket) in &sockets {
        while let Ok(length) = socket.try_recv(&mut buffer) {
            let what = describe(&buffer[..length], plan.seed);
            report.faults.push(format!("late at flow {flow}: {what}"));
        }
    }
    report
}

/// A client's socket. On loopback the flows have many addresses, as clients in the world do: an edge grants each
/// address only its share.
async fn bind_client(entry: SocketAddr, flow: usize) -> tokio::net::UdpSocket {
    let local = match entry {
        SocketAddr::V4(v4) if v4.ip().is_loopback() => {
            let host = 1 + u8::try_from(flow % 200).unwrap();
            SocketAddr::from(([127, 0, 1, host], 0))
        }
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    tokio::net::UdpSocket::bind(local).await.unwrap()
}

/// Waits for the echo of `sent`; everything else that comes meanwhile is a fault, except late echoes of losses.
async fn answer(
    socket: &tokio::net::UdpSocket,
    buffer: &mut [u8],
    sent: &[u8],
    label: Label,
    plan: &UdpPlan,
    faults: &mut Vec<String>,
) -> bool {
    let deadline = tokio::time::Instant::now() + plan.patience;
    loop {
        let received = tokio::time::timeout_at(deadline, socket.recv(buffer)).await;
        match received {
            Err(_) => return false,
            // Nothing of ours sends ICMP errors to clients.
            Ok(Err(error)) => faults.push(format!("flow {}: {error}", label.flow)),
            Ok(Ok(length)) if &buffer[..length] == sent => return true,
            Ok(Ok(length)) => {
                let what = describe(&buffer[..length], plan.seed);
                faults.push(format!("instead of {label:?}: {what}"));
            }
        }
    }
}

fn serve(socket: &UdpSocket, proxy: UdpProxy, shared: &Shared) {
    let mut buffer = vec![0; LARGEST + 1];
    while !shared.ends.load(Ordering::Relaxed) {
        let (length, peer) = match socket.recv_from(&mut buffer) {
            Ok(received) => received,
            // The timeout, or the port unreachable of a flow that has ended.
            Err(error) => {
                let is_known = matches!(
                    error.kind(),
                    ErrorKind::WouldBlock
                        | ErrorKind::TimedOut
                        | ErrorKind::Interrupted
                        | ErrorKind::ConnectionRefused
                );
                assert!(is_known, "{error}");
                continue;
            }
        };
        let payload = match take_header(&buffer[..length], peer, proxy, shared) {
            Ok(Some(payload)) => payload,
            Ok(None) => continue,
            Err(fault) => {
                lock(shared).faults.push(format!("from {peer}: {fault}"));
                continue;
            }
        };
        if let Err(fault) = check(payload, peer, shared) {
            lock(shared).faults.push(format!("from {peer}: {fault}"));
        }
        socket.send_to(payload, peer).unwrap();
    }
}

/// Takes the header off; `None` for a datagram that is nothing but the header.
fn take_header<'a>(
    bytes: &'a [u8],
    peer: SocketAddr,
    proxy: UdpProxy,
    shared: &Shared,
) -> Result<Option<&'a [u8]>, String> {
    let is_known = lock(shared).clients.contains_key(&peer);
    match proxy {
        UdpProxy::None => return Ok(Some(bytes)),
        UdpProxy::FirstDatagram if is_known => return Ok(Some(bytes)),
        UdpProxy::FirstDatagram | UdpProxy::EveryDatagram => {}
    }
    let (client, length) = read_header(bytes)?;
    let earlier = lock(shared).clients.insert(peer, client);
    if earlier.is_some_and(|earlier| earlier != client) {
        return Err(format!("header names {client}, before {earlier:?}"));
    }
    match (proxy, &bytes[length..]) {
        (UdpProxy::FirstDatagram, []) => Ok(None),
        (UdpProxy::FirstDatagram, rest) => Err(format!("{} bytes after the header", rest.len())),
        (_, payload) => Ok(Some(payload)),
    }
}

/// The client of a version 2 header for datagrams at the start of `bytes`, and the header's length.
pub(crate) fn read_header(bytes: &[u8]) -> Result<(SocketAddr, usize), String> {
    match Parser::new(Accept::V2).parse(bytes) {
        Ok(Status::Complete { header, length }) => match header.addresses {
            Addresses::Inet {
                protocol: Protocol::Datagram,
                source,
                ..
            } => Ok((source, length)),
            other @ (Addresses::Local
            | Addresses::Unknown
            | Addresses::Inet { .. }
            | Addresses::Unix { .. }) => Err(format!("header says {other:?}")),
        },
        Ok(Status::Incomplete) => Err(format!("header cut off in {} bytes", bytes.len())),
        Err(error) => Err(format!("{error}, in {} bytes", bytes.len())),
    }
}

/// Checks that this is one datagram of a client, whole, for the first time, on the peer of its flow.
fn check(payload: &[u8], peer: SocketAddr, shared: &Shared) -> Result<(), String> {
    let mut seen = lock(shared);
    if payload.is_empty() {
        seen.empty += 1;
        return Ok(());
    }
    drop(seen);
    let label = Label::decode(payload)?;
    if payload != label.encode() {
        return Err(format!("wrong bytes in {label:?}"));
    }
    seen = lock(shared);
    let flow = *seen.flows.entry(peer).or_insert(label.flow);
    if flow != label.flow {
        return Err(format!("{label:?} on the peer of flow {flow}"));
    }
    if !seen.datagrams.insert((label.flow, label.number)) {
        return Err(format!("twice: {label:?}"));
    }
    Ok(())
}

fn describe(bytes: &[u8], seed: u64) -> String {
    match Label::decode(bytes) {
        Ok(label) if label.seed == seed && bytes == label.encode() => format!("{label:?}"),
        Ok(label) => format!("{} bytes that begin as {label:?}", bytes.len()),
        Err(error) => error,
    }
}

impl Label {
    fn encode(self) -> Vec<u8> {
        let size = self.size as usize;
        if size == 0 {
            return Vec::new();
        }
        let mut bytes = Vec::with_capacity(size + 8);
        bytes.extend(MAGIC);
        bytes.extend(self.seed.to_be_bytes());
        for number in [self.flow, self.number, self.size] {
            bytes.extend(number.to_be_bytes());
        }
        // SplitMix64, seeded by everything that names the datagram.
        let place = (u64::from(self.flow) << 32) | u64::from(self.number);
        let mut state = self.seed ^ mix(place) ^ u64::from(self.size);
        while bytes.len() < size {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            bytes.extend(mix(state).to_be_bytes());
        }
        bytes.truncate(size);
        bytes
    }

    /// Reads the label and compares the size it tells with the size there is.
    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let Some(head) = bytes.first_chunk::<HEADER>() else {
            return Err(format!("{} bytes: {bytes:02x?}", bytes.len()));
        };
        let number =
            |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let label = Self {
            seed: (u64::from(number(4)) << 32) | u64::from(number(8)),
            flow: number(12),
            number: number(16),
            size: number(20),
        };
        if head[..4] != MAGIC {
            return Err(format!("{} bytes without our magic", bytes.len()));
        }
        if label.size as usize != bytes.len() {
            return Err(format!("{} bytes are not {label:?}", bytes.len()));
        }
        Ok(label)
    }
}

fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn lock(shared: &Shared) -> MutexGuard<'_, Seen> {
    shared.seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn large_buffers<'a, S>(socket: &'a S)
where
    SockRef<'a>: From<&'a S>,
{
    let socket = SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

/// Bytes of the smallest datagram that isn't empty: magic, seed, flow, number, size.
pub(crate) const HEADER: usize = 24;
/// The largest UDP payload over IPv4, in bytes.
pub(crate) const LARGEST: usize = 65_507;
/// Enough for a busy machine, and little against the length of a test.
const PATIENCE: Duration = Duration::from_secs(5);
const MAGIC: [u8; 4] = *b"rmi\x01";
/// Interval at which a target checks whether the test is over.
const TICK: Duration = Duration::from_millis(50);
/// Socket buffers in bytes.
const BUFFER: usize = 4 * 1024 * 1024;
