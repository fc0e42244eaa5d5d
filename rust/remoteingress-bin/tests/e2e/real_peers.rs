//! Targets that others wrote: HAProxy and nginx read our PROXY headers and serve through the tunnel.
//!
//! A missing program skips its tests aloud, unless `REMOTEINGRESS_REQUIRE_PEERS=1` makes it mandatory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::ports::{free_port, has_ipv6};
use crate::harness::proxy_header::Proxy;
use crate::harness::target::Target;
use crate::harness::transport::{Transport, on_both_transports};
use crate::harness::tunnel::{Tunnel, TunnelBuilder};
use crate::harness::{SOON, new_directory, run, run_heavy, skip, until, within};

on_both_transports! {
    haproxy_logs_the_true_client_v1,
    haproxy_logs_the_true_client_v2,
    nginx_logs_the_true_client_v1,
    nginx_logs_the_true_client_v2,
    a_websocket_passes_through_nginx,
    one_gibibyte_downloads_whole_from_nginx,
}

fn haproxy_logs_the_true_client_v1(transport: Transport) {
    run(
        90,
        log_tells_the_client(transport, Server::haproxy, Proxy::V1),
    );
}

fn haproxy_logs_the_true_client_v2(transport: Transport) {
    run(
        90,
        log_tells_the_client(transport, Server::haproxy, Proxy::V2),
    );
}

fn nginx_logs_the_true_client_v1(transport: Transport) {
    run(
        90,
        log_tells_the_client(transport, Server::nginx, Proxy::V1),
    );
}

fn nginx_logs_the_true_client_v2(transport: Transport) {
    run(
        90,
        log_tells_the_client(transport, Server::nginx, Proxy::V2),
    );
}

fn a_websocket_passes_through_nginx(transport: Transport) {
    run(90, async {
        // Enough of a WebSocket server: it agrees to the upgrade, then sends back what it gets.
        let upstream = Target::start(Proxy::None, |mut stream, _| async move {
            let Ok(head) = read_head(&mut stream).await else {
                return;
            };
            if !head.to_ascii_lowercase().contains("upgrade: websocket") {
                return;
            }
            let answer = format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n\r\n"
            );
            if stream.write_all(answer.as_bytes()).await.is_ok() {
                let (mut reader, mut writer) = stream.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            }
        })
        .await;
        let Some(nginx) = Server::nginx(Some(upstream.address())).await else {
            return;
        };
        let (_tunnel, entry) = tunnel_to(transport, nginx.address, Proxy::V1, "127.0.0.1").await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        let request = format!(
            "GET /socket HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        let head = within(SOON, "upgrade", read_head(&mut client))
            .await
            .unwrap();
        assert!(
            head.starts_with("HTTP/1.1 101") && head.contains(WEBSOCKET_ACCEPT),
            "{head}"
        );
        for size in [1_u8, 10, 125] {
            // A masked text frame comes back as it is.
            let mut frame = vec![0x81, 0x80 | size, 1, 2, 3, 4];
            frame.extend(std::iter::repeat_n(size, size.into()));
            client.write_all(&frame).await.unwrap();
            let mut back = vec![0; frame.len()];
            within(SOON, "frame", client.read_exact(&mut back))
                .await
                .unwrap();
            assert_eq!(back, frame);
        }
    });
}

fn one_gibibyte_downloads_whole_from_nginx(transport: Transport) {
    run_heavy(180, async {
        let Some(nginx) = Server::nginx(None).await else {
            return;
        };
        let expected = write_large_file(&nginx.directory.join("large"));
        let (_tunnel, entry) = tunnel_to(transport, nginx.address, Proxy::V2, "127.0.0.1").await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        let request = b"GET /large HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let head = read_head(&mut client).await.unwrap();
        assert!(
            head.contains(&format!("Content-Length: {LARGE}\r\n")),
            "{head}"
        );
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 256 * 1024];
        let mut count = 0_u64;
        while let read @ 1.. = client.read(&mut buffer).await.unwrap() {
            hash.update(&buffer[..read]);
            count += read as u64;
        }
        assert_eq!(count, LARGE);
        assert_eq!(<[u8; 32]>::from(hash.finalize()), expected);
    });
}

/// One request each over IPv4 and IPv6; the server's log must name the client's own address and port.
async fn log_tells_the_client(
    transport: Transport,
    start: impl AsyncFn(Option<SocketAddr>) -> Option<Server>,
    proxy: Proxy,
) {
    let Some(server) = start(None).await else {
        return;
    };
    for bind_address in ["127.0.0.1", "::1"] {
        if bind_address == "::1" && !has_ipv6() {
            skip("IPv6 on loopback");
            continue;
        }
        let (_tunnel, entry) = tunnel_to(transport, server.address, proxy, bind_address).await;
        let mut client = TcpStream::connect(entry).await.unwrap();
        let address = client.local_addr().unwrap();
        client
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        within(SOON, "answer", client.read_to_string(&mut answer))
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let line = format!("client=[{}]:{}", address.ip(), address.port());
        until(SOON, &format!("{line} in the log"), async || {
            let log = std::fs::read_to_string(&server.log).unwrap_or_default();
            log.contains(&line).then_some(())
        })
        .await;
    }
}

