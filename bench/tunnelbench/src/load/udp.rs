//! Datagrams there and back: as many as the tunnel carries with a fixed number in flight, or at a fixed rate.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tokio::net::UdpSocket;
use tokio::task::LocalSet;
use tokio::time::{sleep, timeout};

use super::{Common, WARM_UP};
use crate::report::{add_latency, round};
use crate::{pattern, socket, usage};

#[derive(Clone, Args)]
pub(crate) struct UdpArgs {
    /// Bytes of a datagram
    #[arg(long, default_value_t = 64)]
    size: usize,
    /// Flows, each a socket
    #[arg(long, default_value_t = 1)]
    flows: usize,
    /// Datagrams in flight over all flows: each answer asks the next question
    #[arg(long, default_value_t = 128, conflicts_with = "rate")]
    in_flight: usize,
    /// Datagrams per second over all flows, sent whether answers come or not
    #[arg(long)]
    rate: Option<f64>,
    #[command(flatten)]
    common: Common,
}

pub(crate) async fn run(args: UdpArgs) -> io::Result<Value> {
    if args.size < STAMPED || args.flows == 0 {
        let wanted = format!("--size from {STAMPED}, --flows from 1");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, wanted));
    }
    let flows: Vec<Arc<Flow>> = (0..args.flows)
        .map(|id| Flow::open(id, args.size, args.common.address).map(Arc::new))
        .collect::<io::Result<_>>()?;
    let window = Window::from_now(args.common.secs);
    let local = LocalSet::new();
    let receiving: Vec<_> = flows
        .iter()
        .enumerate()
        .map(|(id, flow)| {
            let flow = Arc::clone(flow);
            let in_flight = match args.rate {
                Some(_) => 0,
                // The remainder goes to the first flows; none has less than one.
                None => {
                    let rest = usize::from(id < args.in_flight % args.flows);
                    (args.in_flight / args.flows + rest).max(1)
                }
            };
            local.spawn_local(async move { flow.run(window, in_flight).await })
        })
        .collect();
    if let Some(rate) = args.rate {
        let flows = flows.clone();
        thread::spawn(move || pace(&flows, window, rate));
    }
    let pids = args.common.pids.clone();
    let measured = async {
        sleep(window.from.saturating_duration_since(Instant::now())).await;
        let before = usage::of(&pids);
        sleep(window.until.saturating_duration_since(Instant::now())).await;
        let after = usage::of(&pids);
        let mut all = Seen::default();
        for task in receiving {
            let seen = task.await.map_err(io::Error::other)??;
            all.samples.extend(seen.samples);
            all.strays += seen.strays;
        }
        io::Result::Ok((before, after, all))
    };
    let (before, after, mut all) = local.run_until(measured).await?;

    let sent: u64 = flows
        .iter()
        .map(|flow| flow.counted.load(Ordering::Relaxed))
        .sum();
    let answered = all.samples.len() as f64;
    let mut report = json!({
        "per_s": round(answered / args.common.secs, 0),
        "sent_per_s": round(sent as f64 / args.common.secs, 0),
        "loss_percent": round(100.0 * (1.0 - answered / (sent as f64).max(1.0)), 3),
        "errors": all.strays,
        "cpu": usage::cost(&before, &after, "cpu_us_per_op", answered / 1e6),
    });
    add_latency(&mut all.samples, &mut report);
    Ok(report)
}

/// Only datagrams that were sent within it count, whenever they come back.
#[derive(Clone, Copy)]
struct Window {
    begun: Instant,
    from: Instant,
    until: Instant,
}

impl Window {
    fn from_now(secs: f64) -> Self {
        let begun = Instant::now();
        let from = begun + WARM_UP;
        let until = from + Duration::from_secs_f64(secs);
        Self { begun, from, until }
    }

    fn counts(self, at: Instant) -> bool {
        (self.from..self.until).contains(&at)
    }
}

/// Answers that one flow has had back.
#[derive(Default)]
struct Seen {
    /// Nanoseconds from sending to receiving.
    samples: Vec<u64>,
    /// Datagrams of another length, or of another flow.
    strays: u64,
}

struct Flow {
    id: u64,
    size: usize,
    socket: StdUdpSocket,
    /// Datagrams sent within the window.
    counted: AtomicU64,
}

