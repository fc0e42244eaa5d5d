//! A TCP relay between edge and hub that does on command what networks do unasked.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::until;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Rst,
    Fin,
}

/// What all connections obey.
#[derive(Debug, Clone, Copy)]
struct Orders {
    /// Rises with every cut.
    cuts: u64,
    how: Cut,
    refuse: bool,
    black_hole: bool,
}

/// What the relay has seen.
#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    /// Bytes moved, both directions together.
    bytes: AtomicU64,
    /// Bytes from the edge that may still pass before one bit is flipped; negative when none is to be.
    until_flip: AtomicI64,
    /// Largest write in bytes; 0 means as large as read.
    slice: AtomicUsize,
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
        let address = listener.local_addr().unwrap();
        let orders = watch::Sender::new(Orders {
            cuts: 0,
            how: Cut::Rst,
            refuse: false,
            black_hole: false,
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
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(carry(edge, hub, orders.clone(), Arc::clone(&counters)));
    }
}

async fn carry(
    mut edge: TcpStream,
    hub: SocketAddr,
    mut orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
) {
    let before = orders.borrow().cuts;
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
            tokio::join!(
                pump(from_edge, to_hub, up, &counters, true),
                pump(from_hub, to_edge, down, &counters, false),
            )
        };
        tokio::select! {
            _ = both => None,
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
    counters: &Counters,
    is_from_edge: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if orders.wait_for(|orders| !orders.black_hole).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        if is_from_edge {
            flip_bit(&mut buffer[..read], &counters.until_flip);
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
