//! Strangers at the admin server, who need no token to open connections.

use std::io::{ErrorKind, Read as _};

use serde_json::json;
use tokio::net::{TcpSocket, TcpStream};

use crate::admin::{TOKEN, exchange, start_hub};
use crate::harness::ports::free_port;
use crate::harness::{SOON, run, until};

/// Those who say nothing are cut off after 10 s: the answer comes while they are still there.
#[test]
fn a_silent_crowd_at_one_address_keeps_nobody_else_out() {
    run(60, async {
        let port = free_port();
        let (hub, _) =
            start_hub(json!({"listen": format!("127.0.0.1:{port}"), "token": TOKEN})).await;
        let mut crowd = Vec::new();
        for _ in 0..200 {
            let stranger = TcpSocket::new_v4().unwrap();
            stranger.bind(([127, 0, 0, 2], 0).into()).unwrap();
            let stream = stranger.connect(([127, 0, 0, 1], port).into()).await;
            crowd.push(stream.unwrap().into_std().unwrap());
        }
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let head = format!(
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        );
        assert_eq!(exchange(stream, head, "").await.status, 200);
        let stays = |mut stranger: &std::net::TcpStream| {
            let read = stranger.read(&mut [0; 1]);
            read.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        };
        assert_eq!(crowd.iter().filter(|stranger| stays(stranger)).count(), 64);
        let status = hub.status().await;
        assert_eq!(status["rejected"], json!({"adminConnections": 136}));
        until(SOON, "the warning", async || {
            let log = String::from_utf8_lossy(&hub.log()).into_owned();
            log.contains("keep strangers away from admin.listen")
                .then_some(())
        })
        .await;
    });
}
