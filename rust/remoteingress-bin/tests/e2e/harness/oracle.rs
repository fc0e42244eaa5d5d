//! The byte oracle: client and target send each other seeded pseudo-random bytes and check every one they receive.
//!
//! Each direction of each stream has its own ChaCha8 sequence, so a byte lost, repeated, reordered or taken from
//! another stream is seen where it happens; SHA-256 of what was sent and received is compared at the end.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::oneshot;

use super::SOON;
use super::proxy_header::Proxy;
use super::target::Target;

/// The end that sends FIN first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Finish {
    /// Each side when it has sent everything.
    Independent = 0,
    /// The target keeps half of its bytes until it has seen the client's FIN.
    ClientFirst = 1,
    /// The client keeps half of its bytes until it has seen the target's FIN.
    TargetFirst = 2,
}

/// The course of one stream; the client sends it to the target as the first bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) id: u64,
    /// Bytes from client to target, without this plan.
    pub(crate) up: u64,
    /// Bytes from target to client.
    pub(crate) down: u64,
    pub(crate) finish: Finish,
    /// True if senders pause at random.
    pub(crate) pauses: bool,
}

/// SHA-256 of one direction each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Digests {
    sent: [u8; 32],
    received: [u8; 32],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Client,
    Target,
}

/// Clients that wait for what the target says about their stream, by id.
type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Digests, String>>>>>;

/// A target that plays its part of every plan, and the clients that play theirs.
pub(crate) struct Oracle {
    target: Target,
    waiting: Waiting,
}

impl Plan {
    /// Sizes drawn log-uniformly from 0 to `max` bytes, everything else at random.
    pub(crate) fn random(seed: u64, id: u64, max: u32) -> Self {
        let mut rng = sequence(seed, id, Sequence::Plan);
        let mut size = || {
            let exponent = rng.random::<f64>() * (f64::from(max) + 1.0).ln();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "between 1 and max + 1"
            )]
            let size = exponent.exp() as u64 - 1;
            size
        };
        let (up, down) = (size(), size());
        let finish = [
            Finish::Independent,
            Finish::ClientFirst,
            Finish::TargetFirst,
        ];
        Self {
            seed,
            id,
            up,
            down,
            finish: finish[rng.random_range(0..finish.len())],
            pauses: true,
        }
    }

    /// `bytes` each way as fast as it goes.
    pub(crate) fn bulk(seed: u64, id: u64, bytes: u64) -> Self {
        Self {
            seed,
            id,
            up: bytes,
            down: bytes,
            finish: Finish::Independent,
            pauses: false,
        }
    }

    fn encode(&self) -> [u8; PLAN_BYTES] {
        let mut bytes = [0; PLAN_BYTES];
        for (at, number) in [self.seed, self.id, self.up, self.down]
            .into_iter()
            .enumerate()
        {
            bytes[at * 8..at * 8 + 8].copy_from_slice(&number.to_be_bytes());
        }
        bytes[32] = self.finish as u8;
        bytes[33] = u8::from(self.pauses);
        bytes
    }

    fn decode(bytes: &[u8; PLAN_BYTES]) -> Self {
        let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
        Self {
            seed: number(0),
            id: number(8),
            up: number(16),
            down: number(24),
            finish: match bytes[32] {
                0 => Finish::Independent,
                1 => Finish::ClientFirst,
                _ => Finish::TargetFirst,
            },
            pauses: bytes[33] != 0,
        }
    }
}