impl Flow {
    fn open(id: usize, size: usize, address: SocketAddr) -> io::Result<Self> {
        let socket = StdUdpSocket::bind("127.0.0.1:0")?;
        socket::enlarge_buffers(&socket);
        socket.connect(address)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            id: id as u64,
            size,
            socket,
            counted: AtomicU64::new(0),
        })
    }

    /// Receives until all has come that will, and keeps so many in flight (0: leaves sending to `pace`).
    async fn run(&self, window: Window, in_flight: usize) -> io::Result<Seen> {
        let socket = UdpSocket::from_std(self.socket.try_clone()?)?;
        let (mut seen, mut buffer) = (Seen::default(), vec![0; LARGEST]);
        let (mut question, mut unanswered) = (self.question(), VecDeque::new());
        while Instant::now() < window.until + LINGER {
            while unanswered.front().is_some_and(is_lost) {
                unanswered.pop_front();
            }
            while unanswered.len() < in_flight && Instant::now() < window.until {
                unanswered.push_back(self.send(&mut question, window));
            }
            if let Ok(ready) = timeout(LOST_AFTER, socket.readable()).await {
                ready?;
            }
            // Readiness may be spurious, and a closed port behind the tunnel comes as an error.
            for _ in 0..RECEIVED_AT_ONCE {
                let Ok(length) = socket.try_recv(&mut buffer) else {
                    break;
                };
                let Some(at) = self.sent_at(&buffer[..length], window) else {
                    seen.strays += 1;
                    continue;
                };
                if let Ok(place) = unanswered.binary_search(&at) {
                    unanswered.remove(place);
                }
                if window.counts(at) {
                    seen.samples.push(at.elapsed().as_nanos() as u64);
                }
            }
        }
        Ok(seen)
    }

    fn question(&self) -> Vec<u8> {
        vec![pattern::ECHO; self.size]
    }

    /// Stamps a datagram with its flow and its time, and sends it. One that the kernel doesn't take counts as lost.
    fn send(&self, datagram: &mut [u8], window: Window) -> Instant {
        let nanos = window.begun.elapsed().as_nanos() as u64;
        let at = window.begun + Duration::from_nanos(nanos);
        datagram[..8].copy_from_slice(&self.id.to_be_bytes());
        datagram[8..STAMPED].copy_from_slice(&nanos.to_be_bytes());
        let _ = self.socket.send(datagram);
        if window.counts(at) {
            self.counted.fetch_add(1, Ordering::Relaxed);
        }
        at
    }

    /// Time at which an answer's question was sent; none where it isn't one of this flow's.
    fn sent_at(&self, answer: &[u8], window: Window) -> Option<Instant> {
        let (id, rest) = answer.split_first_chunk()?;
        let (nanos, _) = rest.split_first_chunk()?;
        let is_ours = answer.len() == self.size && u64::from_be_bytes(*id) == self.id;
        is_ours.then(|| window.begun + Duration::from_nanos(u64::from_be_bytes(*nanos)))
    }
}

/// Sends at a steady rate, over the flows in turn. A thread, because a runtime's timers are a millisecond apart.
#[expect(clippy::disallowed_methods, reason = "the rate is a matter of time")]
fn pace(flows: &[Arc<Flow>], window: Window, rate: f64) {
    let Some(mut question) = flows.first().map(|flow| flow.question()) else {
        return;
    };
    for (sent, flow) in (0_u64..).zip(flows.iter().cycle()) {
        let due = window.begun + Duration::from_secs_f64(sent as f64 / rate);
        if due >= window.until {
            return;
        }
        thread::sleep(due.saturating_duration_since(Instant::now()));
        flow.send(&mut question, window);
    }
}

fn is_lost(sent_at: &Instant) -> bool {
    sent_at.elapsed() > LOST_AFTER
}

/// Bytes of a datagram's stamp: its flow, and when it was sent.
const STAMPED: usize = 16;
/// Bytes of the largest datagram that IPv4 carries.
const LARGEST: usize = 65_507;
/// Time after the window in which answers are waited for.
const LINGER: Duration = Duration::from_millis(500);
/// Age at which a closed loop takes a datagram for lost, and sends another in its place.
const LOST_AFTER: Duration = Duration::from_millis(200);
/// Answers taken before questions are sent again.
const RECEIVED_AT_ONCE: usize = 64;
