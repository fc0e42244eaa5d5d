//! A TCP relay between edge and hub that does on command what networks do unasked.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

use super::until;

/// The way a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Rst,
    Fin,
}

/// Orders to all connections.
#[derive(Debug, Clone, Copy)]
struct Orders {
    /// Rises with every cut.
    cuts: u64,
    how: Cut,
    refuse: bool,
    black_hole: bool,
    /// Of each direction, for connections accepted from now on.
    delay: Duration,
}

/// One read, as it came in.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    pub(crate) at: Instant,
    /// Connections are numbered from 1.
    pub(crate) connection: u64,
    pub(crate) is_from_edge: bool,
    pub(crate) bytes: Vec<u8>,
}

/// Everything that the relay has seen.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    /// Bytes moved, both directions together.
    bytes: AtomicU64,
    /// Bytes from the edge that may still pass before one bit is flipped; negative when none is to be.
    until_flip: AtomicI64,
    /// Bytes from the hub after which the next connection is reset; 0 if it isn't to be.
    reset_at: AtomicUsize,
    /// Largest write in bytes; 0 means as large as read.
    slice: AtomicUsize,
    recording: Mutex<Option<Vec<Recorded>>>,
}

/// The relay; it ends when dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    counters: Arc<Counters>,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(crate) async fn start(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, hub)
    }

    /// A relay that accepts what comes to `listener`.
    pub(crate) fn start_on(listener: TcpListener, hub: SocketAddr) -> Self {
        let address = listener.local_addr().unwrap();
        let orders = watch::Sender::new(Orders {
            cuts: 0,
            how: Cut::Rst,
            refuse: false,
            black_hole: false,
            delay: Duration::ZERO,
        });
        let counters = Arc::new(Counters::default());
        counters.until_flip.store(-1, Ordering::Relaxed);
        let accepting = tokio::spawn(accept(
            listener,
            hub,
            orders.subscribe(),
            Arc::clone(&counters),
        ));
        Self {
            address,
            orders,
            counters,
            accepting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection that exists now.
    pub(crate) fn cut(&self, how: Cut) {
        self.orders.send_modify(|orders| {
            orders.cuts += 1;
            orders.how = how;
        });
    }

    /// New connections get a RST while this is on.
    pub(crate) fn refuse(&self, on: bool) {
        self.orders.send_modify(|orders| orders.refuse = on);
    }

    /// No byte moves while this is on, and no connection ends.
    pub(crate) fn black_hole(&self, on: bool) {
        self.orders.send_modify(|orders| orders.black_hole = on);
    }

    /// Writes at most `bytes` at once, each in its own segment.
    pub(crate) fn slice(&self, bytes: usize) {
        self.counters.slice.store(bytes, Ordering::Relaxed);
    }

    /// Flips one bit of what the edge sends, `bytes` from now.
    pub(crate) fn flip_bit_after(&self, bytes: u32) {
        self.counters
            .until_flip
            .store(i64::from(bytes), Ordering::Relaxed);
    }

    /// Resets the next connection as soon as exactly this many bytes of the hub's have passed.
    pub(crate) fn reset_next_at(&self, bytes: usize) {
        self.counters.reset_at.store(bytes, Ordering::Relaxed);
    }

    /// Delays both directions of connections accepted from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.orders.send_modify(|orders| orders.delay = delay);
    }

    /// Keeps everything that comes in from now on.
    pub(crate) fn record(&self) {
        *self.counters.recording.lock().unwrap() = Some(Vec::new());
    }

    /// Everything recorded so far.
    pub(crate) fn recorded(&self) -> Vec<Recorded> {
        let recording = self.counters.recording.lock().unwrap();
        recording.clone().unwrap_or_default()
    }

    pub(crate) fn accepted(&self) -> u64 {
        self.counters.accepted.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.counters.bytes.load(Ordering::Relaxed)
    }

    /// Waits until this many bytes moved in all.
    pub(crate) async fn wait_bytes(&self, bytes: u64, limit: Duration) {
        let what = format!("{bytes} bytes through the relay");
        until(limit, &what, async || (self.bytes() >= bytes).then_some(())).await;
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    hub: SocketAddr,
    orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
) {
    loop {
        let (edge, _) = listener.accept().await.unwrap();
        if orders.borrow().refuse {
            reset(&edge);
            continue;
        }
        let connection = counters.accepted.fetch_add(1, Ordering::Relaxed) + 1;
        let seen = Seen {
            connection,
            until_reset: AtomicUsize::new(counters.reset_at.swap(0, Ordering::Relaxed)),
            is_due: Notify::new(),
            counters: Arc::clone(&counters),
        };
        tokio::spawn(carry(edge, hub, orders.clone(), seen));
    }
}

async fn carry(
    mut edge: TcpStream,
    hub: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    seen: Seen,
) {
    let (before, delay) = {
        let orders = orders.borrow();
        (orders.cuts, orders.delay)
    };
    let Ok(mut hub) = TcpStream::connect(hub).await else {
        reset(&edge);
        return;
    };
    edge.set_nodelay(true).unwrap();
    hub.set_nodelay(true).unwrap();
    let (from_edge, to_edge) = edge.split();
    let (from_hub, to_hub) = hub.split();
    let (up, down) = (orders.clone(), orders.clone());
    let how = {
        let both = async {
            if delay.is_zero() {
                let _ = tokio::join!(
                    pump(from_edge, to_hub, up, &seen, true),
                    pump(from_hub, to_edge, down, &seen, false),
                );
            } else {
                let _ = tokio::join!(
                    pump_later(from_edge, to_hub, delay, &seen, true),
                    pump_later(from_hub, to_edge, delay, &seen, false),
                );
            }
        };
        tokio::select! {
            () = both => None,
            () = seen.is_due.notified() => Some(Cut::Rst),
            cut = orders.wait_for(|orders| orders.cuts > before) => cut.ok().map(|orders| orders.how),
        }
    };
    match how {
        Some(Cut::Rst) => {
            reset(&edge);
            reset(&hub);
        }
        Some(Cut::Fin) => {
            let _ = tokio::join!(edge.shutdown(), hub.shutdown());
            // Unread bytes would turn the FIN into a RST: read until both ends have closed.
            let rest = async { tokio::join!(discard(&mut edge), discard(&mut hub)) };
            let _ = tokio::time::timeout(Duration::from_secs(5), rest).await;
        }
        None => {}
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut orders: watch::Receiver<Orders>,
    seen: &Seen,
    is_from_edge: bool,
) -> io::Result<()> {
    let counters = &seen.counters;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if orders.wait_for(|orders| !orders.black_hole).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        seen.record(is_from_edge, &buffer[..read]);
        if is_from_edge {
            flip_bit(&mut buffer[..read], &counters.until_flip);
        } else if let Some(last) = seen.last_before_reset(read) {
            to.write_all(&buffer[..last]).await?;
            seen.is_due.notify_one();
            return std::future::pending().await;
        }
        let slice = match counters.slice.load(Ordering::Relaxed) {
            0 => read,
            bytes => bytes,
        };
        for part in buffer[..read].chunks(slice) {
            to.write_all(part).await?;
        }
        counters.bytes.fetch_add(read as u64, Ordering::Relaxed);
    }
}

/// Every byte leaves `delay` after it came; nothing else is done to it.
async fn pump_later(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    delay: Duration,
    seen: &Seen,
    is_from_edge: bool,
) -> io::Result<()> {
    let counters = &seen.counters;
    let (sender, mut queue) = mpsc::channel::<(Instant, Vec<u8>)>(DELAYED_READS);
    let reading = async move {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            let bytes = buffer[..read].to_vec();
            if read > 0 {
                seen.record(is_from_edge, &bytes);
            }
            let sent = sender.send((Instant::now() + delay, bytes)).await;
            if read == 0 || sent.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, bytes)) = queue.recv().await {
            tokio::time::sleep_until(due.into()).await;
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&bytes).await?;
            counters
                .bytes
                .fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    };
    let ended: io::Result<((), ())> = tokio::try_join!(reading, writing);
    ended.map(drop)
}

