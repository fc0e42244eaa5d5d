//! `tunnelbench`: loads a TCP and UDP tunnel, serves as the target behind it, and says what the processes between cost.
//!
//! `target` runs behind the tunnel; every other command is a client in front of it and prints one line of JSON.
//! Client and target are single-threaded (bulk streams beside a ping-pong get a thread of their own), so that most
//! of the machine is left to the tunnel.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use serde_json::Value;
use tokio::runtime::{Builder, Handle, Runtime};

mod line;
mod load;
mod pattern;
mod report;
mod socket;
mod target;
mod usage;

use line::LineArgs;
use load::bulk::BulkArgs;
use load::exchange::ExchangeArgs;
use load::ping::PingArgs;
use load::quic::QuicArgs;
use load::streams::StreamsArgs;
use load::udp::UdpArgs;
use load::{Common, Direction};

#[derive(Parser)]
#[command(about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// The target behind the tunnel: sink, source and echo on one port, echo on the same port of UDP
    Target {
        #[arg(long)]
        address: SocketAddr,
        /// Ends by itself after this many seconds, whatever becomes of the bench
        #[arg(long, default_value_t = 3600)]
        secs: u64,
    },
    /// Throughput, and CPU per GB delivered
    Bulk(BulkArgs),
    /// New connections: 64 bytes there and back, close
    Conn(PingArgs),
    /// Ping-pong on connections that stay
    Rtt(PingArgs),
    /// Ping-pong beside bulk streams in the same tunnel
    Mixed {
        #[arg(long, default_value_t = 8)]
        streams: usize,
        /// Holds each bulk reader to this rate in Mbit/s (0: as fast as it can)
        #[arg(long, default_value_t = 0.0)]
        read_mbit: f64,
        #[command(flatten)]
        common: Common,
    },
    /// Memory of idle connections
    Idle {
        #[arg(long, default_value_t = 5000)]
        connections: usize,
        /// Gives up opening after this many seconds
        #[arg(long, default_value_t = 30)]
        limit: u64,
        #[command(flatten)]
        common: Common,
    },
    /// The cost of many connections: of opening and of holding them, and of a round trip while they are there
    Streams(StreamsArgs),
    /// Cost of idle processes
    Weigh {
        #[arg(long, value_delimiter = ',')]
        pids: Vec<u32>,
        #[arg(long, default_value_t = 30.0)]
        secs: f64,
    },
    /// Datagrams there and back
    Udp(UdpArgs),
    /// Independent exchanges at a fixed rate, each on a new connection
    Exchange(ExchangeArgs),
    /// Throughput of QUIC alone, without a tunnel
    Quic(QuicArgs),
    /// The server of `quic`
    QuicServer {
        #[arg(long)]
        address: SocketAddr,
        /// File that its certificate is written to
        #[arg(long)]
        certificate: PathBuf,
    },
    /// A line with delay and loss between two network namespaces
    Line(LineArgs),
}

fn main() {
    socket::raise_descriptor_limit();
    let ended = runtime().and_then(|runtime| runtime.block_on(run(Cli::parse().command)));
    if let Err(error) = &ended {
        eprintln!("tunnelbench: {error}");
    }
    // Streams may still be running; the end of the process closes them.
    std::process::exit(i32::from(ended.is_err()));
}

async fn run(command: Command) -> io::Result<()> {
    let result = match command {
        Command::Target { address, secs } => {
            return target::serve(address, Duration::from_secs(secs)).await;
        }
        Command::QuicServer {
            address,
            certificate,
        } => return load::quic::serve(address, &certificate).await,
        Command::Line(args) => return line::run(&args),
        Command::Udp(args) => load::udp::run(args).await?,
        Command::Exchange(args) => load::exchange::run(args).await?,
        Command::Streams(args) => load::streams::run(args).await?,
        Command::Weigh { pids, secs } => usage::weigh(&pids, secs).await,
        Command::Quic(args) => load::quic::run(args).await?,
        Command::Bulk(args) => load::bulk::run(args).await?,
        Command::Conn(args) => load::ping::new_connections(args).await?,
        Command::Rtt(args) => load::ping::round_trips(args, Duration::ZERO).await?,
        Command::Mixed {
            streams,
            read_mbit,
            common,
        } => mixed(streams, read_mbit, common).await?,
        Command::Idle {
            connections,
            limit,
            common,
        } => load::idle::run(connections, Duration::from_secs(limit), common).await?,
    };
    println!("{result}");
    Ok(())
}

/// Ping-pong every 2 ms on 4 connections, while bulk streams come down on a thread of their own.
async fn mixed(streams: usize, read_mbit: f64, common: Common) -> io::Result<Value> {
    let bulk = BulkArgs {
        target: None,
        streams,
        direction: Direction::Down,
        read_mbit,
        stalled: 0,
        common: common.clone(),
    };
    let bulk = runtime_thread()?.spawn(load::bulk::run(bulk));
    let ping = PingArgs {
        concurrency: 4,
        size: 64,
        common: Common {
            pids: Vec::new(), // accounted for on the bulk side
            ..common
        },
    };
    let rtt = load::ping::round_trips(ping, Duration::from_millis(2)).await?;
    Ok(serde_json::json!({"rtt": rtt, "bulk": bulk.await??}))
}

/// A single-threaded runtime on a thread of its own, which lives as long as the process.
fn runtime_thread() -> io::Result<Handle> {
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
    Ok(handle)
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
