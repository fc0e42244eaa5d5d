//! Runs a session over one TLS connection: read, open, apply; schedule, seal, write; wait.
//!
//! A turn reads what the socket has, gives each stream's socket its payload, then fills the
//! socket with as many sealed records as it has unsent room for, in one write.

use super::TcpTls;
use crate::session::delivery::{Owner, Prelude, deliver};
use crate::session::local_session::LocalSession;
use crate::transport::error::ConnectionError;
use bytes::{Buf, BufMut, Bytes};
use remoteingress_core::doctor::tunnel::PathLoss;
use remoteingress_os::readiness::read_was_short;
use remoteingress_os::socket_options::{TUNNEL_UNSENT, path_rtt, repeated_segments, unsent_bytes};
use remoteingress_proto::wire::frame::MAX_FRAME_LEN;
use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::time::Sleep;

/// Interval at which a connection whose socket takes nothing is checked.
const BLOCKED_RECHECK: Duration = Duration::from_millis(100);
/// The kernel is asked for the round trip before a turn seals, at most this often.
const PATH_INTERVAL: Duration = Duration::from_millis(5);
/// Reads and writes of one turn, so that other tasks of the worker get theirs.
const ROUNDS: usize = 4;

/// Runs until the connection ends. Dropping the future is safe at any time: sealed records stay with the connection, and
/// what a dead one has not delivered is replayed after a resume.
pub(crate) async fn drive(
    local: &LocalSession,
    connection: &mut TcpTls,
    owner: &impl Owner,
) -> ConnectionError {
    let error = run(local, connection, owner).await;
    if matches!(error, ConnectionError::Tls(_)) {
        connection.alert();
    }
    error
}

async fn run(local: &LocalSession, connection: &mut TcpTls, owner: &impl Owner) -> ConnectionError {
    let leftover = std::mem::take(&mut connection.leftover);
    let mut driver = Driver {
        local,
        owner,
        connection,
        prelude: Prelude::default(),
        payloads: Vec::new(),
        timer: Box::pin(tokio::time::sleep_until(Instant::now().into())),
        armed: Instant::now(),
        write_blocked: false,
        path_asked: None,
    };
    driver.payloads.push(leftover);
    if let Err(error) = driver.open() {
        return error;
    }
    poll_fn(|cx| driver.poll(cx)).await
}

struct Driver<'a, O> {
    local: &'a LocalSession,
    owner: &'a O,
    connection: &'a mut TcpTls,
    prelude: Prelude,
    payloads: Vec<Bytes>,
    timer: Pin<Box<Sleep>>,
    armed: Instant,
    write_blocked: bool,
    path_asked: Option<Instant>,
}

impl<O: Owner> Driver<'_, O> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionError> {
        match self.turn(cx) {
            Ok(()) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Result<(), ConnectionError> {
        self.local.settle();
        let tcp = &self.connection.tcp;
        self.local.tell_loss(|| {
            let repeated = repeated_segments(tcp).ok()?.into();
            Some(PathLoss::Repeated(repeated))
        });
        let mut more = self.read(cx)?;
        let now = Instant::now();
        if self.timer.as_mut().poll(cx).is_ready() {
            self.local.session().handle_timeout(now)?;
            self.armed = now;
        }
        self.local.register(cx.waker());
        deliver(self.local, self.owner, now)?;
        if self.write_blocked {
            match self.connection.tcp.poll_write_ready(cx) {
                Poll::Ready(ready) => {
                    ready?;
                    self.write_blocked = false;
                }
                Poll::Pending => {}
            }
        }
        more |= self.write(now)?;
        deliver(self.local, self.owner, now)?;
        // The registration of write readiness, if the write above found the socket full.
        if self.write_blocked && self.connection.tcp.poll_write_ready(cx).is_ready() {
            more = true;
        }
        self.arm(cx, now);
        if more {
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// Reads, opens and applies; says whether there is more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        for _ in 0..ROUNDS {
            match self.connection.tcp.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => return Ok(false),
            }
            let TcpTls { tcp, tls, .. } = &mut *self.connection;
            let mut buffer = tls.receive_buffer();
            let room = buffer.remaining_mut();
            match tcp.try_read_buf(&mut buffer) {
                Ok(0) => {
                    let reset =
                        io::Error::new(ErrorKind::UnexpectedEof, "end without close_notify");
                    return Err(reset.into());
                }
                Ok(read) => {
                    if read < room {
                        read_was_short(tcp);
                    }
                    self.open()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Applies what the TLS connection has received, and gives sockets their payload.
    fn open(&mut self) -> Result<(), ConnectionError> {
        let now = Instant::now();
        let opened = self.connection.tls.open(&mut self.payloads)?;
        self.local.heard();
        for payload in self.payloads.drain(..) {
            let had_begun = self.prelude.is_over();
            if let Some(payload) = self.prelude.pass(self.owner, payload)? {
                if !had_begun {
                    self.connection.widen();
                }
                self.local.session().handle_input(now, payload)?;
            }
        }
        deliver(self.local, self.owner, now)?;
        if opened.peer_closed {
            Err(ConnectionError::Closed)
        } else {
            Ok(())
        }
    }

    /// Fills the socket; says whether there is more than a turn's worth.
    fn write(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        for _ in 0..ROUNDS {
            if self.write_blocked {
                return Ok(false);
            }
            if !self.connection.out.has_remaining() && !self.seal(now)? {
                return Ok(false);
            }
            let TcpTls { tcp, out, .. } = &mut *self.connection;
            match tcp.try_write(out.chunk()) {
                Ok(taken) => {
                    out.advance(taken);
                    self.write_blocked = out.has_remaining();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.write_blocked = true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(true)
    }

    /// Seals as much as the socket has unsent room for, at least one record; false if there is nothing.
    fn seal(&mut self, now: Instant) -> Result<bool, ConnectionError> {
        let TcpTls { tcp, tls, out, .. } = &mut *self.connection;
        let mut room = None;
        let mut session = self.local.session();
        if self.path_asked.is_none_or(|at| now >= at + PATH_INTERVAL) {
            self.path_asked = Some(now);
            session.set_path_rtt(now, path_rtt(tcp)?);
        }
        let mut sealing = tls.sealing(&mut out.records)?;
        while let Some(frame) = session.poll_transmit(now) {
            sealing.push(&frame)?;
            if sealing.size() < MAX_FRAME_LEN {
                continue;
            }
            let room = match room {
                Some(room) => room,
                None => *room.insert((TUNNEL_UNSENT as usize).saturating_sub(unsent_bytes(tcp)?)),
            };
            if sealing.size() >= room {
                break;
            }
        }
        sealing.finish()?;
        Ok(out.has_remaining())
    }

    /// One timer for whatever the session waits for. It fires early rather than being set back.
    fn arm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(mut at) = self.local.session().poll_timeout() else {
            return;
        };
        // Anything overdue because the socket is full goes out once it has room; only death is left to notice.
        if self.write_blocked {
            at = at.max(now + BLOCKED_RECHECK);
        }
        if self.armed <= now || at < self.armed {
            self.armed = at;
            self.timer.as_mut().reset(at.into());
            if self.timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
    }
}
