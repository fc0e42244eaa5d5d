//! The configuration of a hub and of an edge: one schema for IPC, TypeScript and the JSON files (docs/ipc.md).
//!
//! Decoding happens in two steps. `decode` gives the shape: field names, types and single values, each fault with its
//! path. Then every part checks what spans fields (overlapping ports, ids given twice, token or its parts) and yields
//! types that need no further check. Nothing here touches the system except to count CPUs.

mod allowed_ports;
mod decode;
mod edge;
mod edge_entry;
mod engine;
mod hub;
mod limits;
mod ports;

pub(crate) use self::{
    decode::decode,
    edge::{EdgeConfig, TransportMode, parse_edge},
    edge_entry::{ClientAddressPolicy, EdgeEntry, EdgesDiff, parse_edges},
    engine::CongestionController,
    hub::{HubConfig, parse_hub},
    limits::{AUTH_FAILURE_WINDOW, EdgeLimits, HubLimits, Limit},
    ports::{PortMap, PortRange, TcpProxyProtocol, UdpProxyProtocol},
};
