//! The command `doctor`: what it sees, what it says of it, and its exit codes.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use remoteingress_config::doctor::{CheckName, CheckState};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::harness::dial_proxy::{Doing, TestProxy};
use crate::harness::examined::{Place, set_mode};
use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end, run_to_end_with};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::{SOON, new_secret, run, run_timed, until};

#[test]
fn the_targets_of_a_pool_that_a_port_names_are_tried() {
    run(60, async {
        let target = Target::echo().await;
        let port = target.address().port();
        let mut place = Place::new();
        // One of them is at the listener's port.
        place.hub["targetHost"] = json!("127.0.0.77");
        let dead = free_port();
        place.hub["pools"] = json!({"web": {"targets": [
            {"id": "one", "host": "127.0.0.1"}, {"id": "two", "host": "127.0.0.1", "port": dead},
        ]}});
        let listen = json!({"port": port, "pool": "web", "proxyProtocol": "none"});
        place.merge(json!({"edges": [{"listenPorts": [listen]}]}));
        let report = place.doctor(&["--config", &place.write_hub()]).await;
        let checks = report.all(CheckName::Target);
        assert_eq!(checks.len(), 2, "{checks:?}");
        let told = format!("web/one at 127.0.0.1:{port} takes connections (edge edge-doctor)");
        assert_eq!(
            (checks[0].state, &*checks[0].seen),
            (CheckState::Ok, &*told)
        );
        assert_eq!(checks[1].state, CheckState::Failure);
        assert!(
            checks[1]
                .seen
                .starts_with(&format!("web/two at 127.0.0.1:{dead}: ")),
            "{checks:?}"
        );

        place.hub["pools"]["web"] = json!({"discover": {"name": "web.test"}});
        let report = place.doctor(&["--config", &place.write_hub()]).await;
        let check = report.only(CheckName::Target);
        assert!(
            check.state == CheckState::Ok && check.seen.contains("ctl doctor edge-doctor"),
            "{check:?}"
        );
    });
}

#[test]
fn a_hub_and_an_edge_that_are_well_end_with_zero_before_and_after_the_start() {
    run(120, async {
        let target = Target::echo().await;
        let mut place = Place::new();
        place.merge(
            json!({"edges": [{"listenPorts": [{"port": free_port(), "targetPort": target.address().port()}]}]}),
        );
        place.hub["edges"][0]["listenPorts"][0]["proxyProtocol"] = json!("none");
        let hub = place.write_hub();
        let before = place.doctor(&["--config", &hub]).await;
        before.is_well();
        assert!(before.only(CheckName::KeyFile).seen.contains("yet"));
        assert!(before.only(CheckName::TunnelPort).seen.contains("is free"));
        assert!(!place.state.exists(), "the doctor makes no key");

        let _hub = place.start().await;
        let token = place.token().await;
        let edge = place
            .doctor(&["--token-file", &token, "--config", &place.edge_options()])
            .await;
        edge.is_well();
        for name in [
            CheckName::Tcp,
            CheckName::Quic,
            CheckName::Pin,
            CheckName::Proof,
            CheckName::RoundTrip,
            CheckName::PathMtu,
            CheckName::Clock,
        ] {
            edge.only(name);
        }
        assert!(edge.only(CheckName::Pin).seen.contains("pinned key"));

        let running = place.doctor(&["--config", &hub]).await;
        running.is_well();
        let port = running.only(CheckName::TunnelPort);
        assert!(
            port.seen.contains("this hub, which runs already"),
            "{port:?}"
        );
        assert!(
            running
                .only(CheckName::Target)
                .seen
                .contains("takes connections")
        );
    });
}

