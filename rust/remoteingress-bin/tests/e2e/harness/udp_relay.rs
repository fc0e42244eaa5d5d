//! A UDP relay between edge and hub that does to datagrams what networks do, seeded, and tells what it saw.
//!
//! Like a NAT it has one port of its own towards the hub per address it hears from. It runs on a thread of its own,
//! so that a busy test delays nothing but itself.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use super::seed;

/// Sender of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Edge,
    Hub,
}

/// Faults that meet each datagram; probabilities are 0 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Faults {
    pub(crate) loss: f64,
    pub(crate) duplicate: f64,
    /// One bit is flipped.
    pub(crate) corrupt: f64,
    /// The datagram comes later than those sent after it.
    pub(crate) reorder: f64,
    pub(crate) delay: Duration,
    /// Added to the delay, at random from zero to this.
    pub(crate) jitter: Duration,
    /// Larger datagrams are dropped, in bytes of payload.
    pub(crate) largest: usize,
    pub(crate) drop_from_edge: bool,
    pub(crate) drop_from_hub: bool,
    /// A new port towards the hub every so often, for each edge socket; the old one is gone.
    pub(crate) rebind_every: Option<Duration>,
}

/// Datagrams and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

/// Traffic in and out, by the end that sent it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    pub(crate) from_edge: Traffic,
    pub(crate) from_hub: Traffic,
    pub(crate) to_hub: Traffic,
    pub(crate) to_edge: Traffic,
    /// Number of times all ports towards the hub have changed.
    pub(crate) rebinds: u64,
}

/// One datagram as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) at: Instant,
    pub(crate) from: Side,
    pub(crate) bytes: Vec<u8>,
}

/// The relay; it ends when dropped.
pub(crate) struct UdpRelay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    commands: Option<mpsc::UnboundedSender<Command>>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    faults: Faults,
    rng: ChaCha8Rng,
    seen: Seen,
    recording: Option<Vec<Recorded>>,
    /// Bytes from the edge that may still pass before one bit is flipped.
    until_flip: Option<usize>,
}

enum Command {
    /// A datagram to send as if that side had sent it; no fault touches it.
    Inject(Side, Vec<u8>),
    Rebind,
}

impl Faults {
    pub(crate) fn none() -> Self {
        Self {
            loss: 0.0,
            duplicate: 0.0,
            corrupt: 0.0,
            reorder: 0.0,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            largest: usize::MAX,
            drop_from_edge: false,
            drop_from_hub: false,
            rebind_every: None,
        }
    }
}

impl UdpRelay {
    /// A relay on a port of the kernel's choice.
    pub(crate) fn start(hub: SocketAddr) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self::start_at(address, hub).unwrap()
    }

    /// A relay on this address; fails where it is taken.
    pub(crate) fn start_at(address: SocketAddr, hub: SocketAddr) -> std::io::Result<Self> {
        let front = std::net::UdpSocket::bind(address)?;
        front.set_nonblocking(true)?;
        let address = front.local_addr()?;
        let state = Arc::new(Mutex::new(State {
            faults: Faults::none(),
            rng: ChaCha8Rng::seed_from_u64(seed()),
            seen: Seen::default(),
            recording: None,
            until_flip: None,
        }));
        let (commands, queue) = mpsc::unbounded_channel();
        let of_thread = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            tokio::task::LocalSet::new().block_on(&runtime, async move {
                let front = UdpSocket::from_std(front).unwrap();
                large_buffers(&front);
                let relay = Rc::new(Engine::new(front, hub, of_thread));
                relay.run(queue).await;
            });
        });
        Ok(Self {
            address,
            state,
            commands: Some(commands),
            thread: Some(thread),
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to datagrams from now on.
    pub(crate) fn set(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.state).faults);
    }

    /// Drops everything while this is on: UDP is blocked.
    pub(crate) fn block(&self, on: bool) {
        self.set(|faults| (faults.drop_from_edge, faults.drop_from_hub) = (on, on));
    }

    /// Flips one bit of what the edge sends, `bytes` from now.
    pub(crate) fn flip_bit_after(&self, bytes: usize) {
        lock(&self.state).until_flip = Some(bytes);
    }

    /// Takes new ports towards the hub now.
    pub(crate) fn rebind(&self) {
        self.command(Command::Rebind);
    }

    /// Sends a datagram to the other side as if `from` had sent it, over every association there is.
    pub(crate) fn inject(&self, from: Side, bytes: Vec<u8>) {
        self.command(Command::Inject(from, bytes));
    }

    /// Keeps every datagram from now on, as it came in.
    pub(crate) fn record(&self) {
        lock(&self.state).recording = Some(Vec::new());
    }

    /// Datagrams recorded so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        lock(&self.state).recording.clone().unwrap_or_default()
    }

    pub(crate) fn seen(&self) -> Seen {
        lock(&self.state).seen
    }

    /// Bytes that went out, both directions together.
    pub(crate) fn bytes(&self) -> u64 {
        let seen = self.seen();
        seen.to_hub.bytes + seen.to_edge.bytes
    }

    fn command(&self, command: Command) {
        let commands = self.commands.as_ref().expect("taken in drop only");
        commands.send(command).expect("the relay's thread runs");
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.commands.take();
        if let Some(thread) = self.thread.take() {
            let outcome = thread.join();
            if !std::thread::panicking() {
                outcome.expect("the relay's thread didn't panic");
            }
        }
    }
}

