//! `remoteingress-bin ctl` against hubs and edges that run.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::admin::{TOKEN, socket};
use crate::harness::http::get;
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
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
        let own = format!("edge:           {EDGE_ID}\nhub:            127.0.0.1:");
        assert!(shown.contains(&own), "{shown}");
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
fn ctl_says_who_is_away_why_and_what_to_do() {
    run(60, async {
        let (hub_socket, edge_socket) = (socket("hub"), socket("edge"));
        let hub = Process::management("hub").await;
        let config =
            json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "admin": {"listen": hub_socket}});
        let started = hub.call("startHub", config).await;
        let edges =
            json!([{"id": "e", "secret": new_secret()}, {"id": "e2", "secret": new_secret()}]);
        hub.call("updateAllowedEdges", json!({"edges": edges}))
            .await;
        let edge = Process::management("edge").await;
        let to = json!({
            "hubHost": "127.0.0.1", "hubPort": started["tunnelPort"], "edgeId": "e", "secret": new_secret(), "stunServers": [],
            "admin": {"listen": edge_socket},
        });
        edge.call("startEdge", to).await;
        edge.wait_event("tunnelDisconnected", SOON, |_| true).await;

        let (_, shown, _) = ctl(&["status", "--admin", text(&edge_socket)]).await;
        assert!(shown.contains("E_AUTH_FAILED, "), "{shown}");
        let advice = "Make a new token for this edge at the hub, or correct its secret there.";
        assert!(shown.contains(advice), "{shown}");
        let (_, shown, _) = ctl(&["status", "--admin", text(&hub_socket)]).await;
        assert!(
            shown.contains("2 of 2 edges: e, e2 (see ctl edges)"),
            "{shown}"
        );
        let port = &started["tunnelPort"];
        assert!(
            shown.contains(&format!("reaches this hub at port {port} ")),
            "{shown}"
        );
        // The page has the same advice.
        for (place, advice) in [
            (&edge_socket, advice),
            (&hub_socket, "Check that the edge runs, and reaches"),
        ] {
            let page = get(place, "/", "").await.body;
            assert!(page.contains(advice), "{page}");
        }
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

        let list = directory.join("list.json");
        std::fs::write(&list, "[]").unwrap();
        let put = ["put", "a", "--file", text(&list), "--config", text(&file)];
        let (code, _, problem) = ctl(&put).await;
        assert!(
            code == 2 && problem.contains("must be a JSON object"),
            "{problem}"
        );
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
        advises(&directory, &with).await;
        let (code, _, problem) = ctl(&[&["edge", "none"], &with[..]].concat()).await;
        assert!(
            code == 1 && problem.starts_with("E_UNKNOWN_EDGE"),
            "{problem}"
        );
        let (code, shown, _) = ctl(&[&["delete", "a"], &with[..]].concat()).await;
        assert!(
            code == 0 && shown.starts_with("removed: a\nThe removal is kept in stateDir"),
            "{shown}"
        );
        let (code, shown, _) = ctl(&[&["delete", "a"], &with[..]].concat()).await;
        assert_eq!(
            (code, &*shown),
            (
                1,
                "unknown: a\nNothing was removed; ctl edges shows the edges.\n"
            )
        );
        let (code, _, problem) = ctl(&[&["drain"], &with[..]].concat()).await;
        assert_eq!(code, 0, "{problem}");
        assert!(hub.exit(SOON).await.success());
        assert!(!String::from_utf8_lossy(&hub.log()).contains(TOKEN));
    });
}

/// What the server refuses is said in the words of `ctl`; `with` are the arguments of place and token.
async fn advises(directory: &Path, with: &[&str; 4]) {
    let edge_file = directory.join("edge.json");
    let put = ["put", "a", "--file", text(&edge_file)];
    let other = directory.join("other");
    std::fs::write(&other, "another-token-0123456789").unwrap();
    let wrong = ["--admin", with[1], "--token-file", text(&other)];
    let (code, _, problem) = ctl(&[&put[..], &wrong].concat()).await;
    assert!(
        code == 1
            && problem.contains("isn't this server's")
            && problem.contains("SIGHUP")
            && !problem.contains("--token-file"),
        "{problem}"
    );
    let missing = directory.join("missing.json");
    let put = ["put", "a", "--file", text(&missing)];
    let (code, _, problem) = ctl(&[&put[..], with].concat()).await;
    assert!(code == 2 && problem.contains(text(&missing)), "{problem}");
    let (code, _, problem) = ctl(&[&["token", "a"], &with[..]].concat()).await;
    assert!(
        code == 1 && problem.contains(" --hub-host: is missing"),
        "{problem}"
    );
    let (code, _, problem) = ctl(&[&["token", "none"], &with[..]].concat()).await;
    assert!(
        code == 1 && problem.starts_with("E_UNKNOWN_EDGE") && problem.contains("ctl put ID"),
        "{problem}"
    );
}

