//! The bytes that both ends agree on: frames, TLVs, the header that opens a stream, and feature bits (docs/wire.md).

pub mod features;
pub mod frame;
pub mod header;
pub mod tlv;
