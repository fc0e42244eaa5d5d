//! One session on its worker: the handle that its streams hold, delivery of its events, its flows.

pub mod delivery;
pub mod flow_channel;
pub mod handle;
pub mod local_session;
pub mod names;
pub mod shown;