#[test]
fn ctl_shows_the_streams_that_are_open() {
    run(60, async {
        let target = Target::echo().await;
        let (hub_socket, edge_socket) = (socket("hub"), socket("edge"));
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket}}))
            .edge(json!({"admin": {"listen": edge_socket}}));
        let entry = builder.forward(Proxy::None, target.address());
        let _tunnel = builder.start().await;
        let hub = ["streams", "--admin", text(&hub_socket)];
        let (code, shown, _) = ctl(&hub).await;
        assert!(code == 0 && shown.contains("no stream is open"), "{shown}");

        let mut clients = Vec::new();
        for _ in 0..2 {
            let mut client = TcpStream::connect(entry).await.unwrap();
            echoed(&mut client, 1).await;
            clients.push(client);
        }
        let first = clients[0].local_addr().unwrap().to_string();
        let target = target.address().to_string();
        let (code, shown, problem) = ctl(&[&hub[..], &["--limit", "1"]].concat()).await;
        assert_eq!((code, &*problem), (0, ""), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        let port = entry.port().to_string();
        assert_eq!(
            cells[1..6],
            [EDGE_ID, "tcp", &first, &port, &target],
            "{shown}"
        );
        assert_eq!(lines[2..], ["1 of 2; --limit shows more"], "{shown}");
        // The edge has the same stream under the same id, and knows no target.
        let edge = ["streams", "--json", "--admin", text(&edge_socket)];
        let (_, shown, _) = ctl(&edge).await;
        let list: Value = serde_json::from_str(&shown).unwrap();
        let stream = &list["streams"][0];
        assert_eq!(
            (&list["total"], &stream["id"]),
            (&json!(2), &json!(cells[0]))
        );
        assert_eq!(stream["target"], json!(null));
        let (code, shown, _) = ctl(&[&hub[..], &["--edge", "other"]].concat()).await;
        assert!(code == 0 && shown.contains("no stream is open"), "{shown}");
        let (code, _, problem) = ctl(&[&hub[..], &["--limit", "0"]].concat()).await;
        assert!(code == 1 && problem.contains("limit"), "{problem}");
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
        // It was there before anybody followed.
        hub.wait_event("edgeConnected", SOON, |_| true).await;
        let mut following = Command::new(env!("CARGO_BIN_EXE_remoteingress-bin"))
            .args(["ctl", "events", "--follow", "--admin", text(&place)])
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
        hub.call("removeEdges", json!({"edgeIds": ["e"]})).await;
        let comes = async {
            while !lines
                .next_line()
                .await
                .unwrap()
                .expect("more")
                .contains("edgeDisconnected  ")
            {}
        };
        within(SOON, "the event that comes", comes).await;
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
        let help = "remoteingress-bin ctl --help";
        let secret = format!("s{}", new_secret());
        for (arguments, says) in [
            (["status", "nothing"], "unexpected argument"),
            (["nothing", "x"], ": nothing;"),
            (["status", "--nothing"], ": --nothing;"),
            (["status", "--token"], "use --token-file or --config;"),
            ([&*secret, "x"], "subcommand"),
        ] {
            let (code, _, problem) = ctl(&arguments).await;
            assert!(
                code == 2 && problem.contains(says) && problem.contains(help),
                "{problem}"
            );
            assert!(
                !problem.contains("REMOTEINGRESS_TOKEN") && !problem.contains(&secret),
                "{problem}"
            );
        }
        let (_, shown, _) = ctl(&["--help"]).await;
        assert!(shown.contains("REMOTEINGRESS_ADMIN"), "{shown}");
    });
}
