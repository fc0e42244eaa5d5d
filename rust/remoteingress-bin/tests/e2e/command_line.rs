//! The binary without a parent: config files, token files, signals, exit codes.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::ports::free_port;
use crate::harness::process::{Process, run_to_end};
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::{SOON, new_directory, new_secret, run, system, until};

on_both_transports! {
    hub_and_edge_run_from_files_and_the_hub_reloads_them,
    a_token_from_the_environment_works_and_leaves_it,
}

fn hub_and_edge_run_from_files_and_the_hub_reloads_them(transport: Transport) {
    run(90, async {
        let target = Target::echo().await;
        let files = Files::new(&target);
        let first = free_port();
        files.write_hub(&[first]);
        let mut hub = Process::spawn("hub", &["hub", "--config", path(&files.hub)], &[]);
        files.write_token().await;
        std::fs::write(&files.edge, edge_options(transport).to_string()).unwrap();
        let arguments = [
            "edge",
            "--token-file",
            path(&files.token),
            "--config",
            path(&files.edge),
        ];
        let mut edge = Process::spawn("edge", &arguments, &[]);
        wait_echo(first).await;

        let second = free_port();
        files.write_hub(&[first, second]);
        hub.signal(libc::SIGHUP);
        wait_echo(second).await;

        // A bad file changes nothing, and the hub says so.
        std::fs::write(&files.hub, "{\"tunnelPort\": ").unwrap();
        let before = hub.log().len();
        hub.signal(libc::SIGHUP);
        until(SOON, "log line about the bad file", async || {
            (hub.log().len() > before).then_some(())
        })
        .await;
        wait_echo(second).await;

        files.write_hub(&[second]);
        hub.signal(libc::SIGHUP);
        until(SOON, "closed port", async || {
            TcpStream::connect(("127.0.0.1", first)).await.err()
        })
        .await;
        wait_echo(second).await;

        for process in [&mut edge, &mut hub] {
            process.signal(libc::SIGTERM);
            assert_eq!(process.exit(SOON).await.code(), Some(0));
            assert_eq!(process.output().await, "", "stdout stays empty");
        }
    });
}

fn a_token_from_the_environment_works_and_leaves_it(transport: Transport) {
    run(60, async {
        let target = Target::echo().await;
        let files = Files::new(&target);
        let port = free_port();
        files.write_hub(&[port]);
        let _hub = Process::spawn("hub", &["hub", "--config", path(&files.hub)], &[]);
        let token = files.write_token().await;
        std::fs::write(&files.edge, edge_options(transport).to_string()).unwrap();
        let arguments = ["edge", "--config", path(&files.edge)];
        let edge = Process::spawn("edge", &arguments, &[("REMOTEINGRESS_TOKEN", &token)]);
        wait_echo(port).await;
        let visible = system::command_line_and_environment(edge.pid());
        let visible = String::from_utf8_lossy(&visible);
        assert!(
            !visible.contains(&token),
            "the token is still in the environment"
        );
    });
}

#[test]
fn secret_gives_a_new_one_each_time() {
    run(60, async {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let (code, stdout, _) = run_to_end(&["secret"]).await;
            assert_eq!(code, Some(0));
            let secret = stdout.trim_end().to_owned();
            let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            assert!(
                secret.len() == 43 && secret.bytes().all(is_base64url),
                "{secret}"
            );
            assert!(!seen.contains(&secret));
            seen.push(secret);
        }
    });
}

#[test]
fn a_secret_or_token_in_the_arguments_is_bad_usage() {
    run(60, async {
        // One that begins with a dash looks like an option.
        let secret = format!("s{}", new_secret());
        for arguments in [
            ["edge", "--token", &secret],
            ["edge", "--secret", &secret],
            ["hub", "--secret", &secret],
        ] {
            let (code, stdout, _) = run_to_end(&arguments).await;
            assert_eq!(code, Some(2), "{arguments:?}");
            assert_eq!(stdout, "");
        }
        let dashed = format!("-{secret}");
        for (arguments, is_advised) in [
            (["edge", secret.as_str()], true),
            (["edge", "--token"], true),
            (["hub", "--secret"], true),
            (["edge", "--confg"], false),
            (["edge", dashed.as_str()], false),
        ] {
            let (code, _, stderr) = run_to_end(&arguments).await;
            assert_eq!(code, Some(2), "{stderr}");
            let (place, advice) = ("--token-file", "a token or secret is never an argument");
            assert_eq!(stderr.contains(advice), is_advised, "{stderr}");
            assert_eq!(stderr.contains(place), is_advised, "{stderr}");
            assert!(!stderr.contains(&secret), "{stderr}");
        }
    });
}

