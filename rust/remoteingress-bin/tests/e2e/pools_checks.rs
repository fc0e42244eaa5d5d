//! Checks of targets: case 19, and 18 of what they may do that streams may not.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::harness::health_target::{HEALTH, Health, HealthTarget, fetch};
use crate::harness::pooled::{Named, POOL, Refusing, pool, reach, state, target, with_pool};
use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::transport::Transport;
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, new_directory, run, run_timed, skip, until};

/// A check each second.
fn http_check() -> Value {
    json!({"type": "http", "path": HEALTH, "intervalSecs": 1, "timeoutSecs": 1})
}

async fn down(hub: &Process, mark: usize, target: char) -> Value {
    let name = target.to_string();
    hub.wait_event_since(mark, "targetDown", SOON, |event| event["target"] == name)
        .await
}

async fn up(hub: &Process, mark: usize, target: char) {
    let name = target.to_string();
    hub.wait_event_since(mark, "targetUp", SOON, |event| event["target"] == name)
        .await;
}

#[test]
fn an_http_check_takes_a_target_out_after_three_bad_answers_and_in_after_two_good_ones() {
    run_timed(90, async {
        let ok = Health::Status(200);
        let (a, b) = (
            HealthTarget::start('a', ok).await,
            HealthTarget::start('b', ok).await,
        );
        let targets = [a.target(), b.target()];
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "check": http_check()}),
        );
        let tunnel = builder.start().await;
        // They take clients until a check says otherwise, and after good ones.
        until(SOON, "checks", async || (a.answers() >= 2).then_some(())).await;
        for expected in ['a', 'b'] {
            until(SOON, "clients at both", async || {
                (fetch(entry).await == Some(expected)).then_some(())
            })
            .await;
        }

        let mark = tunnel.hub.mark();
        a.set(Health::Status(500));
        let event = down(&tunnel.hub, mark, 'a').await;
        // The next ones may have come while the event was under way.
        let bad = a.answers();
        assert!((3..=5).contains(&bad), "{bad} bad answers");
        assert_eq!(
            event,
            json!({"pool": POOL, "target": "a", "reason": "checks", "failures": 3})
        );
        let status = tunnel.hub.status().await;
        assert_eq!(state(&status, 'a')["state"], "down");
        assert_eq!(state(&status, 'b')["state"], "up");
        let before = a.clients();
        for _ in 0..20 {
            assert_eq!(fetch(entry).await, Some('b'));
        }
        assert_eq!(a.clients(), before);

        let mark = tunnel.hub.mark();
        a.set(ok);
        up(&tunnel.hub, mark, 'a').await;
        let good = a.answers();
        assert!((2..=4).contains(&good), "{good} good answers");
        assert_eq!(state(&tunnel.hub.status().await, 'a')["state"], "up");
        let mut reached = Vec::new();
        for _ in 0..4 {
            reached.push(fetch(entry).await.unwrap());
        }
        assert!(reached.contains(&'a'), "{reached:?}");
    });
}

#[test]
fn a_redirect_and_a_body_that_is_too_slow_fail_a_check() {
    run_timed(90, async {
        let redirecting = HealthTarget::start('r', Health::Redirect).await;
        let slow = HealthTarget::start('s', Health::Slow).await;
        let good = HealthTarget::start('g', Health::Status(201)).await;
        let targets = [redirecting.target(), slow.target(), good.target()];
        let mut check = http_check();
        check["status"] = json!("200-299");
        check["text"] = json!("ready");
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "check": check}),
        );
        let tunnel = builder.start().await;
        // Not two pauses of the body: the deadline is of the whole.
        for target in ['r', 's'] {
            assert_eq!(down(&tunnel.hub, 0, target).await["reason"], "checks");
        }
        assert_eq!(redirecting.clients(), 0, "the redirect was followed");
        let waits = slow.waits();
        let limits = Duration::from_millis(500)..Duration::from_secs(5);
        assert!(
            waits.len() >= 3 && waits.iter().all(|wait| limits.contains(wait)),
            "{waits:?}"
        );
        let status = tunnel.hub.status().await;
        assert_eq!(state(&status, 'g')["state"], "up", "{status}");
        for _ in 0..6 {
            assert_eq!(fetch(entry).await, Some('g'));
        }
    });
}

