//! The ClientHello of TLS (RFC 8446, 4.1.2), as far as routes ask for it.

use remoteingress_config::host_name::HostName;

/// Bytes of records that are looked at: a hello with post-quantum keys has 2 KiB, one with a long list of certificate
/// authorities and padding some more.
pub const MAX_HELLO: usize = 64 * 1024;
/// Bytes ahead of a handshake message: its type and its length.
pub(super) const HEADER: usize = 4;
const CLIENT_HELLO: u8 = 1;
/// Extensions (RFC 6066, 3, and RFC 7301).
const SERVER_NAME: u16 = 0;
const ALPN: u16 = 16;
/// The only type of name that there is (RFC 6066, 3).
const HOST_NAME: u8 = 0;
/// RFC 8737: a certificate authority asks for its proof.
const ACME: &[u8] = b"acme-tls/1";

/// What a client of TLS asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientHello {
    /// The host that it wants to reach; none if it doesn't say, or says an address.
    pub server_name: Option<HostName>,
    /// The protocols that it would speak, in its order of preference.
    pub alpn: Vec<Box<[u8]>>,
}

/// Why a ClientHello can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// A record is empty, too long, or of another kind.
    #[error("a record of the ClientHello is malformed")]
    Record,
    /// Another message of the handshake came first.
    #[error("the handshake doesn't begin with a ClientHello")]
    NoHello,
    /// Over [`MAX_HELLO`] bytes.
    #[error("the ClientHello has more than {} KiB", MAX_HELLO / 1024)]
    TooLarge,
    /// A length in it says something else than another one.
    #[error("the ClientHello is malformed")]
    Malformed,
    /// An extension occurs twice, so that two readers may take two names.
    #[error("an extension of the ClientHello occurs twice")]
    Twice,
    /// The name of the host is none.
    #[error("the ClientHello's server name is no name of a host")]
    ServerName,
}

/// The first message of a handshake.
pub(super) enum Message<'a> {
    NeedsMore,
    /// A ClientHello, without its header.
    Whole(&'a [u8]),
    Other,
    TooLarge,
}

impl<'a> Message<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        if bytes.first().is_some_and(|kind| *kind != CLIENT_HELLO) {
            return Self::Other;
        }
        let Some((&[_, high, middle, low], rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Self::NeedsMore;
        };
        let Ok(length) = usize::try_from(u32::from_be_bytes([0, high, middle, low])) else {
            return Self::TooLarge;
        };
        if length > MAX_HELLO {
            return Self::TooLarge;
        }
        rest.get(..length).map_or(Self::NeedsMore, Self::Whole)
    }
}

impl ClientHello {
    /// True if a certificate authority wants to see the proof of TLS-ALPN-01, and nothing else.
    pub fn is_acme(&self) -> bool {
        matches!(&*self.alpn, [only] if **only == *ACME)
    }

    pub(super) fn read(body: &[u8]) -> Result<Self, HelloError> {
        let mut rest = Reader(body);
        // Version and random.
        rest.take(2 + 32)?;
        if rest.vector8()?.len() > 32 {
            return Err(HelloError::Malformed);
        }
        let suites = rest.vector16()?.len();
        let methods = rest.vector8()?.len();
        if suites == 0 || suites % 2 == 1 || methods == 0 {
            return Err(HelloError::Malformed);
        }
        let mut hello = Self::default();
        if rest.is_empty() {
            // An old client, without extensions.
            return Ok(hello);
        }
        let mut extensions = Reader(rest.vector16()?);
        if !rest.is_empty() {
            return Err(HelloError::Malformed);
        }
        let mut seen = Vec::new();
        while !extensions.is_empty() {
            let kind = extensions.u16()?;
            let contents = Reader(extensions.vector16()?);
            seen.push(kind);
            match kind {
                SERVER_NAME => hello.server_name = server_name(contents)?,
                ALPN => hello.alpn = protocols(contents)?,
                _ => {}
            }
        }
        seen.sort_unstable();
        if seen
            .windows(2)
            .any(|pair| matches!(pair, [one, other] if one == other))
        {
            return Err(HelloError::Twice);
        }
        Ok(hello)
    }
}

/// The name in a list of one.
fn server_name(mut contents: Reader<'_>) -> Result<Option<HostName>, HelloError> {
    let mut list = Reader(contents.vector16()?);
    let kind = list.u8()?;
    let name = list.vector16()?;
    if kind != HOST_NAME || !list.is_empty() || !contents.is_empty() {
        return Err(HelloError::ServerName);
    }
    // Addresses mustn't be here (RFC 6066, 3), and are: such a client hasn't said a name.
    let text = str::from_utf8(name).map_err(|_| HelloError::ServerName)?;
    if text.parse::<std::net::IpAddr>().is_ok() {
        return Ok(None);
    }
    let name = HostName::new(name).map_err(|_| HelloError::ServerName)?;
    Ok(Some(name))
}

fn protocols(mut contents: Reader<'_>) -> Result<Vec<Box<[u8]>>, HelloError> {
    let mut list = Reader(contents.vector16()?);
    if list.is_empty() || !contents.is_empty() {
        return Err(HelloError::Malformed);
    }
    let mut protocols = Vec::new();
    while !list.is_empty() {
        let protocol = list.vector8()?;
        if protocol.is_empty() {
            return Err(HelloError::Malformed);
        }
        protocols.push(protocol.into());
    }
    Ok(protocols)
}

/// The rest of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], HelloError> {
        let taken = self.0.split_at_checked(length);
        let (taken, rest) = taken.ok_or(HelloError::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, HelloError> {
        match self.take(1)? {
            &[byte] => Ok(byte),
            _ => Err(HelloError::Malformed),
        }
    }

    fn u16(&mut self) -> Result<u16, HelloError> {
        match self.take(2)? {
            &[high, low] => Ok(u16::from_be_bytes([high, low])),
            _ => Err(HelloError::Malformed),
        }
    }

    /// Bytes with their length in one byte ahead of them.
    fn vector8(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u8()?;
        self.take(length.into())
    }

    /// The same with two bytes.
    fn vector16(&mut self) -> Result<&'a [u8], HelloError> {
        let length = self.u16()?;
        self.take(length.into())
    }
}
