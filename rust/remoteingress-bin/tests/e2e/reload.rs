//! SIGHUP: which settings of a running hub or edge change, and which are named because they don't.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::ports::free_port;
use crate::harness::process::Process;
use crate::harness::{SOON, new_directory, new_secret, run, until};

#[test]
fn target_limits_and_timeouts_apply_and_what_needs_a_restart_is_named() {
    run(90, async {
        let first = named_target("127.0.0.1:0", b"one").await;
        let second = named_target(&format!("127.0.0.2:{}", first.port()), b"two").await;
        let (tunnel_port, port, secret) = (free_port(), free_port(), new_secret());
        let hub_config = |fields: Value| {
            let listen =
                json!([{"port": port, "targetPort": first.port(), "proxyProtocol": "none"}]);
            let mut config = json!({
                "tunnelPort": tunnel_port, "bindAddress": "127.0.0.1", "workers": 1,
                "edges": [{"id": "e", "secret": secret, "listenPorts": listen, "stunIntervalSecs": 0}],
            });
            merge(&mut config, fields);
            config
        };
        let edge_config = |fields: Value| {
            let mut config = json!({
                "hubHost": "127.0.0.1", "hubPort": tunnel_port, "edgeId": "e", "secret": secret, "workers": 1,
                "bindAddress": "127.0.0.1", "stunServers": [], "transportMode": "tcpTls",
            });
            merge(&mut config, fields);
            config
        };
        let directory = new_directory("reload");
        let (hub_file, edge_file) = (directory.join("hub.json"), directory.join("edge.json"));
        let limits = |most: u32| json!({"limits": {"maxStreamsPerEdge": most}});
        std::fs::write(&hub_file, hub_config(limits(2)).to_string()).unwrap();
        std::fs::write(&edge_file, edge_config(json!({})).to_string()).unwrap();
        let arguments = ["hub", "--config", hub_file.to_str().unwrap()];
        let hub = Process::spawn("hub", &arguments, &[]);
        let arguments = ["edge", "--config", edge_file.to_str().unwrap()];
        let edge = Process::spawn("edge", &arguments, &[]);
        let entry = SocketAddr::from(([127, 0, 0, 1], port));
        wait_answer(entry, b"one").await;

        // The target, and of a connection that stays the idle timeout.
        let mut silent = until(SOON, "a silent stream", async || stream(entry).await).await;
        let fields = json!({
            "targetHost": second.ip(), "idleTimeoutSecs": 1, "tunnelPort": free_port(), "workers": 2,
        });
        std::fs::write(&hub_file, hub_config(fields).to_string()).unwrap();
        hub.signal(libc::SIGHUP);
        wait_answer(entry, b"two").await;
        let ended = tokio::time::timeout(SOON, silent.read(&mut [0; 1])).await;
        assert!(ended.is_ok(), "the idle timeout doesn't apply");
        wait_log(&hub, "workers, tunnelPort").await;
        wait_log(&hub, "targetHost").await;

        // A limit of streams, lowered and raised while a session lives.
        std::fs::write(&hub_file, hub_config(limits(1)).to_string()).unwrap();
        hub.signal(libc::SIGHUP);
        wait_answer(entry, b"one").await;
        // The last stream may not have ended yet.
        let only = until(SOON, "the only stream", async || stream(entry).await).await;
        until(SOON, "refusal of a second stream", async || {
            answer(entry).await.is_none().then_some(())
        })
        .await;
        std::fs::write(&hub_file, hub_config(limits(3)).to_string()).unwrap();
        hub.signal(libc::SIGHUP);
        let second = until(SOON, "a second stream", async || stream(entry).await).await;
        let third = until(SOON, "a third stream", async || stream(entry).await).await;
        drop((only, second, third));
        wait_answer(entry, b"one").await;

        // The edge.
        let fields =
            json!({"limits": {"maxConnections": 1}, "hubPort": free_port(), "idleTimeoutSecs": 0});
        std::fs::write(&edge_file, edge_config(fields).to_string()).unwrap();
        edge.signal(libc::SIGHUP);
        wait_log(&edge, "hubPort").await;
        wait_log(&edge, "limits").await;
        let only = until(SOON, "the only client", async || stream(entry).await).await;
        until(SOON, "refusal of a second client", async || {
            answer(entry).await.is_none().then_some(())
        })
        .await;
        drop(only);
        wait_answer(entry, b"one").await;
        std::fs::write(&edge_file, "{").unwrap();
        edge.signal(libc::SIGHUP);
        wait_log(&edge, "failed to reload").await;
        wait_answer(entry, b"one").await;
    });
}

/// A target that says its name, and then waits for the end of the client.
async fn named_target(address: &str, name: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                client.write_all(name).await?;
                client.read(&mut [0; 1]).await
            });
        }
    });
    address
}

/// A client that has its target's name.
async fn stream(entry: SocketAddr) -> Option<TcpStream> {
    let mut client = TcpStream::connect(entry).await.ok()?;
    client.read_exact(&mut [0; 3]).await.ok()?;
    Some(client)
}

async fn answer(entry: SocketAddr) -> Option<Vec<u8>> {
    let mut client = TcpStream::connect(entry).await.ok()?;
    let mut name = vec![0; 3];
    client.read_exact(&mut name).await.ok()?;
    Some(name)
}

async fn wait_answer(entry: SocketAddr, name: &[u8]) {
    until(SOON, "the target's answer", async || {
        (answer(entry).await? == name).then_some(())
    })
    .await;
}

async fn wait_log(process: &Process, text: &str) {
    until(SOON, "line in the log", async || {
        let log = process.log();
        String::from_utf8_lossy(&log).contains(text).then_some(())
    })
    .await;
}

fn merge(config: &mut Value, fields: Value) {
    let Value::Object(fields) = fields else {
        return;
    };
    for (name, value) in fields {
        config[name] = value;
    }
}
