//! The tunnel over TLS on TCP: an established connection with its socket, and the few messages of the handshake on it.

pub(super) mod driver;

use super::driver::ConnectionError;
use super::tls::TlsConnection;
use bytes::{Bytes, BytesMut};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A proper end is offered to the peer for so long.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// It moves between threads as a whole, see [`TcpTls::detach`].
pub(crate) struct TcpTls {
    tcp: TcpStream,
    tls: TlsConnection,
    /// Opened bytes that the handshake didn't use: they belong to the session.
    leftover: Bytes,
    /// Sealed records, `written` bytes of which the socket has taken. They go out whatever becomes of who sealed them:
    /// without them no later record could be opened.
    out: Vec<u8>,
    written: usize,
}

/// A connection on its way to another thread's runtime.
pub(crate) struct Detached {
    tcp: std::net::TcpStream,
    tls: TlsConnection,
    leftover: Bytes,
    out: Vec<u8>,
    written: usize,
}

impl TcpTls {
    pub(crate) fn new(tcp: TcpStream, tls: TlsConnection) -> Self {
        Self {
            tcp,
            tls,
            leftover: Bytes::new(),
            out: Vec::new(),
            written: 0,
        }
    }

    /// Sends a message of the handshake.
    pub(crate) async fn send(&mut self, message: &[u8]) -> Result<(), ConnectionError> {
        self.tls.seal(message, &mut self.out)?;
        self.write_out().await?;
        Ok(())
    }

    /// Writes all that is sealed.
    async fn write_out(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            let rest = self.out.get(self.written..).unwrap_or_default();
            self.written += self.tcp.write(rest).await?;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Tells the peer what was wrong with its records, if the socket takes that at once.
    fn alert(&mut self) {
        self.tls.flush(&mut self.out);
        let rest = self.out.get(self.written..).unwrap_or_default();
        // The connection ends either way.
        let _ = self.tcp.try_write(rest);
    }

    /// Reads until `parse` makes something of the bytes so far and says how many it used; at most
    /// `most` bytes are kept for it.
    pub(crate) async fn receive<T, E: From<ConnectionError>>(
        &mut self,
        most: usize,
        mut parse: impl FnMut(&[u8]) -> Result<Option<(T, usize)>, E>,
    ) -> Result<T, E> {
        let mut received = BytesMut::new();
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
    pub(crate) fn widen(&mut self) {
        self.tls.widen();
    }

    /// Whether the hub's key was verified by a pin.
    pub(crate) fn peer_pin_verified(&self) -> bool {
        self.tls.peer_pin_verified()
    }

    pub(crate) fn peer_address(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }

    /// Says goodbye, so that the peer can tell this end from a cut.
    pub(crate) async fn close(mut self) {
        self.tls.close_notify(&mut self.out);
        // The connection ends either way.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, async {
            self.write_out().await?;
            self.tcp.shutdown().await
        })
        .await;
    }

    /// Takes it off this thread's runtime.
    pub(crate) fn detach(self) -> io::Result<Detached> {
        Ok(Detached {
            tcp: self.tcp.into_std()?,
            tls: self.tls,
            leftover: self.leftover,
            out: self.out,
            written: self.written,
        })
    }
}

impl Detached {
    /// Puts it on this thread's runtime.
    pub(crate) fn attach(self) -> io::Result<TcpTls> {
        let tcp = TcpStream::from_std(self.tcp)?;
        Ok(TcpTls {
            tcp,
            tls: self.tls,
            leftover: self.leftover,
            out: self.out,
            written: self.written,
        })
    }
}