/// One address of the edge and the port that stands for it at the hub.
struct Association {
    upstream: Rc<UdpSocket>,
    reading: AbortHandle,
}

/// Sent later: due time, order of arrival, who sent it, the edge's address, bytes.
type Waiting = Reverse<(Instant, u64, bool, SocketAddr, Vec<u8>)>;

struct Engine {
    front: UdpSocket,
    hub: SocketAddr,
    state: Arc<Mutex<State>>,
    associations: std::cell::RefCell<HashMap<SocketAddr, Association>>,
    waiting: std::cell::RefCell<BinaryHeap<Waiting>>,
    order: std::cell::Cell<u64>,
    more: Notify,
}

impl Engine {
    fn new(front: UdpSocket, hub: SocketAddr, state: Arc<Mutex<State>>) -> Self {
        Self {
            front,
            hub,
            state,
            associations: Default::default(),
            waiting: Default::default(),
            order: Default::default(),
            more: Notify::new(),
        }
    }

    async fn run(self: Rc<Self>, mut commands: mpsc::UnboundedReceiver<Command>) {
        tokio::task::spawn_local(Rc::clone(&self).send_later());
        tokio::task::spawn_local(Rc::clone(&self).rebind_often());
        let mut buffer = vec![0; LARGEST_DATAGRAM];
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Inject(from, bytes)) => {
                        let edges: Vec<_> = self.associations.borrow().keys().copied().collect();
                        for edge in edges {
                            self.send(from, edge, &bytes).await;
                        }
                    }
                    Some(Command::Rebind) => self.rebind_all().await,
                    None => return,
                },
                received = self.front.recv_from(&mut buffer) => {
                    // An error is the port unreachable of an edge socket that has closed.
                    if let Ok((length, edge)) = received {
                        if !self.associations.borrow().contains_key(&edge) {
                            self.bind(edge).await;
                        }
                        self.handle(Side::Edge, edge, &buffer[..length]).await;
                    }
                }
            }
        }
    }

    /// A new port towards the hub for this edge address.
    async fn bind(self: &Rc<Self>, edge: SocketAddr) {
        let upstream = Rc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        large_buffers(&upstream);
        let (engine, socket) = (Rc::clone(self), Rc::clone(&upstream));
        let reading = tokio::task::spawn_local(async move {
            let mut buffer = vec![0; LARGEST_DATAGRAM];
            loop {
                let Ok((length, from)) = socket.recv_from(&mut buffer).await else {
                    continue;
                };
                if from == engine.hub {
                    engine.handle(Side::Hub, edge, &buffer[..length]).await;
                }
            }
        });
        let association = Association {
            upstream,
            reading: reading.abort_handle(),
        };
        let old = self.associations.borrow_mut().insert(edge, association);
        if let Some(old) = old {
            old.reading.abort();
        }
    }

    async fn rebind_all(self: &Rc<Self>) {
        let edges: Vec<_> = self.associations.borrow().keys().copied().collect();
        if edges.is_empty() {
            return;
        }
        for edge in edges {
            self.bind(edge).await;
        }
        lock(&self.state).seen.rebinds += 1;
    }

    async fn rebind_often(self: Rc<Self>) {
        let mut last = Instant::now();
        loop {
            tokio::time::sleep(TICK).await;
            let every = lock(&self.state).faults.rebind_every;
            if every.is_none_or(|every| last.elapsed() >= every) {
                last = Instant::now();
                if every.is_some() {
                    self.rebind_all().await;
                }
            }
        }
    }

    /// Decides what becomes of a datagram, then sends it now or later.
    async fn handle(&self, from: Side, edge: SocketAddr, bytes: &[u8]) {
        let now = Instant::now();
        let copies = lock(&self.state).judge(from, bytes, now);
        for (due, bytes) in copies {
            if due <= now {
                self.send(from, edge, &bytes).await;
            } else {
                let order = self.order.get();
                self.order.set(order + 1);
                let entry = Reverse((due, order, from == Side::Edge, edge, bytes));
                self.waiting.borrow_mut().push(entry);
                self.more.notify_one();
            }
        }
    }

    async fn send_later(self: Rc<Self>) {
        loop {
            let next = self.waiting.borrow().peek().map(|Reverse(entry)| entry.0);
            match next {
                None => self.more.notified().await,
                Some(due) if due > Instant::now() => {
                    tokio::select! {
                        () = tokio::time::sleep_until(due.into()) => {}
                        () = self.more.notified() => {}
                    }
                }
                Some(_) => {
                    let entry = self.waiting.borrow_mut().pop();
                    if let Some(Reverse((_, _, is_from_edge, edge, bytes))) = entry {
                        let from = if is_from_edge { Side::Edge } else { Side::Hub };
                        self.send(from, edge, &bytes).await;
                    }
                }
            }
        }
    }

    async fn send(&self, from: Side, edge: SocketAddr, bytes: &[u8]) {
        let sent = match from {
            Side::Edge => {
                let upstream = {
                    let associations = self.associations.borrow();
                    let association = associations.get(&edge);
                    association.map(|association| Rc::clone(&association.upstream))
                };
                match upstream {
                    Some(upstream) => upstream.send_to(bytes, self.hub).await,
                    None => return,
                }
            }
            Side::Hub => self.front.send_to(bytes, edge).await,
        };
        if sent.is_ok() {
            let mut state = lock(&self.state);
            match from {
                Side::Edge => state.seen.to_hub.add(bytes.len()),
                Side::Hub => state.seen.to_edge.add(bytes.len()),
            }
        }
    }
}

