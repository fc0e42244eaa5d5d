//! Streams that are repeated on another target where one resets them before it says anything (`resetBeforeReply`): until
//! then the client's first bytes are kept, and the stream isn't joined to the target's socket for good.
//!
//! ```text
//!            ┌──────────── reset ◄─────────────┐
//!            ▼                                 │
//! take a target ──► send what the client said ─┴─► it says something, or the client said too much ──► Pipe
//! ```

use super::context::SessionContext;
use super::pools::dialling::{PoolDial, Reached, Unreached};
use super::pools::selection::HeldSlot;
use super::target::{DialError, prefix};
use bytes::{Buf, Bytes};
use remoteingress_config::TcpProxyProtocol;
use remoteingress_config::reasons::HubRefusalReason;
use remoteingress_core::hub::upstream::Target;
use remoteingress_proto::mux::StreamKey;
use remoteingress_tunnel::stream::splice::Pipe;
use remoteingress_tunnel::stream::tunnel_stream::TunnelStream;
use std::collections::VecDeque;
use std::future::pending;
use std::io::{self, ErrorKind};
use std::rc::Rc;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes of a client that are kept; one that says more is no longer repeated.
const MAX_KEPT: usize = 64 * 1_024;

/// A stream and the target that has spoken to it.
pub(super) struct Joined {
    pub(super) pipe: Rc<Pipe>,
    pub(super) target: Target<TcpProxyProtocol>,
    pub(super) held: HeldSlot,
    /// Targets that were dialled for it.
    pub(super) attempts: u32,
}

/// Why a stream has no target.
pub(super) enum Unjoined {
    /// Its client, or its tunnel, has left.
    Left,
    Unreached(Unreached),
}

/// How a target took what the client said.
enum Verdict {
    /// It answers, or ends in order.
    Speaks,
    /// The client said more than is kept.
    TooMuch,
    Reset,
    /// The client has left.
    Left,
}

/// What the client has said.
#[derive(Default)]
struct Said {
    pieces: Vec<Bytes>,
    bytes: usize,
    has_ended: bool,
}

/// True if the pool's streams are repeated.
pub(super) fn repeats(session: &SessionContext, pool_dial: &PoolDial) -> bool {
    let view = session.worker.pools();
    let pool = view.pool(&pool_dial.pool);
    pool.is_some_and(|pool| pool.live.config.reset_before_reply)
}

/// Brings a stream, which nobody else has taken, to a target that says something to it.
pub(super) async fn join(
    session: &Rc<SessionContext>,
    key: StreamKey,
    pool_dial: &mut PoolDial,
) -> Result<Joined, Unjoined> {
    let mut stream = TunnelStream::new(&session.local, key);
    let worker = &session.worker;
    let config = worker.state.config();
    let mut said = Said::default();
    let mut attempts = 0;
    loop {
        let reaching = pool_dial.reach(worker, &config);
        let reached = stream.unless_ended(reaching).await.ok_or(Unjoined::Left)?;
        let Reached {
            mut socket,
            target,
            held,
            attempts: more,
        } = match reached {
            Ok(reached) => reached,
            Err(unreached) => return Err(end(stream, unreached)),
        };
        attempts += more;
        let header = &pool_dial.opening.header;
        let id = || session.local.stream_name(key);
        let prefix = prefix(target.proxy_protocol, &pool_dial.allowed, header, id);
        let mut unsent: VecDeque<Bytes> = [prefix].into_iter().chain(said.pieces.clone()).collect();
        match try_out(&mut stream, &mut said, &mut socket, &mut unsent).await {
            Verdict::Speaks | Verdict::TooMuch => {
                return Ok(Joined {
                    pipe: hand_over(stream, socket, unsent),
                    target,
                    held,
                    attempts,
                });
            }
            Verdict::Left => return Err(Unjoined::Left),
            Verdict::Reset => {}
        }
        if said.bytes == 0 {
            // What a client has said may be why: anybody could say that to harm the target.
            held.was_reset(worker);
        }
        let number = held.number();
        if attempts > held.retries() || number.is_none() || !held.may_retry(worker) {
            let reason = HubRefusalReason::RetriesExhausted;
            let error = "reset the stream before its first byte".to_owned();
            let error = DialError::Unreachable(target.name(), error);
            return Err(end(stream, Unreached::Failed(error, Some(reason))));
        }
        pool_dial.avoid.extend(number);
    }
}

fn end(stream: TunnelStream, unreached: Unreached) -> Unjoined {
    stream.reset(unreached.abort_code());
    Unjoined::Unreached(unreached)
}

/// Sends what the client says, and waits for what the target makes of it.
async fn try_out(
    stream: &mut TunnelStream,
    said: &mut Said,
    socket: &mut TcpStream,
    unsent: &mut VecDeque<Bytes>,
) -> Verdict {
    let mut has_ended = false;
    loop {
        unsent.retain(|piece| !piece.is_empty());
        if said.has_ended && unsent.is_empty() && !has_ended {
            has_ended = true;
            if socket.shutdown().await.is_err() {
                return Verdict::Reset;
            }
        }
        let mut first = [0];
        tokio::select! {
            biased;
            // The byte stays in the socket, for whoever gets that.
            peeked = socket.peek(&mut first) => {
                return if peeked.is_ok() { Verdict::Speaks } else { Verdict::Reset };
            }
            ready = socket.writable(), if !unsent.is_empty() => {
                if ready.and_then(|()| send(socket, unsent)).is_err() {
                    return Verdict::Reset;
                }
            }
            listened = listen(stream, said) => match listened {
                Ok(Some(piece)) => unsent.push_back(piece),
                Ok(None) => {}
                Err(_) => return Verdict::Left,
            }
        }
        if said.bytes > MAX_KEPT {
            return Verdict::TooMuch;
        }
    }
}

/// The client's next bytes; none at its end. After that it waits for the stream to fail.
async fn listen(stream: &mut TunnelStream, said: &mut Said) -> io::Result<Option<Bytes>> {
    if said.has_ended {
        let waited = stream.unless_ended(pending::<()>()).await;
        return waited
            .map(|()| None)
            .ok_or_else(|| ErrorKind::ConnectionReset.into());
    }
    let piece = stream.read_chunk(MAX_KEPT + 1 - said.bytes).await?;
    if piece.is_empty() {
        said.has_ended = true;
        return Ok(None);
    }
    said.bytes += piece.len();
    said.pieces.push(piece.clone());
    Ok(Some(piece))
}

/// Sends as much as the socket takes.
fn send(socket: &TcpStream, unsent: &mut VecDeque<Bytes>) -> io::Result<()> {
    while let Some(piece) = unsent.front_mut() {
        match socket.try_write(piece) {
            Ok(sent) if sent < piece.len() => piece.advance(sent),
            Ok(_) => {
                unsent.pop_front();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Joins the stream to the socket, which gets what is unsent first.
fn hand_over(stream: TunnelStream, socket: TcpStream, unsent: VecDeque<Bytes>) -> Rc<Pipe> {
    let pieces: Vec<Bytes> = unsent.into();
    stream.into_pipe(socket, pieces.concat().into())
}
