//! The decisions of an edge: the clients that it admits, the workers that carry them, its ports, and what is news.
//!
//! - [`admission`]: who may connect;
//! - [`placement`]: which worker carries a client, a flow or a control message;
//! - [`generations`], on [`port_table`]: which ports are open;
//! - [`spread`]: which workers open a port;
//! - [`entrance`]: what a hub that dials may do;
//! - [`connectivity`]: what is news about the tunnel to a hub.

pub mod admission;
pub mod connectivity;
pub mod entrance;
pub mod generations;
pub mod placement;
pub mod port_table;
pub mod spread;
