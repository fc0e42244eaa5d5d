//! The admin server of hub and edge as its callers see it: who may ask, what is answered, and what a change does.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UnixStream};

use crate::harness::http;
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::relay::Cut;
use crate::harness::target::Target;
use crate::harness::transport::Transport;
use crate::harness::tunnel::{EDGE_ID, TunnelBuilder};
use crate::harness::{SOON, new_directory, new_secret, run, run_timed, until, within};

pub(crate) const TOKEN: &str = "admin-token-0123456789";
/// Time within which `/ready` follows the tunnel.
const READY_WITHIN: Duration = Duration::from_secs(1);

#[test]
fn a_socket_tells_the_same_as_the_management_interface() {
    run(60, async {
        let target = Target::echo().await;
        let (hub_socket, edge_socket) = (socket("hub"), socket("edge"));
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket}}))
            .edge(json!({"admin": {"listen": edge_socket}}));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;

        let mode = hub_socket.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let _client = connect(entry).await;
        // A session that comes up between two looks would make a difference.
        tunnel.wait_sessions().await;
        let has_all = |status: &Value| status["connectedEdges"][0]["sessions"] == 2;
        tunnel
            .hub
            .wait_status(SOON, "status with all sessions", has_all)
            .await;
        let hub = get(&hub_socket, "/api/v1/status").await;
        let without_rtt = |mut status: Value| {
            status["rttMs"] = json!(null);
            if let Some(edges) = status["connectedEdges"].as_array_mut() {
                edges
                    .iter_mut()
                    .for_each(|edge| edge["rttMs"] = json!(null));
            }
            status
        };
        assert_eq!((&hub["role"], &hub["edge"]), (&json!("hub"), &json!(null)));
        assert_eq!(
            without_rtt(hub["hub"].clone()),
            without_rtt(tunnel.hub.status().await)
        );
        let edge = get(&edge_socket, "/api/v1/status").await;
        assert_eq!(
            without_rtt(edge["edge"].clone()),
            without_rtt(tunnel.edge.status().await)
        );

        let edges = get(&hub_socket, "/api/v1/edges").await;
        assert_eq!(edges["edges"][0]["id"], EDGE_ID);
        assert_eq!(edges["edges"][0]["connected"]["activeStreams"], 1);
        let entry = tunnel.entry();
        assert!(
            !edges
                .to_string()
                .contains(entry["secret"].as_str().unwrap())
        );
        let one = get(&hub_socket, &format!("/api/v1/edges/{EDGE_ID}")).await;
        assert_eq!(one["config"], edges["edges"][0]["config"]);

        let refused = ask(&edge_socket, "GET", "/api/v1/edges", "", "").await;
        assert_eq!((refused.status, refused.code()), (404, "E_NOT_FOUND"));
        let refused = ask(&hub_socket, "GET", "/api/v1/edges/none", "", "").await;
        assert_eq!((refused.status, refused.code()), (404, "E_UNKNOWN_EDGE"));
        let refused = ask(&hub_socket, "DELETE", "/api/v1/edges/none", "", "").await;
        assert_eq!((refused.status, refused.code()), (403, "E_FORBIDDEN"));
        let refused = ask(&hub_socket, "POST", "/api/v1/status", "", "").await;
        assert_eq!(refused.status, 403);
    });
}

#[test]
fn an_edge_is_ready_as_long_as_it_has_a_session_and_a_port() {
    run_timed(60, async {
        let target = Target::echo().await;
        let edge_socket = socket("edge");
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .relayed()
            .edge(json!({"admin": {"listen": edge_socket}}));
        builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        assert_eq!(is_ready(&edge_socket).await, 200);

        tunnel.path().refuse(true);
        tunnel.path().cut(Cut::Rst);
        tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, |_| true)
            .await;
        became(&edge_socket, 503).await;
        assert_eq!(
            ask(&edge_socket, "GET", "/health", "", "").await.status,
            200
        );
        tunnel.path().refuse(false);
        let mark = tunnel.edge.mark();
        tunnel
            .edge
            .wait_event_since(mark, "tunnelConnected", SOON, |_| true)
            .await;
        became(&edge_socket, 200).await;

        let with_port = tunnel.entry();
        let mut without = with_port.clone();
        without["listenPorts"] = json!([]);
        tunnel.update(&without).await;
        became(&edge_socket, 503).await;
        tunnel.update(&with_port).await;
        became(&edge_socket, 200).await;
    });
}

