//! The decisions of an edge: the clients that it admits, the workers that carry them, its ports, and what is news.
//!
//! - [`admission`]: who may connect;
//! - [`advice`]: what the operator can do about those who may not;
//! - [`place`]: where clients are counted;
//! - [`placement`]: which worker carries a client, a flow or a control message;
//! - [`generations`], on [`port_table`]: which ports are open;
//! - [`spread`]: which workers open a port, and how many ports the descriptors are enough for;
//! - [`port_runs`]: ports as a log names them;
//! - [`udp_idle`]: how long a UDP flow may be silent;
//! - [`entrance`]: the limits on callers at the tunnel port, where the hub dials;
//! - [`connectivity`]: what is news about the tunnel to a hub.

pub mod admission;
pub mod advice;
pub mod connectivity;
pub mod entrance;
pub mod generations;
pub mod place;
pub mod placement;
pub mod port_runs;
pub mod port_table;
pub mod spread;
pub mod udp_idle;
