//! A hub and an edge to be examined by the command `doctor`, and its report.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use remoteingress_config::doctor::{Check, CheckName, CheckState, DoctorReport};
use serde_json::{Value, json};

use super::ports::free_port;
use super::process::{Process, run_to_end};
use super::tunnel::merge;
use super::{SOON, new_directory, new_secret, until};

/// The files of a hub and its edge.
pub(crate) struct Place {
    pub(crate) directory: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) port: u16,
    pub(crate) secret: String,
    pub(crate) hub: Value,
}

impl Place {
    pub(crate) fn new() -> Self {
        let directory = new_directory("doctor");
        let (state, port, secret) = (directory.join("state"), free_port(), new_secret());
        let hub = json!({
            "tunnelPort": port, "bindAddress": "127.0.0.1", "stateDir": state,
            "edges": [{"id": "edge-doctor", "secret": secret}],
        });
        Self {
            directory,
            state,
            port,
            secret,
            hub,
        }
    }

    pub(crate) fn merge(&mut self, fields: Value) {
        let edge = fields["edges"][0].clone();
        merge(&mut self.hub["edges"][0], edge);
    }

    pub(crate) fn write(&self, name: &str, text: &str, mode: u32) -> String {
        let path = self.directory.join(name);
        std::fs::write(&path, text).unwrap();
        set_mode(&path, mode);
        path.to_str().unwrap().to_owned()
    }

    pub(crate) fn write_hub(&self) -> String {
        self.write("hub.json", &self.hub.to_string(), 0o600)
    }

    pub(crate) fn edge_options(&self) -> String {
        self.write("options.json", r#"{"stunServers": []}"#, 0o644)
    }

    /// The hub, when its port answers.
    pub(crate) async fn start(&self) -> Process {
        let hub = Process::spawn("hub", &["hub", "--config", &self.write_hub()], &[]);
        until(SOON, "tunnel port", async || {
            let connected = tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await;
            connected.ok()
        })
        .await;
        hub
    }

    /// A file with the edge's token.
    pub(crate) async fn token(&self) -> String {
        let config = self.write_hub();
        let edge = ["--edge", "edge-doctor", "--hub-host", "127.0.0.1"];
        let arguments = [&["token", "--config", &config], &edge[..]].concat();
        let (code, token, stderr) = run_to_end(&arguments).await;
        assert_eq!(code, Some(0), "{stderr}");
        self.write("token.txt", &token, 0o600)
    }

    pub(crate) async fn running_token(&self, hub: &Process) -> String {
        let params = json!({"edgeId": "edge-doctor", "hubHost": "127.0.0.1"});
        let created = hub.call("createConnectionToken", params).await;
        created["token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn doctor(&self, arguments: &[&str]) -> Report {
        let arguments = [&["doctor", "--json"], arguments].concat();
        let begin = std::time::Instant::now();
        let (code, text, stderr) = run_to_end(&arguments).await;
        assert!(begin.elapsed().as_secs() < 15, "the whole run is bounded");
        let report: DoctorReport =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text} {stderr}"));
        for output in [&text, &stderr] {
            assert!(!output.contains(&self.secret), "{output}");
        }
        let code = u8::try_from(code.unwrap()).unwrap();
        assert_eq!(code, report.exit_code(), "{text}");
        Report { code, text, report }
    }
}

/// What the command has said, and its exit code.
pub(crate) struct Report {
    pub(crate) code: u8,
    pub(crate) text: String,
    pub(crate) report: DoctorReport,
}

impl Report {
    pub(crate) fn all(&self, name: CheckName) -> Vec<&Check> {
        let checks = self.report.checks.iter();
        checks.filter(|check| check.name == name).collect()
    }

    pub(crate) fn has(&self, name: CheckName) -> bool {
        !self.all(name).is_empty()
    }

    pub(crate) fn only(&self, name: CheckName) -> &Check {
        let found = self.all(name);
        assert_eq!(found.len(), 1, "{name:?} in {}", self.text);
        found[0]
    }

    /// Every check is ok, but for those that the machine of the tests may fail.
    pub(crate) fn is_well(&self) {
        let of_machine = [
            CheckName::SocketBuffers,
            CheckName::Descriptors,
            CheckName::LowPorts,
        ];
        let checks = self.report.checks.iter();
        let bad = checks.filter(|check| check.state != CheckState::Ok);
        let (machine, bad): (Vec<_>, Vec<_>) =
            bad.partition(|check| of_machine.contains(&check.name));
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(self.code, u8::from(!machine.is_empty()));
    }

    pub(crate) fn others_are_well(&self, name: CheckName) {
        let checks = self.report.checks.iter().cloned();
        let report = DoctorReport {
            checks: checks.filter(|check| check.name != name).collect(),
        };
        let code = report.exit_code();
        let text = self.text.clone();
        Self { code, text, report }.is_well();
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
