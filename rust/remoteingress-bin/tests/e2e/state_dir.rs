//! The hub's key on volumes as orchestrators give them. These tests are root's: they hand files to other users.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::harness::{new_directory, new_secret, run, skip};

const USER: u32 = 4711;
const GROUP: u32 = 2000;

#[test]
fn a_volume_of_root_and_of_the_own_group_keeps_its_key() {
    run(60, async {
        let Some(place) = Place::new() else { return };
        let volume = place.directory("volume", 0, GROUP, 0o2775);
        place.configure(&volume);
        let (pin, _) = place.token().await.unwrap();

        // As at each mount with `fsGroup`.
        set_mode(&volume.join("hub-key.pem"), 0o660);
        chown(volume.join("hub-key.pem"), None, Some(GROUP)).unwrap();
        let (again, log) = place.token().await.unwrap();
        assert_eq!(again, pin);
        assert!(log.contains("can be read by group 2000"), "{log}");

        // A directory that the hub makes there itself, and that is opened to the group afterwards.
        let own = volume.join("state");
        place.configure(&own);
        let (pin, _) = place.token().await.unwrap();
        for path in [&own, &own.join("hub-key.pem")] {
            set_mode(path, path.metadata().unwrap().mode() | 0o060);
        }
        assert_eq!(place.token().await.unwrap().0, pin);

        // Everybody else still may not write.
        set_mode(&own, 0o777);
        let refusal = place.token().await.unwrap_err();
        assert!(refusal.contains("E_STATE_DIR"), "{refusal}");
        set_mode(&own, 0o770);
        chown(&own, None, Some(GROUP + 1)).unwrap();
        let refusal = place.token().await.unwrap_err();
        assert!(refusal.contains("group 2001"), "{refusal}");
    });
}

#[test]
fn a_key_of_root_is_read_where_nothing_can_be_written() {
    run(60, async {
        let Some(place) = Place::new() else { return };
        let made = place.directory("made", USER, USER, 0o700);
        place.configure(&made);
        let (pin, _) = place.token().await.unwrap();
        // As a mounted secret: links into a directory that changes at one moment.
        let secret = place.directory("secret", 0, 0, 0o755);
        let data = place.directory("secret/..data", 0, 0, 0o755);
        std::fs::copy(made.join("hub-key.pem"), data.join("hub-key.pem")).unwrap();
        chown(data.join("hub-key.pem"), Some(0), Some(GROUP)).unwrap();
        set_mode(&data.join("hub-key.pem"), 0o440);
        symlink("..data/hub-key.pem", secret.join("hub-key.pem")).unwrap();
        place.configure(&secret);
        assert_eq!(place.token().await.unwrap().0, pin);
    });
}

/// Where the user of the tests may read and its files lie.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new() -> Option<Self> {
        if std::fs::metadata("/proc/self").unwrap().uid() != 0 {
            skip("root");
            return None;
        }
        let root = new_directory("state-dir");
        set_mode(&root, 0o755);
        Some(Self { root })
    }

    fn directory(&self, name: &str, user: u32, group: u32, mode: u32) -> PathBuf {
        let path = self.root.join(name);
        std::fs::create_dir(&path).unwrap();
        chown(&path, Some(user), Some(group)).unwrap();
        set_mode(&path, mode);
        path
    }

    fn configure(&self, state_dir: &Path) {
        let config = json!({"stateDir": state_dir, "edges": [{"id": "e", "secret": new_secret()}]});
        std::fs::write(self.root.join("hub.json"), config.to_string()).unwrap();
    }

    /// The pin in a token and the log, or the log alone where there is no token.
    async fn token(&self) -> Result<(Value, String), String> {
        let output = Command::new("setpriv")
            .args(["--reuid", &USER.to_string(), "--regid", &USER.to_string()])
            .args(["--groups", &GROUP.to_string()])
            .arg(env!("CARGO_BIN_EXE_remoteingress-bin"))
            .args(["token", "--edge", "e", "--hub-host", "hub.example"])
            .arg("--config")
            .arg(self.root.join("hub.json"))
            .output()
            .await
            .unwrap();
        let log = String::from_utf8(output.stderr).unwrap();
        if !output.status.success() {
            return Err(log);
        }
        let token = URL_SAFE_NO_PAD.decode(output.stdout.trim_ascii()).unwrap();
        let token: Value = serde_json::from_slice(&token).unwrap();
        let pin = token["hubPins"][0].clone();
        assert!(pin.is_string(), "{token}");
        Ok((pin, log))
    }
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}
