//! Raw QUIC, without a relay: what quinn costs alone, as client and as server, each a process with one thread.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, EndpointConfig, RecvStream, SendStream, TokioRuntime};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{Common, Direction, Phase, WARM_UP};
use crate::report::round;
use crate::{pattern, socket, usage};

#[derive(Args)]
pub(crate) struct QuicArgs {
    /// The certificate that the server has written
    #[arg(long)]
    certificate: PathBuf,
    /// Streams of one connection
    #[arg(long, default_value_t = 1)]
    streams: usize,
    #[arg(long, value_enum, default_value = "down")]
    direction: Direction,
    /// `--pids` is the server's; this process is accounted for beside it
    #[command(flatten)]
    common: Common,
}

/// Serves until the process ends: sinks or pours on each stream as its first byte says.
pub(crate) async fn serve(address: SocketAddr, certificate: &Path) -> io::Result<()> {
    let made =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let tls = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|tls| {
            tls.with_no_client_auth()
                .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
        })
        .map_err(io::Error::other)?;
    let tls = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    let endpoint = endpoint(address, Some(config))?;
    std::fs::write(certificate, made.cert.der())?;
    println!("quic on {}", endpoint.local_addr()?);
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async move {
            let connection = incoming.await.map_err(io::Error::other)?;
            while let Ok((send, receive)) = connection.accept_bi().await {
                tokio::spawn(answer(send, receive));
            }
            io::Result::Ok(())
        });
    }
    Ok(())
}

/// A sink tells, every so often, how much it has had: what a client wrote may still be in buffers.
async fn answer(mut send: SendStream, mut receive: RecvStream) -> io::Result<()> {
    let mut first = [0];
    receive
        .read_exact(&mut first)
        .await
        .map_err(io::Error::other)?;
    if first[0] == pattern::SINK {
        let (mut sunk, mut told) = (0_u64, Instant::now());
        while let Some(chunk) = receive.read_chunk(READ_AT_MOST, true).await? {
            sunk += chunk.bytes.len() as u64;
            if told.elapsed() > TELL_EVERY {
                told = Instant::now();
                send.write_all(&sunk.to_be_bytes()).await?;
            }
        }
        return Ok(());
    }
    let chunk = pattern::chunk();
    loop {
        send.write_all(&chunk).await?;
    }
}

pub(crate) async fn run(args: QuicArgs) -> io::Result<Value> {
    let mut pids = args.common.pids.clone();
    pids.push(std::process::id());
    let connection = connect(&args).await?;
    let (phase, errors) = (Arc::new(Phase::default()), Arc::new(AtomicU64::new(0)));
    let moved: Vec<Arc<AtomicU64>> = (0..args.streams).map(|_| Arc::default()).collect();
    for moved in &moved {
        let moved = Arc::clone(moved);
        let (connection, phase, errors) =
            (connection.clone(), Arc::clone(&phase), Arc::clone(&errors));
        tokio::spawn(async move {
            let ended = stream(&connection, args.direction, &moved).await;
            if !phase.is_over() {
                eprintln!("stream ended early: {ended:?}");
                errors.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let delivered = || -> Vec<u64> {
        let each = moved.iter().map(|moved| moved.load(Ordering::Relaxed));
        each.collect()
    };
    sleep(WARM_UP).await;
    let (begun, before, used_before) = (Instant::now(), delivered(), usage::of(&pids));
    sleep(Duration::from_secs_f64(args.common.secs)).await;
    let (secs, after, used_after) = (begun.elapsed(), delivered(), usage::of(&pids));
    phase.next();
    phase.next();
    let each: Vec<u64> = after.iter().zip(&before).map(|(a, b)| a - b).collect();
    let bytes = each.iter().sum::<u64>() as f64;
    let slowest = each.iter().min().copied().unwrap_or(0) as f64;
    let fastest = each.iter().max().copied().unwrap_or(0).max(1) as f64;
    Ok(json!({
        "gbit_s": round(bytes * 8.0 / secs.as_secs_f64() / 1e9, 3),
        "slowest_to_fastest": round(slowest / fastest, 3),
        "errors": errors.load(Ordering::Relaxed),
        "cpu": usage::cost(&used_before, &used_after, "cpu_s_per_gb", bytes / 1e9),
    }))
}

/// `moved` is what has arrived at the stream's other end.
async fn stream(
    connection: &Connection,
    direction: Direction,
    moved: &AtomicU64,
) -> io::Result<()> {
    let (mut send, mut receive) = connection.open_bi().await?;
    match direction {
        Direction::Down => {
            send.write_all(&[pattern::SOURCE]).await?;
            while let Some(chunk) = receive.read_chunk(READ_AT_MOST, true).await? {
                moved.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            }
            Ok(())
        }
        Direction::Up => {
            send.write_all(&[pattern::SINK]).await?;
            let pour = async {
                let chunk = pattern::chunk();
                loop {
                    send.write_all(&chunk).await?;
                }
            };
            let listen = async {
                let mut sunk = [0; 8];
                loop {
                    receive
                        .read_exact(&mut sunk)
                        .await
                        .map_err(io::Error::other)?;
                    moved.store(u64::from_be_bytes(sunk), Ordering::Relaxed);
                }
            };
            tokio::select! {
                ended = pour => ended,
                ended = listen => ended,
            }
        }
    }
}

async fn connect(args: &QuicArgs) -> io::Result<Connection> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from(std::fs::read(&args.certificate)?);
    roots.add(certificate).map_err(io::Error::other)?;
    let tls = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tls = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut endpoint = endpoint(SocketAddr::from(([127, 0, 0, 1], 0)), None)?;
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connecting = endpoint.connect(args.common.address, "localhost");
    connecting
        .map_err(io::Error::other)?
        .await
        .map_err(io::Error::other)
}

/// quinn's own settings throughout, but for the kernel's buffers, whose default loses datagrams on loopback.
fn endpoint(address: SocketAddr, server: Option<quinn::ServerConfig>) -> io::Result<Endpoint> {
    let socket = UdpSocket::bind(address)?;
    socket::enlarge_buffers(&socket);
    Endpoint::new(
        EndpointConfig::default(),
        server,
        socket,
        Arc::new(TokioRuntime),
    )
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Bytes.
const READ_AT_MOST: usize = 1 << 20;
/// Short beside a measurement of seconds, long beside a read.
const TELL_EVERY: Duration = Duration::from_millis(5);
