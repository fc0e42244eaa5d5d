//! Targets that are unix sockets: bytes and ends both ways, the client's address in the header, and a target that is down.

use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener};

use crate::harness::ports::free_port;
use crate::harness::proxy_header::{self, Proxy};
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::TunnelBuilder;
use crate::harness::{SOON, new_directory, run, within};

on_both_transports! {
    a_unix_socket_learns_the_client_and_gets_every_byte,
    a_unix_socket_without_a_listener_refuses_the_client,
}

fn a_unix_socket_learns_the_client_and_gets_every_byte(transport: Transport) {
    run(90, async {
        for proxy in [Proxy::V1, Proxy::V2, Proxy::None] {
            let path = new_directory("unix").join("target");
            let listener = UnixListener::bind(&path).unwrap();
            let mut builder = TunnelBuilder::new(transport);
            let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
            builder.listen(json!({
                "port": entry.port(), "targetPath": path, "proxyProtocol": proxy.word(),
            }));
            let _tunnel = builder.start().await;
            let mut client = TcpStream::connect(entry).await.unwrap();
            let address = client.local_addr().unwrap();
            let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
            let exchange = async {
                let (mut target, _) = listener.accept().await.unwrap();
                if let Some(header) = proxy_header::read(&mut target, proxy).await.unwrap() {
                    assert_eq!((header.source, header.destination), (address, entry));
                } else {
                    assert_eq!(proxy, Proxy::None);
                }
                let (mut reader, mut writer) = target.split();
                tokio::io::copy(&mut reader, &mut writer).await.unwrap();
                writer.shutdown().await.unwrap();
            };
            let (mut reader, mut writer) = client.split();
            let mut received = Vec::new();
            let all = async {
                let send = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.shutdown().await.unwrap();
                };
                tokio::join!(exchange, send, reader.read_to_end(&mut received)).2
            };
            within(SOON, "the whole exchange", all).await.unwrap();
            assert!(received == sent, "{} of {}", received.len(), sent.len());
        }
    });
}

fn a_unix_socket_without_a_listener_refuses_the_client(transport: Transport) {
    run(60, async {
        let path = new_directory("unix").join("target");
        let mut builder = TunnelBuilder::new(transport);
        let entry = SocketAddr::from(([127, 0, 0, 1], free_port()));
        builder.listen(json!({"port": entry.port(), "targetPath": path}));
        let tunnel = builder.start().await;
        // Nothing is there, then nobody listens to what is left.
        for reason in ["targetUnreachable", "targetRefused"] {
            // The reset may come before the client knows of its connection.
            let read = async { TcpStream::connect(entry).await?.read(&mut [0]).await };
            let read = within(SOON, "reset", read).await;
            assert!(read.is_err(), "{read:?}");
            let counted = |status: &Value| status["rejected"][reason] == 1;
            tunnel.hub.wait_status(SOON, reason, counted).await;
            // The second time it is there already.
            drop(UnixListener::bind(&path));
        }
        let log = String::from_utf8(tunnel.hub.log()).unwrap();
        assert!(log.contains(path.to_str().unwrap()), "{log}");
    });
}