impl State {
    /// The copies to send and when.
    fn judge(&mut self, from: Side, bytes: &[u8], now: Instant) -> Vec<(Instant, Vec<u8>)> {
        match from {
            Side::Edge => self.seen.from_edge.add(bytes.len()),
            Side::Hub => self.seen.from_hub.add(bytes.len()),
        }
        if let Some(recording) = &mut self.recording {
            recording.push(Recorded {
                at: now,
                from,
                bytes: bytes.to_vec(),
            });
        }
        let faults = self.faults.clone();
        let is_dropped = match from {
            Side::Edge => faults.drop_from_edge,
            Side::Hub => faults.drop_from_hub,
        };
        if is_dropped || bytes.len() > faults.largest || self.chance(faults.loss) {
            return Vec::new();
        }
        let mut bytes = bytes.to_vec();
        if self.chance(faults.corrupt) && !bytes.is_empty() {
            let bit = self.rng.random_range(0..bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if from == Side::Edge {
            self.flip(&mut bytes);
        }
        let copies = if self.chance(faults.duplicate) { 2 } else { 1 };
        (0..copies)
            .map(|_| {
                let mut due = now + faults.delay;
                if !faults.jitter.is_zero() {
                    due += faults.jitter.mul_f64(self.rng.random());
                }
                if self.chance(faults.reorder) {
                    due += LATER;
                }
                (due, bytes.clone())
            })
            .collect()
    }

    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.random_bool(probability)
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        if let Some(left) = self.until_flip {
            if let Some(byte) = bytes.get_mut(left) {
                *byte ^= 0x10;
                self.until_flip = None;
            } else {
                self.until_flip = Some(left - bytes.len());
            }
        }
    }
}

impl Traffic {
    fn add(&mut self, bytes: usize) {
        self.datagrams += 1;
        self.bytes += bytes as u64;
    }
}

/// The number of a flight, from 1: what is seen between the ends with this delay in each direction alternates in steps
/// of it, however many datagrams a flight has.
pub(crate) fn flight(start: Instant, at: Instant, delay: Duration) -> u32 {
    let steps = (at - start + delay / 4).as_secs_f64() / delay.as_secs_f64();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a few flights"
    )]
    let whole = steps.floor() as u32;
    whole + 1
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// As much as the kernel gives: bursts of the ends shouldn't be lost here.
fn large_buffers(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
}

const LARGEST_DATAGRAM: usize = 65_536;
/// Interval between checks whether ports have to change.
const TICK: Duration = Duration::from_millis(10);
/// Time by which a reordered datagram comes later.
const LATER: Duration = Duration::from_millis(5);
/// Socket buffers in bytes.
const BUFFER: usize = 4 * 1024 * 1024;
