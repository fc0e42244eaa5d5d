//! Changes of edges over REST beside a configuration file: what outlives a restart, and which of two changes counts.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::admin::{Answer, TOKEN, ask, get};
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::{SOON, new_directory, new_secret, run, until};

/// A hub with a configuration file, a state directory and an admin server.
struct Rig {
    directory: PathBuf,
    socket: PathBuf,
    file: PathBuf,
    tunnel_port: u16,
}

impl Rig {
    fn new() -> Self {
        let directory = new_directory("changes");
        Self {
            socket: directory.join("hub.sock"),
            file: directory.join("hub.json"),
            tunnel_port: free_port(),
            directory,
        }
    }

    fn edges_file(&self) -> PathBuf {
        self.directory.join("state").join("edges.json")
    }

    fn write(&self, edges: &Value) {
        let config = json!({
            "tunnelPort": self.tunnel_port, "bindAddress": "127.0.0.1", "workers": 1, "edges": edges,
            "stateDir": self.directory.join("state"), "admin": {"listen": self.socket, "token": TOKEN},
        });
        std::fs::write(&self.file, config.to_string()).unwrap();
    }

    fn arguments(&self) -> [&str; 3] {
        ["hub", "--config", self.file.to_str().unwrap()]
    }

    async fn start(&self) -> Process {
        let hub = Process::spawn("hub", &self.arguments(), &[]);
        until(SOON, "the admin server", async || {
            tokio::net::UnixStream::connect(&self.socket).await.ok()
        })
        .await;
        hub
    }

    async fn change(&self, method: &str, id: &str, body: &str) -> Answer {
        change(&self.socket, method, &format!("/api/v1/edges/{id}"), body).await
    }