#[test]
fn a_running_edge_keeps_its_session() {
    run(120, async {
        let mut place = Place::new();
        place.hub["workers"] = json!(1);
        let hub = Process::management("hub").await;
        hub.call("startHub", place.hub.clone()).await;
        let token = place.running_token(&hub).await;
        let edge = Process::management("edge").await;
        let config = json!({"token": token, "workers": 1, "stunServers": []});
        edge.call("startEdge", config).await;
        hub.wait_event("edgeConnected", SOON, |_| true).await;
        let (sessions, mark) = (edge.status().await["sessions"].clone(), hub.mark());
        let file = place.write("token.txt", &token, 0o600);
        let report = place
            .doctor(&["--token-file", &file, "--config", &place.edge_options()])
            .await;
        assert_eq!(report.only(CheckName::Proof).state, CheckState::Ok);
        let rejected = hub
            .wait_event_since(mark, "edgeRejected", SOON, |_| true)
            .await;
        assert_eq!(rejected["reason"], "unsupportedFeature");
        assert_eq!(edge.status().await["sessions"], sessions);
        assert_eq!(edge.status().await["reconnects"], 0);
        let status = hub.status().await;
        assert_eq!(status["rejected"]["unsupportedFeature"], 1, "{status}");
        // The lines about refusals come about a second later.
        let log = until(SOON, "the line that names the doctor", async || {
            let log = String::from_utf8_lossy(&hub.log()).into_owned();
            log.contains("a doctor has proved").then_some(log)
        })
        .await;
        assert!(!log.contains("update the older one"), "{log}");
        for event in ["edgeDisconnected", "edgeConnected"] {
            assert!(!hub.has_event_since(mark, event), "{event}");
        }
    });
}

#[test]
fn another_key_is_a_failure_that_names_the_pin() {
    run(60, async {
        let mut place = Place::new();
        let mut first = place.start().await;
        let token = place.token().await;
        first.kill().await;
        place.hub["stateDir"] = json!(place.state.with_file_name("other"));
        let _other = place.start().await;
        let report = place
            .doctor(&["--token-file", &token, "--config", &place.edge_options()])
            .await;
        assert_eq!(report.code, 2);
        let pin = report.only(CheckName::Pin);
        assert_eq!(pin.state, CheckState::Failure);
        assert!(pin.seen.contains("another key"), "{pin:?}");
        assert!(
            !report.has(CheckName::Proof),
            "nothing is proved to a stranger"
        );
        report.others_are_well(CheckName::Pin);
    });
}

#[test]
fn a_wrong_secret_is_a_failure_and_one_wrong_proof() {
    run(60, async {
        let place = Place::new();
        let hub = Process::management("hub").await;
        hub.call("startHub", place.hub.clone()).await;
        let secret = new_secret();
        let edge = json!({
            "hubHost": "127.0.0.1", "hubPort": place.port, "edgeId": "edge-doctor", "secret": secret,
            "stunServers": [], "transportMode": "quicWithFallback",
        });
        let edge = place.write("edge.json", &edge.to_string(), 0o600);
        let report = place.doctor(&["--config", &edge]).await;
        assert_eq!(report.code, 2);
        assert_eq!(report.only(CheckName::Proof).state, CheckState::Failure);
        assert_eq!(
            report.only(CheckName::Pin).state,
            CheckState::Warning,
            "no pin is given"
        );
        assert_eq!(report.only(CheckName::Tcp).state, CheckState::Ok);
        assert!(!report.text.contains(&secret), "{}", report.text);
        let status = hub.status().await;
        assert_eq!(status["rejected"]["authFailed"], 1, "{status}");
    });
}

#[test]
fn a_hub_that_isnt_there_is_a_failure_of_tcp() {
    run(60, async {
        let place = Place::new();
        for (mode, tcp, quic) in [
            ("tcpTls", CheckState::Failure, CheckState::Ok),
            ("quic", CheckState::Warning, CheckState::Failure),
        ] {
            let edge = json!({
                "hubHost": "127.0.0.1", "hubPort": place.port, "edgeId": "e", "secret": new_secret(),
                "stunServers": [], "transportMode": mode,
            });
            let edge = place.write("edge.json", &edge.to_string(), 0o600);
            let report = place.doctor(&["--config", &edge]).await;
            assert_eq!(report.code, 2);
            assert_eq!(report.only(CheckName::Tcp).state, tcp, "{mode}");
            assert_eq!(report.only(CheckName::Quic).state, quic, "{mode}");
            assert!(!report.has(CheckName::Proof) && !report.has(CheckName::Pin));
        }
    });
}

