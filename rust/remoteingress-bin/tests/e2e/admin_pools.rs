//! Pools over REST: what is shown of them, what a change does and how long it is kept, and what operators say of targets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::admin::{Answer, TOKEN, ask, get, socket};
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::target::{Target, echoed};
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, new_secret, run, until, within};

async fn tell(socket: &Path, method: &str, path: &str, body: &str) -> Answer {
    let headers = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
    ask(socket, method, path, &headers, body).await
}

fn refusal(answer: &Answer) -> (u16, &str, &str) {
    let message = answer.body["error"]["message"].as_str();
    (answer.status, answer.code(), message.unwrap_or_default())
}

#[test]
fn a_pool_is_put_and_removed_until_the_configuration_is_read_again() {
    run(60, async {
        let directory = new_directory("pools");
        let (file, socket) = (directory.join("hub.json"), directory.join("hub.sock"));
        let edge = json!({
            "id": "a", "secret": new_secret(), "stunIntervalSecs": 0,
            "listenPorts": [{"port": free_port(), "pool": "web"}],
        });
        let config = json!({
            "tunnelPort": free_port(), "bindAddress": "127.0.0.1", "workers": 1, "edges": [edge],
            "pools": {"web": {"targets": [{"host": "127.0.0.1", "port": 81}]}}, "geo": {"fallbackRegion": "eu"},
            "admin": {"listen": socket, "token": TOKEN},
        });
        std::fs::write(&file, config.to_string()).unwrap();
        let hub = Process::spawn("hub", &["hub", "--config", file.to_str().unwrap()], &[]);
        until(SOON, "the admin server", async || {
            tokio::net::UnixStream::connect(&socket).await.ok()
        })
        .await;
        assert_eq!(names(&socket).await, ["web"]);

        // A name of all that has to be encoded.
        let path = "/api/v1/pools/b%201%2F%C3%A4";
        let body = r#"{"strategy": "geo", "targets": [{"id": "t", "host": "127.0.0.1", "port": 82, "region": "eu"}]}"#;
        let unproved = ask(
            &socket,
            "PUT",
            path,
            "Content-Type: application/json\r\n",
            body,
        )
        .await;
        assert_eq!((unproved.status, unproved.code()), (401, "E_UNAUTHORIZED"));
        let put = tell(&socket, "PUT", path, body).await;
        assert_eq!((put.status, &put.body["added"]), (200, &json!(["b 1/ä"])));
        assert_eq!(put.body["kept"], "untilReload");
        let truth = put.body["truth"].as_str().unwrap();
        assert!(truth.contains("SIGHUP"), "{truth}");
        let shown = get(&socket, path).await;
        assert_eq!(
            (
                &shown["name"],
                &shown["isConfigured"],
                &shown["config"]["strategy"]
            ),
            (&json!("b 1/ä"), &json!(true), &json!("geo"))
        );
        assert_eq!(shown["status"]["targets"][0]["region"], "eu");
        let again = tell(&socket, "PUT", path, body).await;
        assert_eq!(again.body["unchanged"], json!(["b 1/ä", "web"]));

        what_cannot_be_changes_nothing(&socket, path).await;
        let changed = tell(&socket, "PUT", "/api/v1/pools/web", r#"{"targets": []}"#).await;
        assert_eq!(changed.body["changed"], json!(["web"]));
        let refused = tell(&socket, "DELETE", "/api/v1/pools/web", "").await;
        let (status, code, message) = refusal(&refused);
        assert_eq!((status, code), (400, "E_INVALID_CONFIG"));
        assert!(message.contains(r#"edge "a""#), "{message}");
        let removed = tell(&socket, "DELETE", path, "").await;
        assert_eq!(removed.body["removed"], json!(["b 1/ä"]));
        what_is_not_there_is_not_found(&socket, path).await;

        // The file counts again.
        tell(&socket, "PUT", path, body).await;
        hub.signal(libc::SIGHUP);
        until(SOON, "the pools of the file", async || {
            let web = get(&socket, "/api/v1/pools/web").await;
            let has_target = !web["status"]["targets"].as_array().unwrap().is_empty();
            (has_target && names(&socket).await == ["web"]).then_some(())
        })
        .await;
    });
}

/// What can't be names its field, and changes nothing.
async fn what_cannot_be_changes_nothing(socket: &Path, path: &str) {
    for (body, code, told) in [
        (r#"{"retries": 9}"#, "E_INVALID_CONFIG", "retries: "),
        (
            r#"{"targets": [{"host": "127.0.0.1", "wait": 1}]}"#,
            "E_INVALID_CONFIG",
            "targets[0]",
        ),
        ("[]", "E_BAD_REQUEST", "object"),
    ] {
        let refused = tell(socket, "PUT", path, body).await;
        let (status, found, message) = refusal(&refused);
        assert_eq!((status, found), (400, code), "{body}");
        assert!(message.contains(told), "{message}");
    }
}

/// Pools and targets that don't exist, and addresses that aren't.
async fn what_is_not_there_is_not_found(socket: &Path, path: &str) {
    for (method, path) in [
        ("GET", path),
        ("DELETE", path),
        ("GET", "/api/v1/pools/none/explain?client=192.0.2.1"),
        ("GET", "/api/v1/pools/none/bindings/192.0.2.1"),
        ("DELETE", "/api/v1/pools/none/bindings/192.0.2.1"),
        ("POST", "/api/v1/pools/web/targets/none/drain"),
    ] {
        let none = tell(socket, method, path, "").await;
        assert_eq!((none.status, none.code()), (404, "E_NOT_FOUND"), "{path}");
    }

    let geo = get(socket, "/api/v1/geo/192.0.2.1").await;
    assert_eq!(
        geo,
        json!({"ip": "192.0.2.1", "country": null, "region": "eu"})
    );
    for path in [
        "geo/x",
        "pools/web/explain",
        "pools/web/explain?client=x",
        "pools/%FF",
    ] {
        let refused = tell(socket, "GET", &format!("/api/v1/{path}"), "").await;
        assert_eq!(
            (refused.status, refused.code()),
            (400, "E_BAD_REQUEST"),
            "{path}"
        );
    }
}

async fn names(socket: &Path) -> Vec<String> {
    let answer = get(socket, "/api/v1/pools").await;
    let pools = answer["pools"].as_array().unwrap().iter();
    pools
        .map(|pool| pool["name"].as_str().unwrap().to_owned())
        .collect()
}

/// A tunnel to a pool of two targets that hold their clients.
struct Held {
    tunnel: Tunnel,
    socket: PathBuf,
    entry: SocketAddr,
    _targets: [Target; 2],
}

impl Held {
    async fn start() -> Self {
        let socket = socket("hub");
        let targets = [Target::echo().await, Target::echo().await];
        let of_pool = targets.iter().zip(["one", "two"]).map(
            |(target, id)| json!({"id": id, "host": "127.0.0.1", "port": target.address().port()}),
        );
        let pool = json!({"affinity": {"ttlSecs": 600}, "targets": of_pool.collect::<Vec<_>>()});
        let port = free_port();
        let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({
            "admin": {"listen": socket, "token": TOKEN}, "pools": {"web": pool},
        }));
        builder.listen(json!({"port": port, "pool": "web", "proxyProtocol": "none"}));
        let tunnel = builder.start().await;
        Self {
            tunnel,
            socket,
            entry: SocketAddr::from(([127, 0, 0, 1], port)),
            _targets: targets,
        }
    }

    async fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(self.entry).await.unwrap();
        echoed(&mut client, 1).await;
        client
    }

    async fn tell(&self, method: &str, path: &str) -> Answer {
        tell(
            &self.socket,
            method,
            &format!("/api/v1/pools/web/{path}"),
            "",
        )
        .await
    }

    /// The target that this machine's client has.
    async fn bound(&self) -> Value {
        self.tell("GET", "bindings/127.0.0.1").await.body["target"].clone()
    }

    /// Id and state of the targets as explained to this machine's client, the best first.
    async fn explained(&self, query: &str) -> Vec<(String, String)> {
        let path = format!("explain?client=127.0.0.1{query}");
        let answer = self.tell("GET", &path).await.body;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let targets = answer["targets"].as_array().unwrap().iter();
        targets
            .map(|target| (text(&target["id"]), text(&target["state"])))
            .collect()
    }
}

#[test]
fn a_target_takes_what_an_operator_lets_it_take() {
    run(60, async {
        let held = Held::start().await;
        let mut client = held.client().await;
        let first = held.bound().await.as_str().unwrap().to_owned();
        let other = if first == "one" { "two" } else { "one" };

        // It keeps its streams, and a client that comes back.
        let drained = held.tell("POST", &format!("targets/{first}/drain")).await;
        assert_eq!(
            (drained.status, &drained.body["target"]["state"]),
            (200, &json!("drain"))
        );
        assert_eq!(
            (&drained.body["pool"], &drained.body["target"]["id"]),
            (&json!("web"), &json!(first))
        );
        echoed(&mut client, 10).await;
        let expected = [
            (other.to_owned(), "up".to_owned()),
            (first.clone(), "drain".to_owned()),
        ];
        let unknown = held.tell("GET", "explain?client=127.0.0.1&edge=none").await;
        assert_eq!((unknown.status, unknown.code()), (404, "E_UNKNOWN_EDGE"));
        assert_eq!(held.explained(&format!("&edge={EDGE_ID}")).await.len(), 2);
        let before_unbound = held.explained("").await;
        assert!(before_unbound.contains(&expected[0]), "{before_unbound:?}");

        // Without its binding it is a new client.
        let forgotten = held.tell("DELETE", "bindings/127.0.0.1").await;
        assert_eq!(
            forgotten.body,
            json!({"pool": "web", "client": "127.0.0.1", "removed": true})
        );
        let forgotten = held.tell("DELETE", "bindings/127.0.0.1").await;
        assert_eq!(
            (held.bound().await, &forgotten.body["removed"]),
            (json!(null), &json!(false))
        );
        assert_eq!(held.explained("").await, expected);
        let _second = held.client().await;
        assert_eq!(held.bound().await, other);

        // Dead, it keeps its streams until they are cut.
        let refused = held
            .tell("POST", &format!("targets/{first}/drain?cut=true"))
            .await;
        let (status, code, message) = refusal(&refused);
        assert_eq!((status, code), (400, "E_INVALID_CONFIG"));
        assert!(message.starts_with("cut: "), "{message}");
        let refused = held.tell("POST", &format!("targets/{first}/gone")).await;
        assert_eq!((refused.status, refused.code()), (400, "E_BAD_REQUEST"));
        held.tell("POST", &format!("targets/{first}/dead")).await;
        echoed(&mut client, 10).await;
        let cut = held
            .tell("POST", &format!("targets/{first}/dead?cut=true"))
            .await;
        assert_eq!(cut.body["target"]["state"], "dead");
        let end = within(
            SOON,
            "the end of a stream that was cut",
            client.read(&mut [0; 1]),
        )
        .await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");

        let active = held.tell("POST", &format!("targets/{first}/active")).await;
        assert_eq!(active.body["target"]["state"], "up");
        let truth = active.body["truth"].as_str().unwrap();
        assert!(truth.contains("over SIGHUP"), "{truth}");
        // A program drives this hub.
        let put = tell(&held.socket, "PUT", "/api/v1/pools/new", "{}").await;
        assert_eq!(put.body["kept"], "untilProgram");
        let log = String::from_utf8_lossy(&held.tunnel.hub.log()).into_owned();
        assert!(
            log.contains("an operator has set a target's state"),
            "{log}"
        );
    });
}

#[test]
fn ctl_shows_pools_explains_them_and_sets_targets_states() {
    run(60, async {
        let held = Held::start().await;
        let _client = held.client().await;
        let token = new_directory("pools").join("token");
        std::fs::write(&token, TOKEN).unwrap();
        std::fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        let place = ["--admin", held.socket.to_str().unwrap()];
        let ctl = async |arguments: &[&str]| {
            let arguments = [&["ctl"], arguments, &place].concat();
            let (code, shown, problem) = run_to_end(&arguments).await;
            (code.unwrap(), shown, problem)
        };
        let first = held.bound().await.as_str().unwrap().to_owned();
        let (code, shown, problem) = ctl(&["pools"]).await;
        assert_eq!((code, &*problem), (0, ""));
        let row = shown.lines().find(|line| line.contains(&first)).unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            &cells[..7],
            ["web", "roundRobin", &first, "up", "1", "1", "100%"],
            "{shown}"
        );
        let (_, shown, _) = ctl(&["status"]).await;
        assert!(!shown.contains("pools"), "{shown}");

        let target = ["--pool", "web", "--target", &first];
        let drain = [&["pools", "drain"], &target[..]].concat();
        let (code, _, problem) = ctl(&drain).await;
        assert!(code == 1 && problem.contains("--token-file"), "{problem}");
        let token = ["--token-file", token.to_str().unwrap()];
        let (code, shown, problem) = ctl(&[&drain, &token[..]].concat()).await;
        assert_eq!((code, &*problem), (0, ""));
        let told = format!("web/{first} is drain from now on. This is in force over SIGHUP");
        assert!(shown.starts_with(&told), "{shown}");
        let (_, shown, _) = ctl(&["status"]).await;
        let told = format!("1 of 2 targets of web out ({first} drain) (see ctl pools)");
        assert!(
            shown.contains(&told) && shown.contains("drain: It was told to drain"),
            "{shown}"
        );
        let explain = [
            "pools",
            "explain",
            "--pool",
            "web",
            "--client",
            "127.0.0.1",
            "--edge",
            EDGE_ID,
        ];
        let (code, shown, problem) = ctl(&explain).await;
        assert_eq!((code, &*problem), (0, ""));
        assert!(
            shown.contains("The client has it, and comes back to it."),
            "{shown}"
        );
        assert!(shown.contains("The client has another target."), "{shown}");

        let dead = [&["pools", "dead", "--cut"], &target[..], &token].concat();
        assert_eq!(ctl(&dead).await.0, 0);
        let (_, shown, _) = ctl(&["pools"]).await;
        assert!(
            shown.contains(&format!("dead: web/{first}. It was told to be dead")),
            "{shown}"
        );
        let activate = [&["pools", "activate"], &target[..], &token].concat();
        assert_eq!(ctl(&activate).await.0, 0);
        let unknown = ["pools", "activate", "--pool", "web", "--target", "none"];
        let (code, _, problem) = ctl(&[&unknown, &token[..]].concat()).await;
        assert!(code == 1 && problem.contains("E_NOT_FOUND"), "{problem}");
    });
}
