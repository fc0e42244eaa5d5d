//! What a check of hub, edge and their machine has found: by `remoteingress-bin doctor` before the start, and over a live
//! tunnel.

use remoteingress_proto::token::edge_id::EdgeId;
use serde::{Deserialize, Serialize};

use crate::words::words;

words! {
    /// How a check went.
    CheckState {
        /// Nothing is to be done.
        Ok = "ok",
        /// It works, or may work, but not as well or as safely as it could.
        Warning = "warning",
        /// It doesn't work like this.
        Failure = "failure",
    }

    /// Name of a check.
    CheckName {
        /// The files are there and hold a configuration; what of it is accepted but shouldn't stay.
        Configuration = "configuration",
        /// Files with secrets can be read and written by their owner only.
        FileMode = "fileMode",
        /// The private key in `stateDir` or `tls` can be used, and nobody else can read or replace it.
        KeyFile = "keyFile",
        /// The machine's clock shows a year in which this program is in use, and is later than the last change of each
        /// file that was read. No other clock is asked.
        Clock = "clock",
        /// The process may have as many descriptors as its limits promise to streams.
        Descriptors = "descriptors",
        /// The kernel grants the buffers that a UDP socket of many peers asks for.
        SocketBuffers = "socketBuffers",
        /// An edge may open ports below 1024, as far as `allowedPorts` has some.
        LowPorts = "lowPorts",
        /// The tunnel port is free for TCP and UDP, or this same hub or edge has it.
        TunnelPort = "tunnelPort",
        /// A name has an address.
        NameResolution = "nameResolution",
        /// The other end's tunnel port takes a connection over TCP, and speaks TLS and the tunnel's protocol.
        Tcp = "tcp",
        /// The other end's tunnel port takes a connection over QUIC, which is UDP.
        Quic = "quic",
        /// The other end shows the key that is pinned, or a certificate of the name that is verified.
        Pin = "pin",
        /// The hub accepts this edge's id and secret. The session itself isn't begun.
        Proof = "proof",
        /// Time that a packet takes to the other end and back.
        RoundTrip = "roundTrip",
        /// The MTU of the route to the other end, as this machine's kernel knows it, is at least what QUIC needs. No packet is sent to
        /// try it, so a smaller MTU further on is seen only if the kernel has learned of it.
        PathMtu = "pathMtu",
        /// A target takes a connection.
        Target = "target",
        /// A target keeps a connection that begins with a PROXY header.
        ProxyHeader = "proxyHeader",
        /// The edge has a session with a connection: its version, transport and streams.
        Session = "session",
        /// The edge has opened its ports.
        Ports = "ports",
        /// Packets on the way to the edge that were lost and sent again.
        Loss = "loss",
        /// What one stream in the last tier moves to the edge, beside the traffic that is there.
        ThroughputToEdge = "throughputToEdge",
        /// What one stream in the last tier moves from the edge, beside the traffic that is there.
        ThroughputFromEdge = "throughputFromEdge",
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Check {
    /// Name of the check. Several checks may have the same name, for instance one per target.
    pub name: CheckName,
    /// How it went.
    pub state: CheckState,
    /// What was seen.
    pub seen: String,
    /// What to do; null where nothing is to be done.
    pub advice: Option<String>,
}

impl Check {
    /// Nothing is to be done.
    pub fn ok(name: CheckName, seen: impl Into<String>) -> Self {
        Self {
            name,
            state: CheckState::Ok,
            seen: seen.into(),
            advice: None,
        }
    }

    /// It could be better.
    pub fn warning(name: CheckName, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: CheckState::Warning,
            advice: Some(advice.into()),
            ..Self::ok(name, seen)
        }
    }

    /// It doesn't work.
    pub fn failure(name: CheckName, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            state: CheckState::Failure,
            advice: Some(advice.into()),
            ..Self::ok(name, seen)
        }
    }
}

/// All checks of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DoctorReport {
    /// The checks, those of this machine first.
    pub checks: Vec<Check>,
}

impl DoctorReport {
    /// The worst state of all checks.
    pub fn state(&self) -> CheckState {
        let states = self.checks.iter().map(|check| check.state);
        states.max().unwrap_or(CheckState::Ok)
    }

    /// The exit code of `remoteingress-bin doctor`: 0 ok, 1 warnings, 2 failures.
    pub fn exit_code(&self) -> u8 {
        match self.state() {
            CheckState::Ok => 0,
            CheckState::Warning => 1,
            CheckState::Failure => 2,
        }
    }
}

/// Parameters of `selfTest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelfTestParams {
    /// Id of an allowed edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
}

/// Result of `selfTest`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SelfTestReport {
    /// Id of the edge.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub edge_id: EdgeId,
    /// The checks, those of the tunnel first.
    pub checks: Vec<Check>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_worst_check_decides() {
        let name = CheckName::Clock;
        let ok = Check::ok(name, "late enough");
        let warning = Check::warning(name, "slow", "set it");
        let failure = Check::failure(name, "1970", "set it");
        for (checks, state, code) in [
            (vec![], CheckState::Ok, 0),
            (vec![&ok, &ok], CheckState::Ok, 0),
            (vec![&warning, &ok], CheckState::Warning, 1),
            (vec![&ok, &failure, &warning], CheckState::Failure, 2),
        ] {
            let checks = checks.into_iter().cloned().collect();
            let report = DoctorReport { checks };
            assert_eq!((report.state(), report.exit_code()), (state, code));
        }
    }

    #[test]
    fn a_report_is_a_list_of_checks() {
        let checks = vec![Check::ok(CheckName::KeyFile, "there is one")];
        let shown = json!(DoctorReport { checks });
        let check =
            json!({"name": "keyFile", "state": "ok", "seen": "there is one", "advice": null});
        assert_eq!(shown, json!({ "checks": [check] }));
    }
}
