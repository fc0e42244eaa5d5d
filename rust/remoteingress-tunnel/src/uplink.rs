//! The end that dials.

pub mod quic_dialler;
