//! A listener port's state, as events and status show it on both ends.

use std::net::IpAddr;

use remoteingress_proto::control;
use serde::{Deserialize, Serialize};

use crate::reasons::{PortErrorCode, PortState, Protocol};

/// State of one port of an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortStatus {
    /// Protocol of the port.
    pub protocol: Protocol,
    /// The listener's port; a range has an entry for each of its ports.
    ///
    /// Unit: port
    pub port: u16,
    /// `bindAddress` of the port, only where the same port is there on several addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schemars(with = "Option<String>"))]
    pub bind_address: Option<IpAddr>,
    /// `"bound"`: it is open. `"failed"`: it couldn't be opened, and is tried again after 1 s to 30 s. `"draining"`: it
    /// was removed, or its edge is about to stop: it accepts nothing new and lets its streams run on; UDP ports close at
    /// once.
    pub state: PortState,
    /// `{ code, message }` of a failed port, for example `E_ADDRESS_IN_USE`. Absent in the other states.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<PortError>,
}

/// Reason why a port failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortError {
    /// Code to branch on.
    pub code: PortErrorCode,
    /// Message to read.
    pub message: String,
}

impl PortStatus {
    /// The port of an edge that is about to stop: one that was open accepts nothing new.
    #[must_use]
    pub fn of_leaving(mut self) -> Self {
        if self.state == PortState::Bound {
            self.state = PortState::Draining;
        }
        self
    }
}

impl From<&control::PortState> for PortStatus {
    fn from(port: &control::PortState) -> Self {
        let error = match &port.status {
            control::PortStatus::Failed { code, message } => Some(PortError {
                code: (*code).into(),
                message: message.to_string(),
            }),
            control::PortStatus::Bound | control::PortStatus::Draining => None,
        };
        Self {
            protocol: port.protocol.into(),
            port: port.port,
            bind_address: port.address(),
            state: PortState::from(&port.status),
            error,
        }
    }
}
