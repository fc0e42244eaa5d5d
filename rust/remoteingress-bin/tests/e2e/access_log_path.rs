//! The path of the access log: what isn't a file or a character device is refused, and never waited for.

use serde_json::json;

use crate::harness::process::Process;
use crate::harness::proxy_header::Proxy;
use crate::harness::target::{Target, echoed};
use crate::harness::transport::Transport;
use crate::harness::{SOON, new_directory, run, until, within};
use crate::streams::{wait_line, with_logs};

#[test]
fn a_fifo_fails_the_start() {
    run(30, async {
        let fifo = new_directory("access").join("fifo");
        make_fifo(&fifo);
        for (end, method, config) in [
            ("hub", "startHub", json!({"tunnelPort": 0})),
            (
                "edge",
                "startEdge",
                json!({"hubHost": "127.0.0.1", "hubPort": 1, "edgeId": "edge-1", "secret": "0123456789abcdef0123456789abcdef"}),
            ),
        ] {
            let process = Process::management(end).await;
            let mut config = config;
            config["accessLog"] = json!({"path": fifo});
            let answer = within(SOON, "an answer", process.request(method, config)).await;
            let refused = answer.unwrap_err();
            assert_eq!(refused.code, "E_INVALID_CONFIG", "{}", refused.message);
            let named = format!(
                "accessLog.path: failed to open the access log {}: it is neither",
                fifo.display()
            );
            assert!(refused.message.starts_with(&named), "{}", refused.message);
        }
    });
}

#[test]
fn a_fifo_that_takes_the_place_of_the_log_gets_nothing() {
    run(60, async {
        let target = Target::echo().await;
        let (mut builder, hub_log, _) = with_logs(Transport::TcpTls, json!({}));
        let entry = builder.forward(Proxy::None, target.address());
        let tunnel = builder.start().await;
        tunnel.wait_sessions().await;
        let moved = hub_log.with_extension("1");
        std::fs::rename(&hub_log, &moved).unwrap();
        make_fifo(&hub_log);
        tunnel.hub.signal(libc::SIGHUP);
        let is_told = || String::from_utf8_lossy(&tunnel.hub.log()).contains("access log anew");
        until(SOON, "an error", async || is_told().then_some(())).await;
        let mut client = tokio::net::TcpStream::connect(entry).await.unwrap();
        echoed(&mut client, 10).await;
        let address = client.local_addr().unwrap().to_string();
        drop(client);
        wait_line(&moved, &address).await;
    });
}

fn make_fifo(path: &std::path::Path) {
    let made = std::process::Command::new("mkfifo").arg(path).status();
    assert!(made.unwrap().success());
}