#[test]
fn a_name_without_an_address_is_a_failure() {
    run_timed(60, async {
        let place = Place::new();
        let edge = json!({
            "hubHost": "hub.invalid", "edgeId": "e", "secret": new_secret(),
            "stunServers": ["stun.invalid:3478"],
        });
        let edge = place.write("edge.json", &edge.to_string(), 0o600);
        let report = place.doctor(&["--config", &edge]).await;
        assert_eq!(report.code, 2);
        let names = report.all(CheckName::NameResolution);
        let states: Vec<_> = names.iter().map(|check| check.state).collect();
        assert_eq!(
            states,
            [CheckState::Failure, CheckState::Warning],
            "{names:?}"
        );
        assert!(names[0].seen.contains("hub.invalid"), "{names:?}");
        assert!(!report.has(CheckName::Tcp), "there is nothing to dial");
    });
}

#[test]
fn a_tunnel_port_of_another_program_is_a_failure() {
    run(60, async {
        let place = Place::new();
        let taken = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
        let hub = place.write_hub();
        let edge = json!({
            "listenTunnel": {"port": place.port, "bindAddress": "127.0.0.1"}, "edgeId": "e", "secret": new_secret(),
            "stunServers": [],
        });
        let edge = place.write("edge.json", &edge.to_string(), 0o600);
        for config in [&hub, &edge] {
            let report = place.doctor(&["--config", config]).await;
            assert_eq!(report.code, 2);
            let port = report.only(CheckName::TunnelPort);
            assert_eq!(port.state, CheckState::Failure);
            assert!(port.seen.contains("another program"), "{port:?}");
            report.others_are_well(CheckName::TunnelPort);
        }
        drop(taken);
        for config in [&hub, &edge] {
            place.doctor(&["--config", config]).await.is_well();
        }
    });
}

#[test]
fn files_that_others_can_read_are_warned_of() {
    run(60, async {
        let place = Place::new();
        let hub = place.write_hub();
        drop(place.start().await);
        let key = place.state.join("hub-key.pem");
        for (mode, key_state) in [(0o600, CheckState::Ok), (0o644, CheckState::Warning)] {
            set_mode(&key, mode);
            let report = place.doctor(&["--config", &hub]).await;
            assert_eq!(report.only(CheckName::KeyFile).state, key_state);
            report.others_are_well(CheckName::KeyFile);
        }
        set_mode(&key, 0o646);
        let report = place.doctor(&["--config", &hub]).await;
        assert_eq!(
            (report.code, report.only(CheckName::KeyFile).state),
            (2, CheckState::Failure)
        );

        set_mode(&key, 0o600);
        set_mode(Path::new(&hub), 0o644);
        let report = place.doctor(&["--config", &hub]).await;
        let file = report.only(CheckName::FileMode);
        assert_eq!((report.code, file.state), (1, CheckState::Warning));
        assert!(
            file.seen.contains("hub.json") && file.seen.contains("0644"),
            "{file:?}"
        );
    });
}

#[test]
fn targets_are_dialled_and_get_the_header_that_they_expect() {
    run_timed(60, async {
        let headers = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&headers);
        let understands = Target::start(Proxy::V1, move |mut stream, header| {
            let own = header.is_some_and(|header| header.source.ip().is_loopback());
            counted.fetch_add(usize::from(own), Ordering::Relaxed);
            async move {
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            }
        })
        .await;
        let closes = Target::start(Proxy::None, |mut stream, _| async move {
            let _ = stream.write_all(b"SSH-2.0-test\r\n").await;
        })
        .await;
        let refused = free_port();
        let mut place = Place::new();
        let port = |target: u16, proxy: &str| json!({"port": free_port(), "targetPort": target, "proxyProtocol": proxy});
        place.hub["edges"][0]["listenPorts"] = json!([
            port(understands.address().port(), "v1"),
            port(closes.address().port(), "v2"),
            port(refused, "none"),
        ]);
        let hub = place.write_hub();
        let report = place.doctor(&["--config", &hub]).await;
        assert_eq!(report.code, 2);
        assert_eq!(headers.load(Ordering::Relaxed), 1);
        let state = |name, target: u16| {
            let of_target = format!("127.0.0.1:{target}");
            let found = report.all(name).into_iter();
            let mut found = found.filter(|check| check.seen.contains(&of_target));
            found.next().map(|check| check.state)
        };
        for (target, dialled, header) in [
            (
                understands.address().port(),
                CheckState::Ok,
                Some(CheckState::Ok),
            ),
            (
                closes.address().port(),
                CheckState::Ok,
                Some(CheckState::Warning),
            ),
            (refused, CheckState::Failure, None),
        ] {
            assert_eq!(
                state(CheckName::Target, target),
                Some(dialled),
                "{}",
                report.text
            );
            assert_eq!(
                state(CheckName::ProxyHeader, target),
                header,
                "{}",
                report.text
            );
        }
    });
}

