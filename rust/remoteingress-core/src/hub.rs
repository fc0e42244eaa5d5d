//! A hub's decisions: who may connect, what each edge has and gets, where streams go, and how long a session lives.

pub mod advice;
pub mod edge_set;
pub mod entrance;
pub mod flow_admission;
pub mod flow_sockets;
pub mod registry;
pub mod rejections;
pub mod rest_changes;
pub mod session_life;
pub mod stream_admission;
pub mod target_addresses;
pub mod upstream;
pub mod warnings;