#[test]
fn a_token_and_the_own_name_guard_an_address() {
    run(60, async {
        let port = free_port();
        let (directory, other) = (new_directory("admin"), "another-token-0123456789");
        let file = directory.join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let (hub, _) =
            start_hub(json!({"listen": format!("127.0.0.1:{port}"), "tokenFile": file})).await;

        let status = async |host: &str, path: &str, token: &str| {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let head =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n");
            exchange(stream, head, "").await.status
        };
        assert_eq!(status("evil.test", "/health", TOKEN).await, 403);
        assert_eq!(status("localhost", "/health", "").await, 200);
        // It was told no edges.
        assert_eq!(status("localhost", "/ready", "").await, 503);
        hub.call("updateAllowedEdges", json!({"edges": []})).await;
        assert_eq!(status("localhost", "/ready", "").await, 200);
        assert_eq!(status("127.0.0.1", "/api/v1/status", other).await, 401);
        assert_eq!(status("127.0.0.1", "/api/v1/status", TOKEN).await, 200);

        std::fs::write(&file, other).unwrap();
        hub.signal(libc::SIGHUP);
        until(SOON, "the new token", async || {
            let (new, old) = (
                status("localhost", "/api/v1/status", other),
                status("localhost", "/api/v1/status", TOKEN),
            );
            (new.await == 200 && old.await == 401).then_some(())
        })
        .await;
        let read_log = || String::from_utf8_lossy(&hub.log()).into_owned();
        let is_told = || read_log().contains("the admin token was read again");
        until(SOON, "word of it", async || is_told().then_some(())).await;
        let log = read_log();
        assert!(!log.contains(TOKEN) && !log.contains(other), "{log}");
    });
}

#[test]
fn a_change_by_http_is_the_same_generation_as_one_over_the_management_interface() {
    run(60, async {
        let target = Target::echo().await;
        let hub_socket = socket("hub");
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket, "token": TOKEN}}));
        builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        let path = format!("/api/v1/edges/{EDGE_ID}");
        let authorized =
            format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");

        let port = free_port();
        let mut edge = tunnel.entry().clone();
        edge["listenPorts"]
            .as_array_mut()
            .unwrap()
            .push(json!({"port": port, "targetPort": target.address().port()}));
        let mark = tunnel.hub.mark();
        let body = edge.to_string();
        let changed = ask(&hub_socket, "PUT", &path, &authorized, &body).await;
        assert_eq!(
            (changed.status, &changed.body["changed"]),
            (200, &json!([EDGE_ID]))
        );
        let applied = tunnel
            .hub
            .wait_event_since(mark, "portsApplied", SOON, |_| true)
            .await;
        let again = tunnel
            .hub
            .call("upsertEdges", json!({"edges": [edge]}))
            .await;
        assert_eq!(again["unchanged"], json!([EDGE_ID]), "after {applied}");
        TcpStream::connect(("127.0.0.1", port)).await.unwrap();

        let token = ask(
            &hub_socket,
            "POST",
            &format!("{path}/token"),
            &authorized,
            r#"{"hubHost": "hub.test"}"#,
        )
        .await;
        let same = tunnel
            .hub
            .call(
                "createConnectionToken",
                json!({"edgeId": EDGE_ID, "hubHost": "hub.test"}),
            )
            .await;
        assert_eq!(token.body, same);
        let log = String::from_utf8_lossy(&tunnel.hub.log()).into_owned();
        for secret in [&same["token"], &edge["secret"], &json!(TOKEN)] {
            assert!(!log.contains(secret.as_str().unwrap()), "{log}");
        }

        let removed = ask(&hub_socket, "DELETE", &path, &authorized, "").await;
        assert_eq!(removed.body["removed"], json!([EDGE_ID]));
        tunnel
            .edge
            .wait_event("tunnelDisconnected", SOON, |_| true)
            .await;
    });
}