/// Counts of a connection's traffic.
struct Seen {
    connection: u64,
    /// Bytes that may still come from the hub; 0 if that is unlimited.
    until_reset: AtomicUsize,
    /// No more may come.
    is_due: Notify,
    counters: Arc<Counters>,
}

impl Seen {
    /// Bytes of a read from the hub that may still pass, if they are the last ones.
    fn last_before_reset(&self, read: usize) -> Option<usize> {
        let left = self.until_reset.load(Ordering::Relaxed);
        if left > read {
            self.until_reset.fetch_sub(read, Ordering::Relaxed);
        }
        (1..=read).contains(&left).then_some(left)
    }

    fn record(&self, is_from_edge: bool, bytes: &[u8]) {
        if let Some(recording) = self.counters.recording.lock().unwrap().as_mut() {
            recording.push(Recorded {
                at: Instant::now(),
                connection: self.connection,
                is_from_edge,
                bytes: bytes.to_vec(),
            });
        }
    }
}

fn flip_bit(bytes: &mut [u8], until_flip: &AtomicI64) {
    let before = until_flip.load(Ordering::Relaxed);
    if let Ok(position) = usize::try_from(before) {
        if let Some(byte) = bytes.get_mut(position) {
            *byte ^= 0x10;
            until_flip.store(-1, Ordering::Relaxed);
        } else {
            until_flip.fetch_sub(i64::try_from(bytes.len()).unwrap(), Ordering::Relaxed);
        }
    }
}

async fn discard(stream: &mut TcpStream) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(1..) = stream.read(&mut buffer).await {}
}

/// Makes the coming close of this socket a RST.
pub(crate) fn reset(stream: &TcpStream) {
    SockRef::from(stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Reads of one direction that wait for their time.
const DELAYED_READS: usize = 1024;