#[test]
fn a_tcp_check_goes_to_a_port_of_its_own() {
    run_timed(90, async {
        let (serving, checked) = (free_port(), free_port());
        let host = |last: u8| Ipv4Addr::new(127, 0, 0, last);
        let (a, b) = (
            Named::start_on('a', SocketAddr::from((host(2), serving))).await,
            Named::start_on('b', SocketAddr::from((host(3), serving))).await,
        );
        let mut own = Some(TcpListener::bind((host(2), checked)).await.unwrap());
        let _of_b = TcpListener::bind((host(3), checked)).await.unwrap();
        let targets = [a.target(json!({})), b.target(json!({}))];
        let check = json!({"type": "tcp", "port": checked, "intervalSecs": 1, "timeoutSecs": 1});
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "check": check}),
        );
        let tunnel = builder.start().await;
        // A check says nothing, and ends in order.
        let (mut asked, _) = own.as_ref().unwrap().accept().await.unwrap();
        assert_eq!(asked.read(&mut [0]).await.unwrap(), 0);

        let mark = tunnel.hub.mark();
        own.take();
        down(&tunnel.hub, mark, 'a').await;
        for _ in 0..6 {
            assert_eq!(reach(entry).await.unwrap().name, 'b');
        }
        // Only clients came to where the targets serve.
        assert_eq!((a.accepted(), b.accepted()), (0, 6));

        let mark = tunnel.hub.mark();
        own = Some(TcpListener::bind((host(2), checked)).await.unwrap());
        up(&tunnel.hub, mark, 'a').await;
        until(SOON, "a client at a", async || {
            (reach(entry).await.unwrap().name == 'a').then_some(())
        })
        .await;
        drop(own);
    });
}

#[test]
fn a_udp_check_looks_at_the_answer() {
    run_timed(90, async {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = socket.local_addr().unwrap().port();
        let targets = [json!({"id": "u", "host": "127.0.0.1", "port": port})];
        let check = json!({
            "type": "udp", "send": "70696e67", "expect": "706f6e67", "intervalSecs": 1, "timeoutSecs": 1,
        });
        let (answer, answering) = tokio::sync::watch::channel(Some("pong!"));
        let responder = tokio::spawn(async move {
            let mut datagram = [0; 64];
            loop {
                // A check that has ended refuses its answer.
                let Ok((length, from)) = socket.recv_from(&mut datagram).await else {
                    continue;
                };
                assert_eq!(&datagram[..length], b"ping");
                let answer: Option<&str> = *answering.borrow();
                if let Some(answer) = answer {
                    let _ = socket.send_to(answer.as_bytes(), from).await;
                }
            }
        });
        let mut builder = TunnelBuilder::new(Transport::TcpTls)
            .hub(json!({"pools": {POOL: {"targets": targets, "check": check}}}));
        builder.listen_udp(json!({"port": free_port(), "pool": POOL, "proxyProtocol": "none"}));
        let tunnel = builder.start().await;
        for (bad, what) in [(Some("pang"), "another answer"), (None, "silence")] {
            let mark = tunnel.hub.mark();
            answer.send_replace(bad);
            down(&tunnel.hub, mark, 'u').await;
            let status = tunnel.hub.status().await;
            assert_eq!(state(&status, 'u')["state"], "down", "{what}");
            let mark = tunnel.hub.mark();
            answer.send_replace(Some("pong!"));
            up(&tunnel.hub, mark, 'u').await;
        }
        assert!(!responder.is_finished());
        responder.abort();
    });
}

/// The header of version 2 that names nobody: signature, `LOCAL`, unspecified, no length.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";

#[test]
fn a_check_sends_the_header_of_the_port_and_names_nobody() {
    run_timed(90, async {
        for (proxy, expected) in [
            (Proxy::None, b"".as_slice()),
            (Proxy::V1, b"PROXY UNKNOWN\r\n"),
            (Proxy::V2, LOCAL),
        ] {
            let target = HealthTarget::start('a', Health::Status(500)).await;
            let pools = json!({POOL: {"targets": [target.target()], "check": http_check()}});
            let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({"pools": pools}));
            builder.listen(json!({
                "port": free_port(), "pool": POOL, "proxyProtocol": proxy.word(),
            }));
            let _tunnel = builder.start().await;
            // The first ones may be from before the port was known.
            let expected = [expected, format!("GET {HEALTH} HTTP/1.1\r\n").as_bytes()].concat();
            let seen = until(SOON, "a check with the port's header", async || {
                let checks = target.checks();
                let found = checks.iter().find(|check| check.starts_with(&expected));
                found.map(|_| checks.len())
            })
            .await;
            until(SOON, "further checks", async || {
                (target.checks().len() >= seen + 2).then_some(())
            })
            .await;
            let later = target.checks().split_off(seen);
            assert!(
                later.iter().all(|check| check.starts_with(&expected)),
                "{proxy:?}: {later:?}"
            );
        }
    });
}

