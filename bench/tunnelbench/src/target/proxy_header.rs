//! Takes a PROXY header, version 1 or 2, off the front of a connection, where there is one.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// `early` holds what was read after the header.
pub(crate) async fn take_off(stream: &mut TcpStream, early: &mut Vec<u8>) -> io::Result<()> {
    read_to(stream, early, 1).await?;
    loop {
        match length(early)? {
            Length::Known(length) => {
                read_to(stream, early, length).await?;
                early.drain(..length);
                return Ok(());
            }
            Length::Unknown => {
                let more = early.len() + 1;
                read_to(stream, early, more).await?;
            }
        }
    }
}

/// Reads until `buffer` holds at least `length` bytes.
pub(crate) async fn read_to(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    length: usize,
) -> io::Result<()> {
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Length {
    /// Bytes; 0 where there is no header.
    Known(usize),
    Unknown,
}

/// None of the target's own first bytes is a `P` or a carriage return, so the first byte tells.
fn length(early: &[u8]) -> io::Result<Length> {
    match early.first() {
        Some(b'P') => v1_length(early),
        Some(b'\r') if early.len() < V2_FIXED => Ok(Length::Unknown),
        Some(b'\r') if early.starts_with(V2_SIGNATURE) => {
            let rest = u16::from_be_bytes([early[14], early[15]]);
            Ok(Length::Known(V2_FIXED + usize::from(rest)))
        }
        Some(b'\r') => Err(io::ErrorKind::InvalidData.into()),
        Some(_) => Ok(Length::Known(0)),
        None => Ok(Length::Unknown),
    }
}

fn v1_length(early: &[u8]) -> io::Result<Length> {
    let line = &early[..early.len().min(V1_LONGEST)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) if line.starts_with(b"PROXY ") => Ok(Length::Known(end + 2)),
        None if line.len() < V1_LONGEST => Ok(Length::Unknown),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a v2 header before its addresses.
const V2_FIXED: usize = 16;
/// Bytes of the longest v1 header, by the specification.
const V1_LONGEST: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 127.0.0.1 127.0.0.1 50000 17100\r\n";

    #[test]
    fn a_v1_header_is_found_whatever_comes_after_it() {
        for payload in [0, 1, 64, 512, 4096] {
            let early = [V1, &vec![b'E'; payload]].concat();
            assert_eq!(length(&early).unwrap(), Length::Known(V1.len()));
        }
        for cut in 0..V1.len() {
            assert_eq!(length(&V1[..cut]).unwrap(), Length::Unknown, "{cut}");
        }
        assert!(length(&[b'P'; 200]).is_err());
    }

    #[test]
    fn a_v2_header_says_its_own_length() {
        let header = [V2_SIGNATURE, &[0x21, 0x11, 0, 12], &[7; 12], b"E"].concat();
        assert_eq!(length(&header).unwrap(), Length::Known(28));
        assert_eq!(length(&header[..15]).unwrap(), Length::Unknown);
    }

    #[test]
    fn a_connection_without_a_header_begins_with_its_payload() {
        assert_eq!(length(b"E").unwrap(), Length::Known(0));
    }
}