#[test]
fn a_body_that_makes_no_sense_changes_nothing() {
    run(60, async {
        let hub_socket = socket("hub");
        let (_hub, _) = start_hub(json!({"listen": hub_socket, "token": TOKEN})).await;
        let path = format!("/api/v1/edges/{EDGE_ID}");
        let authorized =
            format!("Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n");
        let body = json!({"secret": new_secret()}).to_string();

        let other = ask(&hub_socket, "PUT", &path, &authorized, r#"{"id": "other"}"#).await;
        assert_eq!((other.status, other.code()), (400, "E_BAD_REQUEST"));
        let wrong = ask(
            &hub_socket,
            "PUT",
            &path,
            &authorized,
            r#"{"secret": "x", "listenPort": 1}"#,
        )
        .await;
        assert_eq!((wrong.status, wrong.code()), (400, "E_INVALID_CONFIG"));
        let form = format!("Authorization: Bearer {TOKEN}\r\nContent-Type: text/plain\r\n");
        assert_eq!(
            ask(&hub_socket, "PUT", &path, &form, &body).await.status,
            400
        );
        let large = format!("{{\"id\": \"{}\"}}", "x".repeat(1_100_000));
        let refused = ask(&hub_socket, "PUT", &path, &authorized, &large).await;
        assert_eq!((refused.status, refused.code()), (413, "E_BAD_REQUEST"));
        let refused = ask(&hub_socket, "GET", "/api/v1/edges/%ff", "", "").await;
        assert_eq!((refused.status, refused.code()), (400, "E_BAD_REQUEST"));
        assert_eq!(
            get(&hub_socket, "/api/v1/edges").await,
            json!({"edges": []})
        );
    });
}

#[test]
fn events_are_told_to_those_who_ask_later_and_to_those_who_listen() {
    run(60, async {
        let hub_socket = socket("hub");
        let (hub, port) = start_hub(json!({"listen": hub_socket})).await;
        assert_eq!(
            get(&hub_socket, "/api/v1/events").await,
            json!({"events": [], "next": 1, "lost": 0})
        );

        let secret = new_secret();
        hub.call(
            "updateAllowedEdges",
            json!({"edges": [{"id": EDGE_ID, "secret": secret}]}),
        )
        .await;
        let mut feed = Feed::open(&hub_socket, "/api/v1/events/stream?status").await;
        let (name, status) = feed.next().await;
        assert_eq!(
            (&*name, &status["hub"]["connectedEdges"]),
            ("status", &json!([]))
        );
        let edge = Process::management("edge").await;
        let place = json!({
            "hubHost": "127.0.0.1", "hubPort": port, "edgeId": EDGE_ID, "secret": secret, "stunServers": [],
        });
        edge.call("startEdge", place).await;
        let told = feed
            .find("event", |event| event["event"] == "edgeConnected")
            .await;
        let is_connected = |status: &Value| status["hub"]["connectedEdges"][0]["edgeId"] == EDGE_ID;
        feed.find("status", is_connected).await;

        let events = get(&hub_socket, "/api/v1/events?since=1").await;
        let events = events["events"].as_array().unwrap();
        assert!(events.contains(&told), "{told} isn't among {events:?}");
        let next = told["seq"].as_u64().unwrap() + 1;
        let later = get(&hub_socket, &format!("/api/v1/events?since={next}")).await;
        let is_later = |event: &Value| event["seq"].as_u64().unwrap() >= next;
        assert!(later["events"].as_array().unwrap().iter().all(is_later));
        assert_eq!(
            ask(&hub_socket, "GET", "/api/v1/events?from=1", "", "")
                .await
                .status,
            400
        );

        // A listener that comes back goes on after the last number that it has seen.
        let mut again = Feed::open(
            &hub_socket,
            &format!("/api/v1/events/stream?since={}", next - 1),
        )
        .await;
        assert_eq!(again.next().await, ("event".to_owned(), told));
    });
}

/// Its socket takes some events; those that wait behind them are given 30 s.
#[test]
fn a_reader_that_does_not_read_is_dropped_and_slows_nobody() {
    run(120, async {
        let hub_socket = socket("hub");
        let builder =
            TunnelBuilder::new(Transport::TcpTls).hub(json!({"admin": {"listen": hub_socket}}));
        let tunnel = builder.start().await;
        let mut slow = UnixStream::connect(&hub_socket).await.unwrap();
        let request = "GET /api/v1/events/stream HTTP/1.1\r\nHost: admin\r\n\r\n";
        slow.write_all(request.as_bytes()).await.unwrap();
        slow.readable().await.unwrap();
        let mut fast = Feed::open(&hub_socket, "/api/v1/events/stream").await;
        // Each event tells of 500 ports, in 30 kB; a socket of the system takes 200 kB or so.
        for round in 0..20 {
            let mut entry = tunnel.entry();
            let last = 20_500 + round % 2;
            entry["listenPorts"] = json!([{
                "port": format!("20001-{last}"), "bindAddress": "127.77.0.1", "targetPort": 9,
            }]);
            tunnel.update(&entry).await;
            fast.find("event", |event| event["event"] == "portsApplied")
                .await;
        }
        let dropped = async || {
            assert_eq!(get(&hub_socket, "/api/v1/status").await["role"], "hub");
            // Writing tells without reading: what is written waits for the end of the answer.
            slow.try_write(b"x")
                .is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
                .then_some(())
        };
        let begun = Instant::now();
        until(
            Duration::from_secs(60),
            "the end of the slow reader",
            dropped,
        )
        .await;
        assert!(
            begun.elapsed() > Duration::from_secs(20),
            "{:?}",
            begun.elapsed()
        );
    });
}

#[test]
fn a_head_that_drips_is_cut_after_ten_seconds() {
    run_timed(60, async {
        let hub_socket = socket("hub");
        let (_hub, _) = start_hub(json!({"listen": hub_socket})).await;
        let mut slow = UnixStream::connect(&hub_socket).await.unwrap();
        let begun = Instant::now();
        let mut drops = b"GET /health HTTP/1.1\r\nHost: "
            .iter()
            .chain(std::iter::repeat(&b'x'));
        until(SOON, "the end of a slow connection", async || {
            let dropped = slow.write_all(&[*drops.next()?]).await;
            dropped.is_err().then_some(())
        })
        .await;
        let took = begun.elapsed();
        assert!(
            (Duration::from_secs(9)..Duration::from_secs(15)).contains(&took),
            "{took:?}"
        );
        assert_eq!(ask(&hub_socket, "GET", "/health", "", "").await.status, 200);
    });
}

#[test]
fn a_drain_by_http_ends_the_process_and_is_watched_meanwhile() {
    run(60, async {
        let target = Target::echo().await;
        let hub_socket = socket("hub");
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"admin": {"listen": hub_socket, "token": TOKEN}}));
        let entry = builder.forward(Proxy::None, target.address());
        let mut tunnel = builder.start().await;
        let client = connect(entry).await;

        let authorized = format!("Authorization: Bearer {TOKEN}\r\n");
        assert_eq!(
            ask(&hub_socket, "POST", "/api/v1/drain", &authorized, "")
                .await
                .status,
            200
        );
        became(&hub_socket, 503).await;
        let status = get(&hub_socket, "/api/v1/status").await;
        assert_eq!(status["hub"]["connectedEdges"][0]["activeStreams"], 1);
        assert_eq!(status["hub"]["draining"], true);
        let page = http::get(&hub_socket, "/", "").await;
        assert!(page.body.contains("about to stop"), "{}", page.body);
        drop(client);
        assert!(tunnel.hub.exit(SOON).await.success());
        assert!(!hub_socket.exists());
    });
}

