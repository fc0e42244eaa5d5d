//! A second opinion on PROXY headers: a plain reader written from the specification, sharing nothing with the product.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt};

/// The header that a listener puts before a stream's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    None,
    V1,
    V2,
}

impl Proxy {
    /// The word in the configuration.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}

/// The contents of a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    /// Type and value, version 2 only.
    pub(crate) tlvs: Vec<(u8, Vec<u8>)>,
}

/// Takes one header off the stream, and not a byte more.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    proxy: Proxy,
) -> Result<Option<Header>> {
    match proxy {
        Proxy::None => Ok(None),
        Proxy::V1 => read_v1(stream).await.map(Some),
        Proxy::V2 => read_v2(stream).await.map(Some),
    }
}

async fn read_v1(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() == V1_MAX {
            return Err(bad("v1 line too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(line).map_err(|_| bad("v1 not text"))?;
    let text = text.trim_end_matches("\r\n");
    let words: Vec<&str> = text.split(' ').collect();
    let &[
        "PROXY",
        family,
        source,
        destination,
        source_port,
        destination_port,
    ] = words.as_slice()
    else {
        return Err(bad(text));
    };
    let address = |ip: &str, port: &str| {
        let address = match family {
            "TCP4" => ip.parse::<Ipv4Addr>().map(Into::into).ok(),
            "TCP6" => ip.parse::<Ipv6Addr>().map(Into::into).ok(),
            _ => None,
        };
        // No leading zeros.
        let number = port
            .parse::<u16>()
            .ok()
            .filter(|number| number.to_string() == port);
        Some(SocketAddr::new(address?, number?))
    };
    Ok(Header {
        source: address(source, source_port).ok_or_else(|| bad(text))?,
        destination: address(destination, destination_port).ok_or_else(|| bad(text))?,
        tlvs: Vec::new(),
    })
}

async fn read_v2(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header> {
    let mut fixed = [0; 16];
    stream.read_exact(&mut fixed).await?;
    if &fixed[..12] != V2_SIGNATURE || fixed[12] != 0x21 {
        return Err(bad("v2 signature or command"));
    }
    let mut body = vec![0; usize::from(u16::from_be_bytes([fixed[14], fixed[15]]))];
    stream.read_exact(&mut body).await?;
    let (source, destination, rest) = match fixed[13] {
        0x11 if body.len() >= 12 => {
            let ip = |at: usize| <[u8; 4]>::try_from(&body[at..at + 4]).map(Ipv4Addr::from);
            let source = (ip(0).map_err(bad)?, port(&body[8..]));
            (
                source.into(),
                (ip(4).map_err(bad)?, port(&body[10..])).into(),
                &body[12..],
            )
        }
        0x21 if body.len() >= 36 => {
            let ip = |at: usize| <[u8; 16]>::try_from(&body[at..at + 16]).map(Ipv6Addr::from);
            let source = (ip(0).map_err(bad)?, port(&body[32..]));
            (
                source.into(),
                (ip(16).map_err(bad)?, port(&body[34..])).into(),
                &body[36..],
            )
        }
        family => return Err(bad(format!("v2 family {family:#x}, length {}", body.len()))),
    };
    Ok(Header {
        source,
        destination,
        tlvs: read_tlvs(rest)?,
    })
}

fn read_tlvs(mut rest: &[u8]) -> Result<Vec<(u8, Vec<u8>)>> {
    let mut tlvs = Vec::new();
    while let [kind, high, low, value @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let value_of_it = value.get(..length).ok_or_else(|| bad("v2 TLV too long"))?;
        tlvs.push((*kind, value_of_it.to_vec()));
        rest = &value[length..];
    }
    if rest.is_empty() {
        Ok(tlvs)
    } else {
        Err(bad("v2 TLV too short"))
    }
}

fn port(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn bad(what: impl ToString) -> Error {
    Error::new(
        ErrorKind::InvalidData,
        format!("PROXY header: {}", what.to_string()),
    )
}

/// Longest version 1 line of the specification, in bytes.
const V1_MAX: usize = 107;
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
