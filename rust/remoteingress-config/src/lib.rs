//! The configuration of a hub and of an edge: one schema for IPC, TypeScript and the JSON files (docs/ipc.md).
//!
//! Decoding happens in two steps. `decode` gives the shape: field names, types and single values, each fault with its
//! path. Then every part checks what spans fields (overlapping ports, ids given twice, token or its parts) and yields
//! types that need no further check. Nothing here touches the system except to count CPUs.

#![forbid(unsafe_code)]

mod allowed_ports;
mod decode;
mod edge;
mod edge_entry;
mod engine;
pub mod error;
mod hub;
mod limits;
pub mod port_status;
mod ports;
pub mod target;

pub use self::{
    allowed_ports::{AllowedPorts, PortSet},
    decode::decode,
    edge::{EdgeConfig, StunServer, TransportMode, parse_edge},
    edge_entry::{ClientAddressPolicy, EdgeEntry, EdgesDiff, parse_edges},
    engine::{CongestionController, EngineSettings},
    hub::{HubConfig, TlsConfig, parse_hub},
    limits::{AUTH_FAILURE_WINDOW, EdgeLimits, HubLimits, Limit},
    ports::{PortMap, PortRange, PortSpan, TcpProxyProtocol, UdpProxyProtocol},
};