/// HAProxy that takes nothing without a header; none if it isn't installed.
struct HaProxy {
    child: Child,
    address: SocketAddr,
}

impl HaProxy {
    async fn start() -> Option<Self> {
        let directory = new_directory("haproxy");
        let config = directory.join("haproxy.cfg");
        let port = free_port();
        let text = format!(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
             frontend web\n    bind 127.0.0.1:{port} accept-proxy\n\
             \x20   http-request return status 200 content-type text/plain string h\n"
        );
        std::fs::write(&config, text).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let mut command = Command::new("haproxy");
        command
            .args(["-db", "-f"])
            .arg(&config)
            .stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(log);
        let child = match command.spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                skip("haproxy");
                return None;
            }
            Err(error) => panic!("haproxy: {error}"),
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let haproxy = Self { child, address };
        until(SOON, "a listening haproxy", async || {
            TcpStream::connect(address).await.ok()
        })
        .await;
        Some(haproxy)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn haproxy_takes_the_header_of_checks() {
    run_timed(120, async {
        let Some(haproxy) = HaProxy::start().await else {
            return;
        };
        for proxy in [Proxy::V1, Proxy::V2] {
            let first = HealthTarget::start('a', Health::Status(200)).await;
            let mut check = http_check();
            let both = [
                first.target(),
                json!({"id": "h", "host": "127.0.0.1", "port": haproxy.address.port()}),
            ];
            let pools = json!({POOL: {"targets": [first.target()], "check": check}});
            let mut builder = TunnelBuilder::new(Transport::TcpTls).hub(json!({"pools": pools}));
            let port = free_port();
            builder.listen(json!({"port": port, "pool": POOL, "proxyProtocol": proxy.word()}));
            let tunnel = builder.start().await;
            // One that is added later has to be found good, so an event tells what HAProxy says.
            let mark = tunnel.hub.mark();
            let pools = json!({POOL: {"targets": both, "check": check}});
            tunnel
                .hub
                .call("updatePools", json!({"pools": pools}))
                .await;
            up(&tunnel.hub, mark, 'h').await;
            let entry = SocketAddr::from(([127, 0, 0, 1], port));
            until(SOON, "a client at HAProxy", async || {
                (fetch(entry).await == Some('h')).then_some(())
            })
            .await;
            // Without a header it takes none.
            let mark = tunnel.hub.mark();
            check["proxyProtocol"] = json!("none");
            let pools = json!({POOL: {"targets": both, "check": check}});
            tunnel
                .hub
                .call("updatePools", json!({"pools": pools}))
                .await;
            down(&tunnel.hub, mark, 'h').await;
        }
    });
}

#[test]
fn checks_may_take_out_a_whole_pool() {
    run_timed(90, async {
        let mut targets = Vec::new();
        for name in ['a', 'b', 'c', 'd'] {
            targets.push(HealthTarget::start(name, Health::Status(500)).await);
        }
        let of_pool: Vec<Value> = targets.iter().map(HealthTarget::target).collect();
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": of_pool, "check": http_check()}),
        );
        let tunnel = builder.start().await;
        for name in ['a', 'b', 'c', 'd'] {
            down(&tunnel.hub, 0, name).await;
        }
        for _ in 0..20 {
            assert_eq!(fetch(entry).await, None);
        }
        assert!(targets.iter().all(|target| target.clients() == 0));
        let status = tunnel.hub.status().await;
        assert_eq!(status["rejected"]["noHealthyTarget"], 20, "{status}");
        assert_eq!(pool(&status)["refusedUnhealthy"], 20);
        // The first that is good again has all of them.
        let mark = tunnel.hub.mark();
        targets[2].set(Health::Status(200));
        up(&tunnel.hub, mark, 'c').await;
        for _ in 0..5 {
            assert_eq!(fetch(entry).await, Some('c'));
        }
    });
}

#[test]
fn failures_of_streams_take_out_half_of_a_pool_at_most() {
    run(90, async {
        let refusing = ['a', 'b', 'c', 'd'].map(Refusing::new);
        let targets = refusing.each_ref().map(|target| target.target(json!({})));
        let (builder, entry) = with_pool(Transport::TcpTls, json!({"targets": targets}));
        let tunnel = builder.start().await;
        let states = async || {
            let status = tunnel.hub.status().await;
            ['a', 'b', 'c', 'd'].map(|name| state(&status, name)["state"].clone())
        };
        for _ in 0..30 {
            assert!(reach(entry).await.is_err());
            let ejected = states()
                .await
                .iter()
                .filter(|state| **state == "ejected")
                .count();
            assert!(ejected <= 2, "{ejected}");
        }
        let ejected = states()
            .await
            .iter()
            .filter(|state| **state == "ejected")
            .count();
        assert_eq!(ejected, 2);
    });
}

