//! A listener port's state, as events and status show it on both ends (docs/ipc.md).

use crate::error::ErrorCode;
use remoteingress_proto::control::{PortState, PortStatus};
use serde_json::{Value, json};

/// A port's state as events and status show it.
pub fn port_json(state: &PortState) -> Value {
    let mut value = json!({
        "protocol": state.protocol.as_str(),
        "port": state.port,
        "state": match &state.status {
            PortStatus::Bound => "bound",
            PortStatus::Failed { .. } => "failed",
            PortStatus::Draining => "draining",
        },
    });
    if let (PortStatus::Failed { code, message }, Some(fields)) =
        (&state.status, value.as_object_mut())
    {
        let code = ErrorCode::from_text(code.as_str()).unwrap_or(ErrorCode::BindFailed);
        fields.insert(
            "error".to_owned(),
            json!({ "code": code.as_str(), "message": message }),
        );
    }
    value
}
