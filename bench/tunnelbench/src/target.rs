//! The target behind the tunnel: takes a PROXY header off, then sinks, pours or echoes as the first byte says. On UDP,
//! on the same port number, it echoes.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::{pattern, runtime_thread, socket};

mod datagrams;
mod proxy_header;

pub(crate) async fn serve(address: SocketAddr, lifetime: Duration) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let datagrams = UdpSocket::bind(address)?;
    socket::enlarge_buffers(&datagrams);
    thread::spawn(move || datagrams::echo(&datagrams));
    let target = Target {
        sunk: Arc::default(),
        chunk: pattern::chunk().into(),
        // Bulk streams have their own thread: the echo's latency is to show the tunnel, not this process.
        bulk: runtime_thread()?,
    };
    println!("target on {}", listener.local_addr()?);
    tokio::spawn(async move {
        sleep(lifetime).await;
        std::process::exit(0);
    });
    loop {
        match listener.accept().await {
            // A connection's error is seen, and counted, by its client.
            Ok((stream, _)) => drop(tokio::spawn(target.clone().connection(stream))),
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

#[derive(Clone)]
struct Target {
    /// Bytes that all sinks have had.
    sunk: Arc<AtomicU64>,
    chunk: Arc<[u8]>,
    bulk: Handle,
}

impl Target {
    async fn connection(self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut early = Vec::with_capacity(1024);
        proxy_header::take_off(&mut stream, &mut early).await?;
        proxy_header::read_to(&mut stream, &mut early, 1).await?;
        match early[0] {
            pattern::ECHO => echo(stream, early).await,
            pattern::QUERY => stream.write_u64(self.sunk.load(Ordering::Relaxed)).await,
            pattern::SINK => self.move_to_bulk(stream, Some(early.len() as u64 - 1)),
            pattern::SOURCE => self.move_to_bulk(stream, None),
            other => Err(io::Error::other(format!("unknown first byte {other:#x}"))),
        }
    }

    /// `sunk`: bytes that a sink has had already; none for a source.
    fn move_to_bulk(self, stream: TcpStream, sunk: Option<u64>) -> io::Result<()> {
        let stream = stream.into_std()?;
        let bulk = self.bulk.clone();
        bulk.spawn(async move {
            let stream = TcpStream::from_std(stream)?;
            match sunk {
                Some(early) => self.sink(stream, early).await,
                None => self.pour(stream).await,
            }
        });
        Ok(())
    }

    async fn sink(&self, stream: TcpStream, early: u64) -> io::Result<()> {
        self.sunk.fetch_add(early, Ordering::Relaxed);
        loop {
            match socket::discard(&stream, READ_AT_MOST).await? {
                0 => return Ok(()),
                received => self.sunk.fetch_add(received as u64, Ordering::Relaxed),
            };
        }
    }

    async fn pour(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            stream.write_all(&self.chunk).await?;
        }
    }
}

async fn echo(mut stream: TcpStream, early: Vec<u8>) -> io::Result<()> {
    stream.write_all(&early).await?;
    drop(early); // 5,000 idle connections hold no more than they need
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            received => stream.write_all(&buffer[..received]).await?,
        }
    }
}

/// The pause after a failed accept, which has to end by itself (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// Bytes.
const READ_AT_MOST: usize = 4 << 20;