#[test]
fn a_start_whose_admin_server_has_no_place_fails_as_a_whole() {
    run(60, async {
        let (place, port) = (socket("hub"), free_port());
        let config =
            json!({"tunnelPort": port, "bindAddress": "127.0.0.1", "admin": {"listen": place}});
        let first = Process::management("hub").await;
        first.call("startHub", config).await;
        let second = Process::management("hub").await;
        let other =
            json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "admin": {"listen": place}});
        let refusal = second.request("startHub", other.clone()).await.unwrap_err();
        assert_eq!(refusal.code, "E_ADDRESS_IN_USE", "{}", refusal.message);
        // The file of a process that was killed is no obstacle.
        let mut first = first;
        first.kill().await;
        second.call("startHub", other).await;
        assert_eq!(ask(&place, "GET", "/health", "", "").await.status, 200);
    });
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }
}

/// A hub that listens at a port that the system chose, and that port.
pub(crate) async fn start_hub(admin: Value) -> (Process, Value) {
    let hub = Process::management("hub").await;
    let config = json!({"tunnelPort": 0, "bindAddress": "127.0.0.1", "admin": admin});
    let started = hub.call("startHub", config).await;
    (hub, started["tunnelPort"].clone())
}

/// Opens a stream that stays as long as the client.
async fn connect(entry: SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(entry).await.unwrap();
    client.write_all(b"x").await.unwrap();
    client.read_u8().await.unwrap();
    client
}

