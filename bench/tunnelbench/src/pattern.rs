//! The bytes that bulk streams carry, and the first byte by which a client tells the target what it wants.

/// First byte of a connection. `ECHO` is itself echoed; `QUERY` asks for the count of bytes sunk, past the tunnel.
pub(crate) const ECHO: u8 = b'E';
pub(crate) const SINK: u8 = b'U';
pub(crate) const SOURCE: u8 = b'D';
pub(crate) const QUERY: u8 = b'Q';

/// Bytes written at once.
const CHUNK: usize = 256 * 1024;

/// Random enough that no relay can compress it to nothing.
pub(crate) fn chunk() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(next).take(CHUNK).collect()
}