async fn tunnel_to(
    transport: Transport,
    target: SocketAddr,
    proxy: Proxy,
    bind_address: &str,
) -> (Tunnel, SocketAddr) {
    let entry = SocketAddr::new(bind_address.parse().unwrap(), free_port());
    let mut builder = TunnelBuilder::new(transport);
    builder.listen(json!({
        "port": entry.port(), "bindAddress": bind_address, "targetPort": target.port(), "proxyProtocol": proxy.word(),
    }));
    (builder.start().await, entry)
}

/// A server that expects PROXY headers and logs `client=[address]:port`.
struct Server {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
    log: PathBuf,
}

impl Server {
    async fn haproxy(_upstream: Option<SocketAddr>) -> Option<Self> {
        let directory = new_directory("haproxy");
        let (config, log) = (directory.join("haproxy.cfg"), directory.join("log"));
        let port = free_port();
        let text = format!(
            "global\n    log stdout format raw local0\n\
             defaults\n    mode http\n    timeout connect 5s\n    timeout client 30s\n    timeout server 30s\n\
             frontend web\n    bind 127.0.0.1:{port} accept-proxy\n    log global\n\
             \x20   log-format \"client=[%ci]:%cp\"\n    http-request return status 200 content-type text/plain string ok\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        command
            .args(["-db", "-f"])
            .arg(&config)
            .stdout(std::fs::File::create(&log).unwrap());
        Self::start(command, port, directory, log).await
    }

    /// nginx; `/` says ok, or goes to `upstream` with its upgrade, and files come from its directory.
    async fn nginx(upstream: Option<SocketAddr>) -> Option<Self> {
        let directory = new_directory("nginx");
        let (config, log) = (directory.join("nginx.conf"), directory.join("log"));
        let port = free_port();
        let root = directory.display();
        let location = upstream.map_or_else(
            || "return 200 'ok';".to_owned(),
            |upstream| {
                format!(
                    "proxy_pass http://{upstream}; proxy_http_version 1.1; \
                     proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection \"Upgrade\";"
                )
            },
        );
        let text = format!(
            "daemon off;\nmaster_process off;\npid {root}/pid;\nerror_log {root}/error.log;\n\
             events {{}}\n\
             http {{\n    log_format truth 'client=[$proxy_protocol_addr]:$proxy_protocol_port';\n\
             \x20   client_body_temp_path {root}/body;\n    proxy_temp_path {root}/proxy;\n\
             \x20   fastcgi_temp_path {root}/fastcgi;\n    uwsgi_temp_path {root}/uwsgi;\n    scgi_temp_path {root}/scgi;\n\
             \x20   server {{\n        listen 127.0.0.1:{port} proxy_protocol;\n        access_log {root}/log truth;\n\
             \x20       location / {{ {location} }}\n        location /large {{ root {root}; }}\n    }}\n}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("nginx");
        command
            .arg("-p")
            .arg(&directory)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null());
        Self::start(command, port, directory, log).await
    }

    async fn start(
        mut command: Command,
        port: u16,
        directory: PathBuf,
        log: PathBuf,
    ) -> Option<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let errors = std::fs::File::create(directory.join("stderr")).unwrap();
        command.stdin(Stdio::null()).stderr(errors);
        let Ok(child) = command.spawn() else {
            skip(&name);
            return None;
        };
        let server = Self {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            directory,
            log,
        };
        until(SOON, &format!("listening {name}"), async || {
            TcpStream::connect(server.address).await.ok()
        })
        .await;
        Some(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let errors = std::fs::read_to_string(self.directory.join("stderr")).unwrap_or_default();
            eprintln!(
                "--- stderr of the server in {}:\n{errors}",
                self.directory.display()
            );
        }
        // The large file would stay until the next `cargo clean`.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Up to the empty line of an HTTP message, byte by byte, so that nothing after it is taken.
async fn read_head(stream: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// A sparse file with its own number at the start of each MiB; gives its SHA-256.
fn write_large_file(path: &Path) -> [u8; 32] {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::create(path).unwrap();
    file.set_len(LARGE).unwrap();
    let mut hash = Sha256::new();
    let mut block = vec![0; 1024 * 1024];
    for number in 0..LARGE / block.len() as u64 {
        block[..8].copy_from_slice(&number.to_be_bytes());
        file.write_all_at(&block[..8], number * block.len() as u64)
            .unwrap();
        hash.update(&block);
    }
    hash.finalize().into()
}

/// Size of the download in bytes.
const LARGE: u64 = 1024 * 1024 * 1024;
/// Key and answer of the example in RFC 6455, section 1.3.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