pub(crate) fn socket(name: &str) -> PathBuf {
    new_directory("admin").join(format!("{name}.sock"))
}

pub(crate) async fn get(socket: &Path, path: &str) -> Value {
    let answer = ask(socket, "GET", path, "", "").await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

async fn is_ready(socket: &Path) -> u16 {
    ask(socket, "GET", "/ready", "", "").await.status
}

async fn became(socket: &Path, status: u16) {
    let begun = Instant::now();
    until(SOON, "readiness", async || {
        (is_ready(socket).await == status).then_some(())
    })
    .await;
    let took = begun.elapsed();
    assert!(took < READY_WITHIN, "{took:?}");
}

pub(crate) async fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let stream = UnixStream::connect(socket).await.unwrap();
    exchange(
        stream,
        format!("{method} {path} HTTP/1.1\r\nHost: admin\r\n{headers}"),
        body,
    )
    .await
}

pub(crate) async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    head: String,
    body: &str,
) -> Answer {
    let length = body.len();
    let request = format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    let exchanged = within(SOON, "an answer", async {
        // A body that is too large is answered before it is read to its end.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    });
    let answer = exchanged.await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    assert!(head.contains("cache-control: no-store"), "{head}");
    Answer {
        status: status.unwrap_or_else(|| panic!("no answer: {answer:?}")),
        body: serde_json::from_str(body).unwrap_or_default(),
    }
}

/// A listener of server-sent events.
struct Feed {
    lines: tokio::io::Lines<BufReader<UnixStream>>,
}

impl Feed {
    async fn open(socket: &Path, path: &str) -> Self {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let lines = BufReader::new(stream).lines();
        Self { lines }
    }

    /// The next event's name and data.
    async fn next(&mut self) -> (String, Value) {
        let mut name = String::new();
        let next = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("more");
                if let Some(event) = line.strip_prefix("event: ") {
                    name = event.to_owned();
                } else if let Some(data) = line.strip_prefix("data: ") {
                    return (name, serde_json::from_str(data).unwrap());
                }
            }
        };
        within(SOON, "an event", next).await
    }

    /// The data of the next event of this name that `accept` takes.
    async fn find(&mut self, name: &str, accept: impl Fn(&Value) -> bool) -> Value {
        loop {
            match self.next().await {
                (found, data) if found == name && accept(&data) => return data,
                _ => {}
            }
        }
    }
}
