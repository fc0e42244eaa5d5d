//! Streams that move a little all the time: whatever happens meanwhile, they are there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::seed;

/// Running transfers through an echo target.
pub(crate) struct Steady {
    running: Arc<AtomicBool>,
    moved: Arc<AtomicU64>,
    transfers: JoinSet<Result<(), String>>,
}

impl Steady {
    /// Starts `count` transfers of 16 KiB each 50 ms, which `entry` must echo.
    pub(crate) fn start(entry: SocketAddr, count: u64) -> Self {
        let running = Arc::new(AtomicBool::new(true));
        let moved = Arc::new(AtomicU64::new(0));
        let mut transfers = JoinSet::new();
        for id in 0..count {
            let (running, moved) = (Arc::clone(&running), Arc::clone(&moved));
            transfers.spawn(async move {
                let outcome = transfer(entry, id, &running, &moved).await;
                outcome.map_err(|error| format!("transfer {id}: {error}"))
            });
        }
        Self {
            running,
            moved,
            transfers,
        }
    }

    /// Bytes that came back so far.
    pub(crate) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends all transfers and fails unless each got back what it had sent, to the FIN.
    pub(crate) async fn finish(self) {
        self.running.store(false, Ordering::Relaxed);
        for outcome in self.transfers.join_all().await {
            outcome.unwrap_or_else(|error| panic!("{error}"));
        }
        assert!(self.moved.load(Ordering::Relaxed) > 0, "nothing moved");
    }
}

async fn transfer(
    entry: SocketAddr,
    id: u64,
    running: &AtomicBool,
    moved: &AtomicU64,
) -> std::io::Result<()> {
    let stream = TcpStream::connect(entry).await?;
    let (mut reader, mut writer) = stream.into_split();
    let sending = async {
        let mut rng = ChaCha8Rng::seed_from_u64(seed());
        rng.set_stream(id);
        let (mut hash, mut part) = (Sha256::new(), vec![0; PART]);
        while running.load(Ordering::Relaxed) {
            rng.fill_bytes(&mut part);
            hash.update(&part);
            writer.write_all(&part).await?;
            tokio::time::sleep(PAUSE).await;
        }
        writer.shutdown().await?;
        Ok::<_, std::io::Error>(hash.finalize())
    };
    let receiving = async {
        let (mut hash, mut part) = (Sha256::new(), vec![0; PART]);
        while let read @ 1.. = reader.read(&mut part).await? {
            hash.update(&part[..read]);
            moved.fetch_add(read as u64, Ordering::Relaxed);
        }
        Ok::<_, std::io::Error>(hash.finalize())
    };
    let (sent, received) = tokio::try_join!(sending, receiving)?;
    if sent == received {
        Ok(())
    } else {
        Err(std::io::Error::other("hashes differ"))
    }
}

/// Bytes written at once.
const PART: usize = 16 * 1024;
const PAUSE: Duration = Duration::from_millis(50);