    async fn token(&self, id: &str) -> String {
        let path = format!("/api/v1/edges/{id}/token");
        let answer = change(&self.socket, "POST", &path, r#"{"hubHost": "127.0.0.1"}"#).await;
        let token = answer.body["token"].as_str();
        token
            .unwrap_or_else(|| panic!("{}", answer.body))
            .to_owned()
    }

    /// The edges and who has said so: `a:file b:rest`.
    async fn edges(&self) -> String {
        let answer = get(&self.socket, "/api/v1/edges").await;
        let edges = answer["edges"].as_array().unwrap().iter();
        let named = |edge: &Value| {
            let text = |field: &str| edge[field].as_str().unwrap().to_owned();
            format!("{}:{}", text("id"), text("origin"))
        };
        edges.map(named).collect::<Vec<_>>().join(" ")
    }
}

async fn change(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    ask(socket, method, path, &headers, body).await
}

fn edge(id: &str, secret: &str, stun: u32) -> Value {
    json!({"id": id, "secret": secret, "stunIntervalSecs": stun})
}

#[test]
fn a_change_over_rest_outlives_a_restart() {
    run(60, async {
        let (rig, secret) = (Rig::new(), new_secret());
        rig.write(&json!([edge("a", &secret, 1), edge("b", &secret, 1)]));
        let mut hub = rig.start().await;
        let made = rig.change("PUT", "new", r#"{"stunIntervalSecs": 9}"#).await;
        assert_eq!((made.status, &made.body["added"]), (200, &json!(["new"])));
        assert_eq!(
            (&made.body["secretMade"], &made.body["kept"]),
            (&json!(true), &json!("stateDir"))
        );
        let token = rig.token("new").await;
        let gone = rig.change("DELETE", "a", "").await;
        assert_eq!(
            (&gone.body["removed"], &gone.body["kept"]),
            (&json!(["a"]), &json!("stateDir"))
        );
        let kept = rig.change("PUT", "b", r#"{"stunIntervalSecs": 7}"#).await;
        assert_eq!(
            (&kept.body["changed"], &kept.body["secretMade"]),
            (&json!(["b"]), &json!(false))
        );
        let b = rig.token("b").await;
        assert_eq!(rig.edges().await, "b:rest new:rest");
        let mode = rig.edges_file().metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        hub.kill().await;
        let hub = rig.start().await;
        assert_eq!(rig.edges().await, "b:rest new:rest");
        assert_eq!(
            (rig.token("new").await, rig.token("b").await),
            (token.clone(), b)
        );
        // The command for tokens knows it, too.
        let place = [
            "--config",
            rig.file.to_str().unwrap(),
            "--edge",
            "new",
            "--hub-host",
            "127.0.0.1",
        ];
        let arguments = [&["token"][..], &place].concat();
        let (_, printed, _) = run_to_end(&arguments).await;
        assert_eq!(printed.trim(), token);
        let log = String::from_utf8_lossy(&hub.log()).into_owned();
        assert!(!log.contains(&token) && !log.contains(&secret), "{log}");
    });
}

#[test]
fn the_later_change_counts_be_it_of_the_file_or_over_rest() {
    run(60, async {
        let (rig, secret) = (Rig::new(), new_secret());
        rig.write(&json!([edge("a", &secret, 1), edge("b", &secret, 1)]));
        let mut hub = rig.start().await;
        rig.change("PUT", "a", r#"{"stunIntervalSecs": 7}"#).await;
        rig.change("DELETE", "b", "").await;
        rig.change("PUT", "c", r#"{}"#).await;
        let interval = async || {
            get(&rig.socket, "/api/v1/edges/a").await["config"]["stunIntervalSecs"].clone()
        };

        // Another edge in the file is no change of these.
        rig.write(&json!([
            edge("d", &secret, 1),
            edge("a", &secret, 1),
            edge("b", &secret, 1)
        ]));
        hub.signal(libc::SIGHUP);
        until(SOON, "the edge of the file", async || {
            (rig.edges().await == "a:rest c:rest d:file").then_some(())
        })
        .await;
        assert_eq!(interval().await, 7);
        until(SOON, "word of the edge that stays removed", async || {
            let log = String::from_utf8_lossy(&hub.log()).into_owned();
            let mut lines = log.lines();
            lines.find(|line| line.contains("stays removed by REST") && line.contains(r#""b""#))?;
            Some(())
        })
        .await;

        rig.write(&json!([edge("a", &secret, 2), edge("b", &secret, 2)]));
        hub.signal(libc::SIGHUP);
        until(SOON, "the file's edges", async || {
            (rig.edges().await == "a:file b:file c:rest").then_some(())
        })
        .await;
        assert_eq!(interval().await, 2);
        // What the file has overtaken doesn't come back.
        hub.kill().await;
        let _hub = rig.start().await;
        assert_eq!(rig.edges().await, "a:file b:file c:rest");
        assert_eq!(interval().await, 2);
    });
}

#[test]
fn a_kill_while_changes_are_written_leaves_all_that_were_answered() {
    run(90, async {
        let rig = Rig::new();
        rig.write(&json!([]));
        let mut answered = Vec::new();
        for round in 0..4 {
            let mut hub = rig.start().await;
            let enough = answered.len() + 10;
            let kill = async {
                // Somewhere among the writes.
                until(SOON, "some changes", async || {
                    let file = std::fs::read_to_string(rig.edges_file()).unwrap_or_default();
                    (file.matches("\"now\"").count() >= enough).then_some(())
                })
                .await;
                hub.kill().await;
            };
            let write = async {
                for number in 0.. {
                    let id = format!("e{round}-{number}");
                    let path = format!("/api/v1/edges/{id}");
                    let Ok(_) = tokio::net::UnixStream::connect(&rig.socket).await else {
                        return;
                    };
                    let put = tokio::spawn({
                        let socket = rig.socket.clone();
                        async move { change(&socket, "PUT", &path, "{}").await.status }
                    });
                    match put.await {
                        Ok(200) => answered.push(id),
                        // Killed before the answer.
                        _ => return,
                    }
                }
            };
            tokio::join!(kill, write);
            let left: Value =
                serde_json::from_slice(&std::fs::read(rig.edges_file()).unwrap()).unwrap();
            let left: Vec<&str> = left["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|change| change["id"].as_str().unwrap())
                .collect();
            let lost: Vec<_> = answered
                .iter()
                .filter(|id| !left.contains(&id.as_str()))
                .collect();
            assert!(lost.is_empty(), "{lost:?}");
        }
    });
}

#[test]
fn a_hub_doesnt_start_on_changes_that_it_cant_read() {
    run(60, async {
        let (rig, secret) = (Rig::new(), new_secret());
        rig.write(&json!([edge("a", &secret, 1)]));
        let mut hub = rig.start().await;
        rig.change("DELETE", "a", "").await;
        hub.kill().await;
        for wrong in [
            "{\"version\": 1",
            r#"{"version": 2, "changes": []}"#,
            r#"{"version": 1, "changes": [{"id": "a", "now": {"id": "a", "secret": "canary", "port": 1}, "over": null}]}"#,
        ] {
            std::fs::write(rig.edges_file(), wrong).unwrap();
            let (code, _, log) = run_to_end(&rig.arguments()).await;
            assert_eq!(code, Some(1), "{log}");
            assert!(
                log.contains("E_INVALID_CONFIG") && log.contains("edges.json"),
                "{log}"
            );
            assert!(
                log.contains("move it away") && !log.contains("canary"),
                "{log}"
            );
        }
        std::fs::remove_file(rig.edges_file()).unwrap();
        let _hub = rig.start().await;
        assert_eq!(rig.edges().await, "a:file");
    });
}

#[test]
fn a_change_that_cant_be_kept_isnt_made() {
    run(60, async {
        let rig = Rig::new();
        rig.write(&json!([]));
        let _hub = rig.start().await;
        // A directory in the place of the file that is written first: root may write everywhere else.
        std::fs::create_dir_all(rig.edges_file().with_extension("new")).unwrap();
        let refused = rig.change("PUT", "a", "{}").await;
        assert_eq!((refused.status, refused.code()), (500, "E_INTERNAL"));
        assert!(
            refused.body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("nothing has changed")
        );
        assert_eq!(rig.edges().await, "");
    });
}

#[test]
fn rest_file_and_management_make_the_same_generation() {
    run(90, async {
        let (secret, port) = (new_secret(), free_port());
        let edges = |ports: Value| json!([{"id": "e", "secret": secret, "listenPorts": ports, "stunIntervalSecs": 0}]);
        let (before, after) = (edges(json!([])), edges(json!([port])));
        let mut seen = Vec::new();
        for way in ["rest", "file", "management"] {
            let rig = Rig::new();
            let hub = if way == "management" {
                let hub = Process::management("hub").await;
                let config = json!({
                    "tunnelPort": rig.tunnel_port, "bindAddress": "127.0.0.1", "workers": 1, "edges": before,
                    "admin": {"listen": rig.socket, "token": TOKEN},
                });
                hub.call("startHub", config).await;
                hub
            } else {
                rig.write(&before);
                rig.start().await
            };
            let agent = Process::management("edge").await;
            let place = json!({
                "hubHost": "127.0.0.1", "hubPort": rig.tunnel_port, "edgeId": "e", "secret": secret, "workers": 1,
                "bindAddress": "127.0.0.1", "stunServers": [],
            });
            agent.call("startEdge", place).await;
            applied(&rig.socket, 0).await;
            match way {
                "rest" => {
                    let body = after[0].to_string();
                    assert_eq!(rig.change("PUT", "e", &body).await.status, 200);
                }
                "file" => {
                    rig.write(&after);
                    hub.signal(libc::SIGHUP);
                }
                _ => {
                    hub.call("upsertEdges", json!({"edges": after})).await;
                    assert_eq!(rig.edges().await, "e:program");
                    let put = rig.change("PUT", "e", &after[0].to_string()).await;
                    assert_eq!(
                        (&put.body["unchanged"], &put.body["kept"]),
                        (&json!(["e"]), &json!("untilProgram"))
                    );
                }
            }
            seen.push(applied(&rig.socket, 1).await);
        }
        assert_eq!(seen[0]["generation"], 2);
        assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    });
}

/// The data of the first `portsApplied` with so many ports.
async fn applied(socket: &Path, ports: usize) -> Value {
    until(SOON, "applied ports", async || {
        let events = get(socket, "/api/v1/events").await;
        let mut events = events["events"].as_array().unwrap().iter();
        let is_wanted = |event: &&Value| {
            event["event"] == "portsApplied"
                && event["data"]["ports"].as_array().unwrap().len() == ports
        };
        events.find(is_wanted).map(|event| event["data"].clone())
    })
    .await
}
