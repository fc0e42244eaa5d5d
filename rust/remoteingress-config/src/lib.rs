//! The types that users write and read: configuration, commands, status, events, reasons and error codes.
//!
//! These types and their comments are the one description of the interface. `npm run generate` makes TypeScript's
//! interfaces (`ts/interfaces/`) and the tables of the reference pages (`docs/`) from them, by way of the feature
//! `schema`, which no binary carries. In a comment the first paragraphs describe; a line such as
//! `Unit: s · Default: 30 · Range: from 0` gives the other columns of the table. Links are relative to `docs/`.
//!
//! A configuration is decoded in two steps. `decode` gives the shape: field names, types and single values, each fault
//! with its path. Then every part checks what spans fields (overlapping ports, ids given twice, token or its parts) and
//! yields types that need no further check. Nothing here touches the system except to count CPUs.

#![forbid(unsafe_code)]

pub mod access_log;
mod admin;
mod allowed_edge;
mod allowed_ports;
pub mod civil_date;
pub mod commands;
mod decode;
pub mod doctor;
mod edge;
mod engine;
pub mod error;
pub mod events;
mod exempt;
mod geo;
pub mod host_name;
mod hub;
mod limits;
pub mod name;
pub mod overview;
pub mod pool_rest;
pub mod pool_status;
pub mod pools;
pub mod port_status;
mod ports;
pub mod reasons;
pub mod registration;
mod reload;
pub mod rest;
mod route;
#[cfg(feature = "schema")]
pub mod schema;
pub mod shown;
pub mod status;
pub mod streams;
pub mod target;
mod tunnel;
mod words;

pub use self::{
    access_log::AccessLogConfig,
    admin::{AdminConfig, AdminListen, AdminToken, check_admin_token, parse_admin},
    allowed_edge::{
        AllowedEdge, AllowedEdgesChange, ClientAddressPolicy, EdgeDial, EdgeList, check_pools_of,
        parse_edges, set_of_part,
    },
    allowed_ports::{AllowedPorts, PortSet},
    decode::decode,
    edge::{EdgeConfig, HubAccess, StunServer, parse_edge},
    engine::{CongestionController, EngineSettings, LogFormat},
    exempt::{Cidr, Exempt},
    geo::{CountryCode, GeoConfig, RegionName, RoutingDbConfig},
    hub::{HubConfig, TlsConfig, TlsSource, parse_hub},
    limits::{AUTH_FAILURE_WINDOW, EdgeLimits, HubLimits, Limit, SHARED_UDP_FLOWS},
    ports::{PoolOfPort, PortMap, PortRange, PortSpan, TcpProxyProtocol, UdpProxyProtocol},
    reload::{Reloaded, reload_edge, reload_hub},
    route::{
        DialProxy, DialRoute, MAX_PROXY_LOGIN, ProxyKind, ProxyLogin, ProxyPassword, check_login,
    },
    tunnel::{QuicTimes, TransportMode},
};
