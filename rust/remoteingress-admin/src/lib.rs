//! The admin server of hub and edge.

pub mod page;