#[test]
fn a_target_that_comes_later_takes_clients_once_it_is_found_good() {
    run_timed(90, async {
        let first = HealthTarget::start('a', Health::Status(200)).await;
        let later = HealthTarget::start('b', Health::Status(500)).await;
        let pool = |targets: &[Value]| json!({"targets": targets, "check": http_check()});
        let (builder, entry) = with_pool(Transport::TcpTls, pool(&[first.target()]));
        let tunnel = builder.start().await;
        let both = pool(&[first.target(), later.target()]);
        tunnel
            .hub
            .call("updatePools", json!({"pools": {POOL: both}}))
            .await;
        let mark = tunnel.hub.mark();
        until(SOON, "three checks", async || {
            assert_eq!(fetch(entry).await, Some('a'));
            (later.answers() >= 3).then_some(())
        })
        .await;
        later.set(Health::Status(200));
        up(&tunnel.hub, mark, 'b').await;
        until(SOON, "a client", async || {
            (fetch(entry).await == Some('b')).then_some(())
        })
        .await;
        let answers = later.answers_before_client();
        assert!(answers >= Some(2), "{answers:?} good answers");
        assert_eq!(later.clients(), 1);
    });
}

#[test]
fn an_ejected_target_comes_back_by_a_look_at_it() {
    run_timed(90, async {
        let (refusing, other) = (Refusing::new('a'), Named::start('b').await);
        let targets = [refusing.target(json!({})), other.target(json!({}))];
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "recoveryIntervalSecs": 1}),
        );
        let tunnel = builder.start().await;
        until(SOON, "an ejection", async || {
            assert_eq!(reach(entry).await.unwrap().name, 'b');
            tunnel.hub.has_event_since(0, "targetDown").then_some(())
        })
        .await;
        let event = down(&tunnel.hub, 0, 'a').await;
        assert_eq!(event["reason"], "streams");
        // No stream tries it: its time would be 9 s at least.
        let mark = tunnel.hub.mark();
        let _serving = refusing.listen();
        let name = "a".to_owned();
        tunnel
            .hub
            .wait_event_since(mark, "targetUp", Duration::from_secs(5), |event| {
                event["target"] == name
            })
            .await;
        assert_eq!(state(&tunnel.hub.status().await, 'a')["state"], "up");
        until(SOON, "a client", async || {
            (reach(entry).await.unwrap().name == 'a').then_some(())
        })
        .await;
    });
}

#[test]
fn a_target_that_checks_find_well_again_is_used_at_once_though_streams_had_ejected_it() {
    run_timed(90, async {
        let (serving, checked) = (free_port(), free_port());
        let address = |last: u8, port| SocketAddr::from((Ipv4Addr::new(127, 0, 0, last), port));
        let b = Named::start_on('b', address(3, serving)).await;
        let _of_b = TcpListener::bind(address(3, checked)).await.unwrap();
        let of_a = TcpListener::bind(address(2, checked)).await.unwrap();
        let targets = [
            target('a', address(2, serving), json!({})),
            b.target(json!({})),
        ];
        let check = json!({
            "type": "tcp", "port": checked, "intervalSecs": 1, "timeoutSecs": 1, "fall": 1, "rise": 1,
        });
        let (builder, entry) = with_pool(
            Transport::TcpTls,
            json!({"targets": targets, "check": check}),
        );
        let tunnel = builder.start().await;
        // Nobody listens where it serves, which its checks don't see: it is out for 9 s at least.
        until(SOON, "an ejection", async || {
            assert_eq!(reach(entry).await.unwrap().name, 'b');
            tunnel.hub.has_event_since(0, "targetDown").then_some(())
        })
        .await;
        assert_eq!(down(&tunnel.hub, 0, 'a').await["reason"], "streams");
        assert_eq!(state(&tunnel.hub.status().await, 'a')["state"], "ejected");

        let mark = tunnel.hub.mark();
        drop(of_a);
        assert_eq!(down(&tunnel.hub, mark, 'a').await["reason"], "checks");
        let mark = tunnel.hub.mark();
        let a = Named::start_on('a', address(2, serving)).await;
        let _of_a = TcpListener::bind(address(2, checked)).await.unwrap();
        up(&tunnel.hub, mark, 'a').await;
        assert_eq!(state(&tunnel.hub.status().await, 'a')["state"], "up");
        // Both have their share, not a trial at a time.
        let mut clients = Vec::new();
        for _ in 0..6 {
            clients.push(reach(entry).await.unwrap());
        }
        assert_eq!(a.live(), 3);
    });
}