#[test]
fn a_token_needs_the_argument_that_the_command_line_knows() {
    run(60, async {
        let directory = new_directory("token");
        let config = directory.join("hub.json");
        let dial = json!({"host": "edge.test"});
        let edges = json!([
            {"id": "dials", "secret": new_secret()},
            {"id": "dialled", "secret": new_secret(), "dial": dial},
        ]);
        write_private(&config, &json!({"edges": edges}).to_string());
        for (edge, host, problem) in [
            ("dials", None, "--hub-host: is missing"),
            ("dials", Some("h:1"), "--hub-host: must be a DNS name"),
            (
                "dialled",
                Some("h"),
                "--hub-host: is for an edge that dials",
            ),
        ] {
            let mut arguments = vec!["token", "--config", path(&config), "--edge", edge];
            arguments.extend(host.iter().flat_map(|host| ["--hub-host", host]));
            let (code, stdout, stderr) = run_to_end(&arguments).await;
            assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
            assert!(stderr.contains(problem), "{stderr}");
        }
    });
}

#[test]
fn bad_usage_names_the_argument() {
    run(60, async {
        let token = ["token", "--config", "hub.json", "--edge", "a"];
        for (arguments, named) in [
            (vec!["hub"], "--config"),
            (vec!["hub", "--config"], "--config"),
            (
                [&token[..], &["--hub-host", "h", "--hub-port", "0"]].concat(),
                "--hub-port",
            ),
            (
                [&token[..], &["--hub-host", "h", "--hub-port", "65536"]].concat(),
                "--hub-port",
            ),
        ] {
            let (code, stdout, stderr) = run_to_end(&arguments).await;
            assert_eq!(
                (code, stdout.as_str()),
                (Some(2), ""),
                "{arguments:?} {stderr}"
            );
            assert!(
                stderr.starts_with("bad usage: ") && stderr.contains(named),
                "{stderr}"
            );
            assert!(!stderr.contains("never an argument"), "{stderr}");
        }
        let (code, stdout, stderr) = run_to_end(&[]).await;
        assert_eq!((code, stdout.as_str()), (Some(2), ""));
        for command in ["hub", "edge", "secret", "token", "--management"] {
            assert!(stderr.contains(command), "{stderr}");
        }
    });
}

#[test]
fn an_edge_without_a_token_learns_where_it_may_be() {
    run(60, async {
        let file = new_directory("no-token").join("edge.json");
        std::fs::write(&file, edge_options(Transport::TcpTls).to_string()).unwrap();
        for arguments in [vec!["edge"], vec!["edge", "--config", path(&file)]] {
            let (code, _, stderr) = run_to_end(&arguments).await;
            assert_eq!(code, Some(1));
            let last = stderr.lines().last().unwrap_or_default();
            for place in ["--token-file", "REMOTEINGRESS_TOKEN", "--config"] {
                assert!(last.contains(place), "{last}");
            }
        }
    });
}

#[test]
fn a_file_that_holds_no_object_is_named() {
    run(60, async {
        let file = new_directory("no-object").join("list.json");
        std::fs::write(&file, "[]").unwrap();
        for arguments in [
            vec!["hub", "--config", path(&file)],
            vec!["edge", "--config", path(&file)],
            vec!["edge", "--token-file", "-", "--config", path(&file)],
        ] {
            let (code, _, stderr) = run_to_end(&arguments).await;
            assert_eq!(code, Some(1));
            let last = stderr.lines().last().unwrap_or_default();
            assert!(
                last.contains("list.json") && last.contains("top level"),
                "{last}"
            );
        }
    });
}

