//! The tunnel over TLS on TCP: an established connection with its socket, and the few messages of the handshake on it.

pub(super) mod driver;

use super::error::ConnectionError;
use super::tls::TlsConnection;
use bytes::{Buf, Bytes, BytesMut};
use remoteingress_proto::token::pin::Pin;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A proper end is offered to the peer for this long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// It moves between threads as a whole, see [`TcpTls::detach`].
pub struct TcpTls {
    tcp: TcpStream,
    peer: SocketAddr,
    tls: TlsConnection,
    /// Opened bytes that the handshake didn't use: they belong to the session.
    leftover: Bytes,
    out: Outgoing,
}

/// Sealed records that the socket has yet to take. They go out whatever becomes of who sealed them: without them no later
/// record could be opened.
#[derive(Default)]
struct Outgoing {
    records: Vec<u8>,
    /// Bytes of `records` that the socket has taken.
    written: usize,
}

/// A connection on its way to another thread's runtime.
pub struct Detached {
    tcp: std::net::TcpStream,
    peer: SocketAddr,
    tls: TlsConnection,
    leftover: Bytes,
    out: Outgoing,
}

impl Buf for Outgoing {
    fn remaining(&self) -> usize {
        self.records.len() - self.written
    }

    fn chunk(&self) -> &[u8] {
        self.records.get(self.written..).unwrap_or_default()
    }

    fn advance(&mut self, taken: usize) {
        self.written += taken;
        if self.written >= self.records.len() {
            self.records.clear();
            self.written = 0;
        }
    }
}

crate::opaque::opaque_debug!(TcpTls);

impl TcpTls {
    /// A connection to this address whose TLS handshake is over. The socket would forget the address with a reset.
    pub fn new(tcp: TcpStream, peer: SocketAddr, tls: TlsConnection) -> Self {
        Self {
            tcp,
            peer,
            tls,
            leftover: Bytes::new(),
            out: Outgoing::default(),
        }
    }

    /// Sends a message of the handshake.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        self.tls.seal(message, &mut self.out.records)?;
        self.tcp.write_all_buf(&mut self.out).await?;
        Ok(())
    }

    /// Tells the peer what was wrong with its records, if the socket takes that at once.
    fn alert(&mut self) {
        self.tls.flush(&mut self.out.records);
        // The connection ends either way.
        if let Ok(taken) = self.tcp.try_write(self.out.chunk()) {
            self.out.advance(taken);
        }
    }

    /// Reads until `parse` makes something of the bytes so far and says how many it used; at most
    /// `most` bytes are kept for it.
    pub async fn receive<T, E: From<ConnectionError>>(
        &mut self,
        most: usize,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, E> {
        let mut received = BytesMut::from(std::mem::take(&mut self.leftover));
        let mut payloads = Vec::new();
        loop {
            let opened = self.tls.open(&mut payloads).map_err(|error| {
                self.alert();
                ConnectionError::from(error)
            })?;
            for payload in payloads.drain(..) {
                received.extend_from_slice(&payload);
            }
            let head = received.get(..most.min(received.len())).unwrap_or_default();
            if let Some((value, used)) = parse(head)? {
                self.leftover = received.split_off(used.min(received.len())).freeze();
                return Ok(value);
            }
            if opened.peer_closed || received.len() >= most {
                return Err(ConnectionError::Closed.into());
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), ConnectionError> {
        loop {
            self.tcp.readable().await?;
            match self.tcp.try_read_buf(&mut self.tls.receive_buffer()) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The peer has proved the secret: larger reads pay now.
    pub fn widen(&mut self) {
        self.tls.widen();
    }

    /// The pin of the key that the peer has shown.
    pub fn peer_pin(&self) -> Option<Pin> {
        self.tls.peer_pin()
    }

    /// True if the hub's key was verified by a pin.
    pub fn peer_pin_verified(&self) -> bool {
        self.tls.peer_pin_verified()
    }

    /// The peer's address.
    pub fn peer_address(&self) -> SocketAddr {
        self.peer
    }

    /// Says goodbye, so that the peer can tell this end from a cut.
    pub async fn close(mut self) {
        self.tls.close_notify(&mut self.out.records);
        // The connection ends either way.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            self.tcp.write_all_buf(&mut self.out).await?;
            self.tcp.shutdown().await
        })
        .await;
    }

    /// Takes it off this thread's runtime.
    pub fn detach(self) -> io::Result<Detached> {
        Ok(Detached {
            tcp: self.tcp.into_std()?,
            peer: self.peer,
            tls: self.tls,
            leftover: self.leftover,
            out: self.out,
        })
    }
}

crate::opaque::opaque_debug!(Detached);

impl Detached {
    /// Puts it on this thread's runtime.
    pub fn attach(self) -> io::Result<TcpTls> {
        let tcp = TcpStream::from_std(self.tcp)?;
        Ok(TcpTls {
            tcp,
            peer: self.peer,
            tls: self.tls,
            leftover: self.leftover,
            out: self.out,
        })
    }
}
