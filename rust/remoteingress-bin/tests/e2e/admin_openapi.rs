//! docs/openapi.json: a real validator accepts it, and what hub and edge answer is what it says.
//!
//! Without Python's `openapi-spec-validator` the test is skipped aloud, unless `REMOTEINGRESS_REQUIRE_PEERS=1` makes it
//! mandatory.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::process::Command;

use crate::admin::{TOKEN, ask, get, socket};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::udp_oracle::{UdpOracle, UdpProxy};
use crate::harness::{SOON, run, skip, within};

/// Exit code of the script where a package of Python is missing.
const NO_PACKAGE: i32 = 3;

/// Answers, each with the path and the method as the document has them, and its status.
struct Answers {
    socket: PathBuf,
    list: Vec<Value>,
}

impl Answers {
    /// Asks for the path of a request; `path` is the document's.
    async fn ask(&mut self, method: &str, path: &str, request: &str, body: &str) -> Value {
        let headers =
            format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        let answer = ask(&self.socket, method, request, &headers, body).await;
        let method = method.to_lowercase();
        self.list
            .push(json!([path, method, answer.status, answer.body]));
        answer.body
    }

    async fn get(&mut self, path: &str) -> Value {
        self.ask("GET", path, path, "").await
    }

    /// All that there is about pools.
    async fn pools(&mut self) {
        let pool = "/api/v1/pools/{pool}";
        let body = json!({
            "strategy": "geo", "affinity": {}, "queue": {}, "check": {"type": "http"}, "discover": {"name": "a.test"},
            "targets": [{"host": "127.0.0.1", "port": 9}, {"host": "127.0.0.1", "region": "eu", "country": "de"}],
        });
        for body in [
            body.to_string().as_str(),
            "{}",
            "[]",
            body.to_string().as_str(),
        ] {
            self.ask("PUT", pool, "/api/v1/pools/p", body).await;
        }
        self.get("/api/v1/pools").await;
        for (method, path, request) in [
            ("GET", "", ""),
            (
                "POST",
                "/targets/{target}/{state}",
                "/targets/127.0.0.1:9/dead?cut=true",
            ),
            (
                "POST",
                "/targets/{target}/{state}",
                "/targets/127.0.0.1:9/else",
            ),
            ("GET", "/explain", "/explain?client=192.0.2.1"),
            ("GET", "/explain", "/explain"),
            ("GET", "/bindings/{client}", "/bindings/192.0.2.1"),
            ("DELETE", "/bindings/{client}", "/bindings/2001:db8::1"),
            ("DELETE", "", ""),
            ("DELETE", "", ""),
        ] {
            let (path, request) = (format!("{pool}{path}"), format!("/api/v1/pools/p{request}"));
            self.ask(method, &path, &request, "").await;
        }
        self.ask("GET", "/api/v1/geo/{ip}", "/api/v1/geo/192.0.2.1", "")
            .await;
    }
}

#[test]
fn answers_are_what_the_document_says() {
    run(60, async {
        let target = Target::echo().await;
        let oracle = UdpOracle::start(UdpProxy::None);
        let (hub, edge) = (socket("hub"), socket("edge"));
        let admin = |listen: &Path| json!({"admin": {"listen": listen, "token": TOKEN}});
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(admin(&hub))
            .edge(admin(&edge));
        let entry = builder.forward(Proxy::None, target.address());
        builder.forward_udp(UdpProxy::None, oracle.address());
        let tunnel = builder.start().await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 1).await;

        let mut answers = Vec::new();
        for socket in [hub.clone(), edge] {
            let mut of = Answers {
                socket,
                list: Vec::new(),
            };
            for path in ["status", "config", "streams", "events", "edges"] {
                of.get(&format!("/api/v1/{path}")).await;
            }
            let one = "/api/v1/edges/{id}";
            of.ask("GET", one, &format!("/api/v1/edges/{EDGE_ID}"), "")
                .await;
            of.ask("GET", one, "/api/v1/edges/%FF", "").await;
            of.ask(
                "GET",
                "/api/v1/streams",
                "/api/v1/streams?edge=a&limit=0",
                "",
            )
            .await;
            let dialled = json!({"dial": {"host": "127.0.0.1", "port": 9}, "listenPorts": [443, "8000-8010"]});
            for body in [dialled.to_string().as_str(), "{}", "[]"] {
                of.ask("PUT", one, "/api/v1/edges/other", body).await;
            }
            let token = "/api/v1/edges/{id}/token";
            for body in [r#"{"hubHost": "hub.test"}"#, "{}"] {
                of.ask("POST", token, "/api/v1/edges/other/token", body)
                    .await;
            }
            let test = "/api/v1/edges/{id}/test";
            for id in [EDGE_ID, "other", "none"] {
                of.ask("POST", test, &format!("/api/v1/edges/{id}/test"), "")
                    .await;
            }
            of.pools().await;
            of.get("/api/v1/edges").await;
            of.ask("DELETE", one, "/api/v1/edges/other", "").await;
            answers.append(&mut of.list);
        }
        let served = get(&hub, "/api/v1/openapi.json").await;
        let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let written = std::fs::read(&document).unwrap();
        assert_eq!(served, serde_json::from_slice::<Value>(&written).unwrap());
        drop(tunnel);

        let Some(problems) = validate(&document, &answers).await else {
            return skip("openapi-spec-validator of Python");
        };
        assert_eq!(problems, "");
        // An answer that isn't as described is seen.
        let wrong = [json!(["/api/v1/streams", "get", 200, {"streams": [], "total": "1", "x": 1}])];
        let problems = validate(&document, &wrong).await.unwrap();
        assert!(
            problems.contains("$.total") && problems.contains("'x'"),
            "{problems}"
        );
    });
}

/// What the script says of these answers; none where it can't run.
async fn validate(document: &Path, answers: &[Value]) -> Option<String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/admin_openapi.py");
    let mut child = Command::new("python3")
        .args([&script, document])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let checked = within(SOON, "the validator's word", async {
        // It doesn't read where a package is missing.
        let _ = stdin.write_all(json!(answers).to_string().as_bytes()).await;
        drop(stdin);
        child.wait_with_output().await.unwrap()
    });
    let output = checked.await;
    if output.status.code() == Some(NO_PACKAGE) {
        return None;
    }
    let failed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(failed, "");
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