#[test]
fn a_token_file_wins_over_the_environment_and_that_over_the_configuration() {
    run(60, async {
        let directory = new_directory("precedence");
        let (empty, config) = (directory.join("empty.txt"), directory.join("edge.json"));
        std::fs::write(&empty, "").unwrap();
        std::fs::write(&config, json!({"token": "in the file"}).to_string()).unwrap();
        // An empty token has an error of its own, by which it is told from the others.
        let cases = [
            (vec!["--token-file", path(&empty)], "from the environment"),
            (vec![], ""),
        ];
        for (more, variable) in cases {
            let arguments = [&["edge", "--config", path(&config)], &more[..]].concat();
            let mut edge = Process::spawn("edge", &arguments, &[("REMOTEINGRESS_TOKEN", variable)]);
            assert_eq!(edge.exit(SOON).await.code(), Some(1));
            let log = String::from_utf8(edge.log()).unwrap();
            assert!(log.contains("E_INVALID_CONFIG: token: "), "{log}");
        }
    });
}

#[test]
fn failures_end_with_one_and_say_why_last() {
    run(60, async {
        let directory = new_directory("bad");
        let file = directory.join("hub.json");
        std::fs::write(&file, json!({"tunnelPort": 0, "tunelPort": 1}).to_string()).unwrap();
        let (code, _, stderr) = run_to_end(&["hub", "--config", path(&file)]).await;
        assert_eq!(code, Some(1));
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains("E_INVALID_CONFIG") && last.contains("tunelPort"),
            "{last}"
        );

        std::fs::write(&file, "not a token").unwrap();
        let (code, _, stderr) = run_to_end(&["edge", "--token-file", path(&file)]).await;
        assert_eq!(code, Some(1));
        let last = stderr.lines().last().unwrap_or_default();
        assert!(
            last.contains("E_INVALID_TOKEN") && !last.contains("not a token"),
            "{last}"
        );
    });
}

/// The files of a hub and an edge, in a directory of their own.
struct Files {
    hub: std::path::PathBuf,
    edge: std::path::PathBuf,
    token: std::path::PathBuf,
    tunnel_port: u16,
    target_port: u16,
    state: std::path::PathBuf,
    secret: String,
}

impl Files {
    fn new(target: &Target) -> Self {
        let directory = new_directory("files");
        Self {
            hub: directory.join("hub.json"),
            edge: directory.join("edge.json"),
            token: directory.join("token.txt"),
            state: directory.join("state"),
            tunnel_port: free_port(),
            target_port: target.address().port(),
            secret: new_secret(),
        }
    }

    fn write_hub(&self, ports: &[u16]) {
        let listen_ports: Vec<Value> = ports
            .iter()
            .map(|port| json!({"port": port, "targetPort": self.target_port, "proxyProtocol": "none"}))
            .collect();
        let config = json!({
            "tunnelPort": self.tunnel_port, "bindAddress": "127.0.0.1", "stateDir": self.state, "workers": 1,
            "edges": [{"id": "edge-files", "secret": self.secret, "listenPorts": listen_ports}],
        });
        write_private(&self.hub, &config.to_string());
    }

    /// Asks the binary for the token and stores it as a user would.
    async fn write_token(&self) -> String {
        let arguments = [
            "token",
            "--config",
            path(&self.hub),
            "--edge",
            "edge-files",
            "--hub-host",
            "127.0.0.1",
        ];
        let (code, stdout, stderr) = run_to_end(&arguments).await;
        assert_eq!(code, Some(0), "{stderr}");
        write_private(&self.token, &stdout);
        stdout.trim_end().to_owned()
    }
}

/// Files with secrets are their owner's alone.
fn write_private(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

fn edge_options(transport: Transport) -> Value {
    json!({"transportMode": transport.word(), "bindAddress": "127.0.0.1", "workers": 1, "stunServers": []})
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Waits until an echo comes through this port.
async fn wait_echo(port: u16) {
    let entry = SocketAddr::from(([127, 0, 0, 1], port));
    until(SOON, "echo", async || {
        let mut client = TcpStream::connect(entry).await.ok()?;
        client.write_all(b"echo").await.ok()?;
        client.shutdown().await.ok()?;
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.ok()?;
        (back == b"echo").then_some(())
    })
    .await;
}