#[test]
fn an_edge_that_the_hub_dials_is_examined_from_both_ends() {
    run(60, async {
        let mut place = Place::new();
        let (secret, port) = (new_secret(), free_port());
        let config = json!({
            "listenTunnel": {"port": port, "bindAddress": "127.0.0.1"}, "edgeId": "edge-doctor", "secret": secret,
            "stunServers": [], "workers": 1,
        });
        let file = place.write("edge.json", &config.to_string(), 0o600);
        place.doctor(&["--config", &file]).await.is_well();
        let _edge = Process::spawn("edge", &["edge", "--config", &file], &[]);
        let running = until(SOON, "an edge that listens", async || {
            let report = place.doctor(&["--config", &file]).await;
            let port = report.only(CheckName::TunnelPort);
            port.seen
                .contains("this edge, which runs")
                .then_some(report)
        });
        running.await.is_well();

        place.hub["edges"][0]["secret"] = json!(secret);
        place.hub["edges"][0]["dial"] = json!({"host": "127.0.0.1", "port": port});
        let hub = place.write_hub();
        let report = place.doctor(&["--config", &hub]).await;
        report.is_well();
        assert!(
            report
                .only(CheckName::Quic)
                .seen
                .contains("(edge edge-doctor)")
        );
        place.hub["edges"][0]["dial"]["pin"] = json!("A".repeat(43));
        let hub = place.write_hub();
        let report = place.doctor(&["--config", &hub]).await;
        assert_eq!(
            (report.code, report.only(CheckName::Pin).state),
            (2, CheckState::Failure)
        );
    });
}

#[test]
fn a_hub_behind_a_proxy_is_examined_over_tcp_alone() {
    run(60, async {
        let place = Place::new();
        let _hub = place.start().await;
        let token = place.token().await;
        let hub = SocketAddr::from(([127, 0, 0, 1], place.port));
        let through = async |doing| {
            let proxy = TestProxy::start(doing).await;
            let url = format!("http://user:hunter22@{}", proxy.address);
            let options = json!({"stunServers": [], "hubProxy": url}).to_string();
            let options = place.write("proxied.json", &options, 0o600);
            let arguments = ["--token-file", &token, "--config", &options];
            place.doctor(&arguments).await
        };
        let report = through(Doing::Connect(hub)).await;
        report.is_well();
        report.only(CheckName::Proof);
        assert!(!report.has(CheckName::Quic), "no proxy carries it");
        let report = through(Doing::Close).await;
        assert_eq!(report.code, 2);
        let tcp = report.only(CheckName::Tcp);
        assert!(tcp.seen.contains("E_PROXY"), "{tcp:?}");
        assert!(!report.text.contains("hunter22"), "{}", report.text);
    });
}