impl Oracle {
    pub(crate) async fn start(proxy: Proxy) -> Self {
        let waiting = Waiting::default();
        let clients = Arc::clone(&waiting);
        let target = Target::start(proxy, move |mut stream, _| {
            let clients = Arc::clone(&clients);
            async move {
                let mut head = [0; PLAN_BYTES];
                if stream.read_exact(&mut head).await.is_ok() {
                    let plan = Plan::decode(&head);
                    let outcome = exchange(stream, plan, Role::Target).await;
                    let client = clients.lock().unwrap().remove(&plan.id);
                    // A client that failed waits no more.
                    let _ = client.map(|client| client.send(outcome));
                }
            }
        });
        Self {
            target: target.await,
            waiting,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.target.address()
    }

    /// Plays one stream through `entry` and checks both ends; the error names the plan.
    pub(crate) async fn play(&self, entry: SocketAddr, plan: Plan) -> Result<(), String> {
        let (sender, at_target) = oneshot::channel();
        self.waiting.lock().unwrap().insert(plan.id, sender);
        let client = async {
            let connected = TcpStream::connect(entry).await;
            let mut stream = connected.map_err(|error| format!("connect: {error}"))?;
            let head = stream.write_all(&plan.encode()).await;
            head.map_err(|error| format!("first write: {error}"))?;
            exchange(stream, plan, Role::Client).await
        };
        let client = client
            .await
            .map_err(|error| format!("client: {error}; {plan:?}"))?;
        let outcome = tokio::time::timeout(SOON, at_target).await;
        let target = outcome
            .map_err(|_| "no outcome".to_owned())
            .and_then(|outcome| outcome.map_err(|_| "stream id used twice".to_owned()))
            .and_then(|outcome| outcome)
            .map_err(|error| format!("target: {error}; {plan:?}"))?;
        if client.sent == target.received && client.received == target.sent {
            Ok(())
        } else {
            Err(format!("hashes differ: {client:?} {target:?}; {plan:?}"))
        }
    }
}

async fn exchange(stream: TcpStream, plan: Plan, role: Role) -> Result<Digests, String> {
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    let (ended, peer_ended) = oneshot::channel();
    let up = sequence(plan.seed, plan.id, Sequence::Up);
    let down = sequence(plan.seed, plan.id, Sequence::Down);
    let (outgoing, incoming, sizes) = match role {
        Role::Client => (up, down, (plan.up, plan.down)),
        Role::Target => (down, up, (plan.down, plan.up)),
    };
    let waits = match role {
        Role::Client => plan.finish == Finish::TargetFirst,
        Role::Target => plan.finish == Finish::ClientFirst,
    };
    let pacing = sequence(plan.seed, plan.id, Sequence::Pacing(role));
    let sender = Sender {
        writer,
        pattern: Pattern::new(outgoing),
        pacing: plan.pauses.then_some(pacing),
        hash: Sha256::new(),
    };
    // While one half fails the other may wait for ever: the first error ends both.
    let (sent, received) = tokio::try_join!(
        sender.send(sizes.0, waits.then_some(peer_ended)),
        receive(reader, Pattern::new(incoming), sizes.1, ended),
    )?;
    Ok(Digests { sent, received })
}

struct Sender {
    writer: OwnedWriteHalf,
    pattern: Pattern,
    pacing: Option<ChaCha8Rng>,
    hash: Sha256,
}

impl Sender {
    /// Sends `total` bytes and FIN; the second half after the peer's FIN where there is one to wait for.
    async fn send(
        mut self,
        total: u64,
        peer_ended: Option<oneshot::Receiver<()>>,
    ) -> Result<[u8; 32], String> {
        if let Some(peer_ended) = peer_ended {
            self.write(total / 2).await?;
            peer_ended
                .await
                .map_err(|_| "no FIN to wait for".to_owned())?;
            self.write(total - total / 2).await?;
        } else {
            self.write(total).await?;
        }
        self.writer
            .shutdown()
            .await
            .map_err(|error| format!("shutdown: {error}"))?;
        Ok(self.hash.finalize().into())
    }

    async fn write(&mut self, bytes: u64) -> Result<(), String> {
        let mut left = bytes;
        while left > 0 {
            let mut most = usize::try_from(left).unwrap_or(usize::MAX);
            if let Some(rng) = &mut self.pacing {
                most = most.min(rng.random_range(1..=BLOCK));
                if rng.random_bool(0.01) {
                    tokio::time::sleep(Duration::from_millis(rng.random_range(1..20))).await;
                }
            }
            let bytes = self.pattern.next(most);
            self.hash.update(bytes);
            let written = self.writer.write_all(bytes).await;
            written.map_err(|error| format!("write, {left} bytes left: {error}"))?;
            left -= bytes.len() as u64;
        }
        Ok(())
    }
}

/// Receives until FIN and compares every byte.
async fn receive(
    mut reader: OwnedReadHalf,
    mut pattern: Pattern,
    total: u64,
    ended: oneshot::Sender<()>,
) -> Result<[u8; 32], String> {
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BLOCK];
    let mut count = 0_u64;
    loop {
        let read = reader.read(&mut buffer).await;
        let read = read.map_err(|error| format!("read at {count} of {total}: {error}"))?;
        if read == 0 {
            break;
        }
        let mut rest = &buffer[..read];
        hash.update(rest);
        while !rest.is_empty() {
            let expected = pattern.next(rest.len());
            let (got, later) = rest.split_at(expected.len());
            if let Some(at) = got
                .iter()
                .zip(expected)
                .position(|(got, expected)| got != expected)
            {
                return Err(format!("wrong byte at {} of {total}", count + at as u64));
            }
            count += got.len() as u64;
            rest = later;
        }
    }
    let _ = ended.send(());
    if count == total {
        Ok(hash.finalize().into())
    } else {
        Err(format!("FIN after {count} of {total} bytes"))
    }
}

/// The bytes of one direction, made block by block, so that they don't depend on how they are asked for.
struct Pattern {
    rng: ChaCha8Rng,
    block: Vec<u8>,
    used: usize,
}

impl Pattern {
    fn new(rng: ChaCha8Rng) -> Self {
        Self {
            rng,
            block: vec![0; BLOCK],
            used: BLOCK,
        }
    }

    /// The next 1 to `most` bytes.
    fn next(&mut self, most: usize) -> &[u8] {
        if self.used == BLOCK {
            self.rng.fill_bytes(&mut self.block);
            self.used = 0;
        }
        let start = self.used;
        self.used += most.min(BLOCK - start);
        &self.block[start..self.used]
    }
}

/// The use of a pseudo-random sequence.
enum Sequence {
    Plan,
    Up,
    Down,
    Pacing(Role),
}

fn sequence(seed: u64, id: u64, purpose: Sequence) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let number = match purpose {
        Sequence::Plan => 0,
        Sequence::Up => 1,
        Sequence::Down => 2,
        Sequence::Pacing(Role::Client) => 3,
        Sequence::Pacing(Role::Target) => 4,
    };
    rng.set_stream(id * 8 + number);
    rng
}

/// Size of an encoded plan.
const PLAN_BYTES: usize = 34;
/// Bytes made at once; also the largest read and write.
const BLOCK: usize = 64 * 1024;
