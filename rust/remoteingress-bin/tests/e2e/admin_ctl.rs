//! `remoteingress-bin ctl` against hubs and edges that run.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::admin::{TOKEN, socket};
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_directory, new_secret, run, until, within};

/// Exit code, stdout and stderr of `ctl` with these arguments.
async fn ctl(arguments: &[&str]) -> (i32, String, String) {
    let (code, stdout, stderr) = run_to_end(&[&["ctl"], arguments].concat()).await;
    (code.unwrap_or(-1), stdout, stderr)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn ctl_shows_tables_to_people_and_json_to_programs() {
    run(60, async {
        let target = Target::echo().await;
        let (hub_socket, edge_socket) = (socket("hub"), socket("edge"));
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket}}))
            .edge(json!({"admin": {"listen": edge_socket}}));
        builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let (hub, edge) = (
            ["--admin", text(&hub_socket)],
            ["--admin", text(&edge_socket)],
        );

        let (code, shown, problem) = ctl(&[&["status"], &hub[..]].concat()).await;
        assert_eq!((code, &*problem), (0, ""), "{shown}");
        assert!(
            shown.starts_with("runs:        hub ") && shown.contains("1 bound"),
            "{shown}"
        );
        let (_, shown, _) = ctl(&[&["status"], &edge[..]].concat()).await;
        assert!(
            shown.contains("connected:      true") && shown.contains("bound"),
            "{shown}"
        );
        let (_, shown, _) = ctl(&[&hub[..], &["edges", "--json"]].concat()).await;
        let edges: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(edges["edges"][0]["id"], EDGE_ID);
        let (_, shown, _) = ctl(&[&hub[..], &["edges"]].concat()).await;
        let row: Vec<&str> = shown.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(&row[..3], [EDGE_ID, "connected", "program"], "{shown}");
        let (_, shown, _) = ctl(&[&hub[..], &["edge", EDGE_ID]].concat()).await;
        assert!(shown.contains("state:      connected"), "{shown}");
        let (_, shown, _) = ctl(&[&hub[..], &["events"]].concat()).await;
        assert!(shown.contains("edgeConnected"), "{shown}");
        let (_, shown, _) = ctl(&[&hub[..], &["config"]].concat()).await;
        let secret = tunnel.entry()["secret"].as_str().unwrap().to_owned();
        let config: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(config["edges"][0]["id"], EDGE_ID);
        let (_, shown_edge, _) = ctl(&[&edge[..], &["config", "--json"]].concat()).await;
        let config: Value = serde_json::from_str(&shown_edge).unwrap();
        assert_eq!(
            (&config["role"], &config["edge"]["secret"]),
            (&json!("edge"), &json!("[redacted]"))
        );
        assert!(!shown.contains(&secret) && !shown_edge.contains(&secret));
    });
}

#[test]
fn ctl_changes_edges_with_the_token_alone() {
    run(60, async {
        let directory = new_directory("ctl");
        let (place, file) = (directory.join("hub.sock"), directory.join("hub.json"));
        let (token_file, edge_file) = (directory.join("token"), directory.join("edge.json"));
        let config = json!({
            "tunnelPort": free_port(), "bindAddress": "127.0.0.1", "workers": 1, "stateDir": directory.join("state"),
            "admin": {"listen": place, "tokenFile": token_file},
        });
        std::fs::write(&file, config.to_string()).unwrap();
        std::fs::write(&token_file, TOKEN).unwrap();
        std::fs::write(&edge_file, r#"{"stunIntervalSecs": 0}"#).unwrap();
        let mut hub = Process::spawn("hub", &["hub", "--config", text(&file)], &[]);
        until(SOON, "the admin server", async || {
            (ctl(&["status", "--config", text(&file)]).await.0 == 0).then_some(())
        })
        .await;

        let put = ["put", "a", "--file", text(&edge_file)];
        let (code, _, problem) = ctl(&[&put[..], &["--admin", text(&place)]].concat()).await;
        assert_eq!(code, 1);
        assert!(
            problem.starts_with("E_UNAUTHORIZED") && problem.contains("--token-file"),
            "{problem}"
        );
        let with = ["--admin", text(&place), "--token-file", text(&token_file)];
        let (code, shown, problem) = ctl(&[&put[..], &with].concat()).await;
        assert_eq!(code, 0, "{problem}");
        assert!(
            shown.contains("added: a") && shown.contains("stateDir"),
            "{shown}"
        );
        // The place and the token are in the configuration, too.
        let (code, token, _) = ctl(&[
            "token",
            "a",
            "--hub-host",
            "hub.test",
            "--config",
            text(&file),
        ])
        .await;
        assert!(code == 0 && token.trim().len() > 40, "{token}");
        let (code, _, problem) = ctl(&[&["edge", "none"], &with[..]].concat()).await;
        assert!(
            code == 1 && problem.starts_with("E_UNKNOWN_EDGE"),
            "{problem}"
        );
        let (code, shown, _) = ctl(&[&["delete", "a"], &with[..]].concat()).await;
        assert!(code == 0 && shown.starts_with("removed: a"), "{shown}");
        let (code, _, problem) = ctl(&[&["drain"], &with[..]].concat()).await;
        assert_eq!(code, 0, "{problem}");
        assert!(hub.exit(SOON).await.success());
        assert!(!String::from_utf8_lossy(&hub.log()).contains(TOKEN));
    });
}

#[test]
fn ctl_follows_events_until_the_server_ends() {
    run(60, async {
        let place = socket("hub");
        let mut hub = Process::management("hub").await;
        let config =
            json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "admin": {"listen": place}});
        let started = hub.call("startHub", config).await;
        let secret = new_secret();
        hub.call(
            "updateAllowedEdges",
            json!({"edges": [{"id": "e", "secret": secret}]}),
        )
        .await;
        let edge = Process::management("edge").await;
        let to = json!({
            "hubHost": "127.0.0.1", "hubPort": started["tunnelPort"], "edgeId": "e", "secret": secret, "stunServers": [],
        });
        edge.call("startEdge", to).await;
        let mut following = Command::new(env!("CARGO_BIN_EXE_remoteingress-bin"))
            .args([
                "ctl",
                "events",
                "--follow",
                "--since",
                "0",
                "--admin",
                text(&place),
            ])
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        let told = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("more");
                if line.contains("edgeConnected  ") && line.contains("edgeId=e") {
                    return;
                }
            }
        };
        within(SOON, "the event", told).await;
        hub.call("stop", json!({})).await;
        hub.exit(SOON).await;
        let ended = within(SOON, "the end of ctl", following.wait()).await;
        assert!(ended.unwrap().success());
    });
}

#[test]
fn ctl_says_what_it_has_tried() {
    run(60, async {
        let (code, _, problem) = ctl(&["status"]).await;
        assert!(
            code == 2 && problem.contains("REMOTEINGRESS_ADMIN"),
            "{problem}"
        );
        let (code, _, problem) = ctl(&["status", "--admin", "/nowhere/hub.sock"]).await;
        assert!(
            code == 2 && problem.contains("/nowhere/hub.sock"),
            "{problem}"
        );
        let (code, _, problem) = ctl(&["status", "--admin", "https://hub.test:1"]).await;
        assert!(code == 2 && problem.contains("http://"), "{problem}");
        let (code, _, problem) =
            ctl(&["status", "--admin", &format!("127.0.0.1:{}", free_port())]).await;
        assert!(code == 2 && problem.contains("failed to ask"), "{problem}");
        assert_eq!(ctl(&["nothing"]).await.0, 2);
    });
}