#[test]
fn a_configuration_with_a_fault_is_a_failure_and_people_get_a_table() {
    run(60, async {
        let place = Place::new();
        let file = place.write("bad.json", r#"{"edges": [], "tunelPort": 1}"#, 0o600);
        let report = place.doctor(&["--config", &file]).await;
        assert_eq!(report.code, 2);
        assert!(
            report
                .only(CheckName::Configuration)
                .seen
                .contains("tunelPort")
        );
        let (code, table, _) = run_to_end(&["doctor", "--config", &file]).await;
        assert_eq!(code, Some(2));
        assert!(
            table.starts_with("failure  configuration  E_INVALID_CONFIG"),
            "{table}"
        );
        assert!(table.ends_with("0 ok, 0 warnings, 1 failures\n"), "{table}");

        let (code, _, stderr) = run_to_end(&["doctor"]).await;
        assert_eq!(code, Some(1));
        assert!(stderr.contains("REMOTEINGRESS_TOKEN"), "{stderr}");
    });
}

#[test]
fn a_token_from_the_environment_is_an_edges_and_no_matter_for_a_hub() {
    run(60, async {
        let place = Place::new();
        let _hub = place.start().await;
        let token = std::fs::read_to_string(place.token().await).unwrap();
        let environment = [("REMOTEINGRESS_TOKEN", token.trim())];
        for (config, seen) in [
            (place.edge_options(), "the hub has the pinned key"),
            (place.write_hub(), "a hub with 1 edges"),
        ] {
            let arguments = ["doctor", "--json", "--config", &config];
            let (code, output, stderr) = run_to_end_with(&arguments, &environment).await;
            assert!(code < Some(2) && output.contains(seen), "{output} {stderr}");
            assert!(!(output + &stderr).contains(token.trim()));
        }
    });
}

#[test]
fn a_place_that_the_start_would_not_get_is_a_failure() {
    run(60, async {
        let mut place = Place::new();
        let (free, socket) = (free_port(), place.directory.join("admin.sock"));
        place.hub["admin"] = json!({"listen": socket});
        place.hub["accessLog"] = json!({"path": place.directory.join("access.log")});
        let hub = place.write_hub();
        let report = place.doctor(&["--config", &hub]).await;
        for name in [CheckName::AdminListen, CheckName::AccessLog] {
            assert_eq!(report.only(name).state, CheckState::Ok, "{}", report.text);
        }
        let taken = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let fails = async |place: &Place, name, seen: &str| {
            let hub = place.write_hub();
            let report = place.doctor(&["--config", &hub]).await;
            let check = report.only(name);
            let is_seen = check.seen.contains(seen) && check.advice.is_some();
            assert!(is_seen && report.code == 2, "{check:?}");
        };
        fails(&place, CheckName::AdminListen, "another program").await;
        drop(taken);
        let other = TcpListener::bind(("127.0.0.1", free)).unwrap();
        place.hub["admin"] = json!({"listen": format!("127.0.0.1:{free}"), "token": new_secret()});
        fails(&place, CheckName::AdminListen, "another program").await;
        drop(other);
        place.hub["admin"] = json!({"listen": place.directory.join("none/admin.sock")});
        fails(&place, CheckName::AdminListen, "No such file").await;
        place.hub["admin"] = json!({"listen": socket});
        place.hub["accessLog"] = json!({"path": place.directory.join("none/access.log")});
        fails(&place, CheckName::AccessLog, "No such file").await;
    });
}

#[test]
fn edges_that_rest_has_changed_are_examined() {
    run(60, async {
        let place = Place::new();
        let dead = free_port();
        let port = json!({"port": 8080, "targetHost": "127.0.0.1", "targetPort": dead});
        let edge = json!({"id": "of-rest", "secret": new_secret(), "listenPorts": [port]});
        let kept = json!({"version": 1, "changes": [{"id": "of-rest", "now": edge, "over": null}]});
        std::fs::create_dir(&place.state).unwrap();
        set_mode(&place.state, 0o700);
        place.write("state/edges.json", &kept.to_string(), 0o600);
        let hub = place.write_hub();
        let report = place.doctor(&["--config", &hub]).await;
        let target = report.only(CheckName::Target);
        assert!(target.seen.contains(&dead.to_string()), "{target:?}");
        place.write("state/edges.json", "{", 0o600);
        let report = place.doctor(&["--config", &hub]).await;
        let damaged = report.only(CheckName::Configuration);
        assert!(
            damaged.seen.contains("edges.json") && report.code == 2,
            "{damaged:?}"
        );
    });
}
