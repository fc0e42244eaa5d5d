//! Probes of targets on the loopback interface.

use std::future::Future;

use tokio::net::{TcpListener, TcpSocket};
use tokio::time::{interval, timeout};

use super::*;

/// Time for what is to end by itself.
const LONG: Duration = Duration::from_secs(20);
/// Time for what is to meet its deadline.
const SHORT: Duration = Duration::from_millis(300);
const HEADER: &[u8] = b"PROXY UNKNOWN\r\n";

fn get() -> HttpProbe {
    HttpProbe {
        host: "app.example".to_owned(),
        path: "/health?full=1".to_owned(),
        statuses: 200..=399,
        text: Vec::new(),
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
async fn refusing() -> SocketAddr {
    listener().await.1
}

/// The head of a request, after what was sent ahead of it.
async fn read_head(socket: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    head
}

/// Runs an HTTP probe against a server that answers one connection, and no other one.
async fn http<F: Future<Output = ()>>(
    asked: HttpProbe,
    time: Duration,
    answer: impl FnOnce(TcpStream) -> F,
) -> Result<Duration, ProbeError> {
    let (listener, address) = listener().await;
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        read_head(&mut socket).await;
        answer(socket).await;
        std::future::pending::<()>().await;
    };
    let kind = ProbeKind::Http(asked);
    let to = [address];
    let found = tokio::select! {
        found = probe(&kind, &to, b"", Instant::now() + time) => found,
        () = server => unreachable!(),
    };
    let other = timeout(Duration::ZERO, listener.accept()).await;
    assert!(other.is_err(), "a second connection");
    found
}

/// The same, for an answer of these bytes. Then the connection stays open without a word.
async fn http_bytes(
    asked: HttpProbe,
    time: Duration,
    answer: &[u8],
) -> Result<Duration, ProbeError> {
    http(asked, time, |mut socket| async move {
        socket.write_all(answer).await.unwrap();
        std::future::pending::<()>().await;
    })
    .await
}

fn reason(result: Result<Duration, ProbeError>) -> &'static str {
    let error = result.unwrap_err();
    assert!(!error.is_own());
    error.reason()
}

async fn tcp(to: &[SocketAddr], header: &[u8], time: Duration) -> Result<Duration, ProbeError> {
    probe(&ProbeKind::Tcp, to, header, Instant::now() + time).await
}

#[tokio::test]
async fn a_listener_is_enough_for_tcp_and_sees_an_end_and_no_reset() {
    let (listener, address) = listener().await;
    for header in [b"", HEADER] {
        let took = tcp(&[address], header, LONG).await.unwrap();
        assert!(took < LONG);
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut read = Vec::new();
        socket.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, header);
    }
    // One of several addresses is enough.
    let others = [refusing().await, address];
    tcp(&others, b"", LONG).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_refused_at_once() {
    let address = refusing().await;
    let started = Instant::now();
    let error = tcp(&[address], b"", LONG).await.unwrap_err();
    assert!(started.elapsed() < LONG / 2);
    assert_eq!(error.reason(), "refused");
    let text = error.to_string();
    assert!(text.contains(&address.to_string()), "{text}");
    let asked = ProbeKind::Http(get());
    let result = probe(&asked, &[address, address], b"", Instant::now() + LONG).await;
    assert_eq!(reason(result), "refused");
    assert_eq!(reason(tcp(&[], b"", LONG).await), "unreachable");
}

#[tokio::test]
async fn a_host_that_says_nothing_fails_at_the_deadline() {
    // A listener whose accept queue is full: connects to it hang.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let full = socket.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = timeout(SHORT, TcpStream::connect(address)).await {
        queued.push(stream);
    }
    let started = Instant::now();
    assert_eq!(reason(tcp(&[address], b"", SHORT).await), "timeout");
    assert!(started.elapsed() >= SHORT && started.elapsed() < LONG);

    let started = Instant::now();
    let error = http_bytes(get(), SHORT, b"").await.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    assert!(started.elapsed() >= SHORT && started.elapsed() < LONG);
    let text = error.to_string();
    assert!(text.contains("GET /health?full=1 at 127.0.0.1:"), "{text}");
}

#[tokio::test]
async fn a_request_asks_for_the_path_after_the_proxy_header() {
    let (listener, address) = listener().await;
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut header = vec![0; HEADER.len()];
        socket.read_exact(&mut header).await.unwrap();
        assert_eq!(header, HEADER);
        let head = read_head(&mut socket).await;
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        socket.write_all(answer).await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let kind = ProbeKind::Http(get());
    let to = [address];
    let probing = probe(&kind, &to, HEADER, Instant::now() + LONG);
    let (found, head) = tokio::join!(probing, server);
    found.unwrap();
    assert_eq!(
        head,
        "GET /health?full=1 HTTP/1.1\r\nHost: app.example\r\nUser-Agent: remoteingress-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn nothing_can_be_put_into_a_request() {
    let asked = HttpProbe {
        host: "a\r\nB: c".to_owned(),
        path: "/ä b\r\n\r\nGET /other".to_owned(),
        ..get()
    };
    let (listener, address) = listener().await;
    let server = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        let head = read_head(&mut socket).await;
        socket.write_all(b"HTTP/1.1 500 No\r\n").await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let kind = ProbeKind::Http(asked);
    let to = [address];
    let probing = probe(&kind, &to, b"", Instant::now() + LONG);
    let (found, head) = tokio::join!(probing, server);
    let error = found.unwrap_err().to_string();
    assert!(!error.contains(['\r', '\n']), "{error}");
    let mut lines = head.lines();
    let line = "GET /%C3%A4%20b%0D%0A%0D%0AGET%20/other HTTP/1.1";
    assert_eq!(lines.next(), Some(line));
    assert_eq!(lines.next(), Some("Host: a%0D%0AB:%20c"));
    assert_eq!(lines.count(), 4);
}

#[tokio::test]
async fn a_status_decides_and_a_redirect_is_never_followed() {
    let internal = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 9999\r\n\r\n";
    let error = http_bytes(get(), LONG, internal).await.unwrap_err();
    assert_eq!(error.reason(), "status");
    assert!(error.to_string().contains("status 500"), "{error}");
    let redirect = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    http_bytes(get(), LONG, redirect).await.unwrap();
    let strict = HttpProbe {
        statuses: 200..=299,
        ..get()
    };
    let result = http_bytes(strict, LONG, redirect).await;
    assert_eq!(reason(result), "status");
}

#[tokio::test]
async fn a_text_has_to_be_in_the_body() {
    let asked = HttpProbe {
        text: b"healthy".to_vec(),
        ..get()
    };
    let good =
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n4\r\nlthy\r\n0\r\n\r\n";
    http_bytes(asked.clone(), LONG, good).await.unwrap();
    let other = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready";
    assert_eq!(reason(http_bytes(asked, LONG, other).await), "text");
}

#[tokio::test]
async fn a_slow_answer_fails_at_the_deadline_though_bytes_come() {
    let started = Instant::now();
    let result = http(get(), SHORT * 2, |mut socket| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n";
        socket.write_all(head).await.unwrap();
        let mut pace = interval(SHORT / 10);
        loop {
            pace.tick().await;
            if socket.write_all(b"a").await.is_err() {
                return;
            }
        }
    })
    .await;
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "timeout");
    assert!(started.elapsed() >= SHORT * 2 && started.elapsed() < LONG);
    // Some bytes of the body came.
    let text = error.to_string();
    let received = text.split(", ").nth(1).unwrap().split(' ').next().unwrap();
    assert!(received.parse::<usize>().unwrap() > 42, "{text}");
}

#[tokio::test]
async fn other_answers_fail_by_what_is_wrong_with_them() {
    let garbage = http_bytes(get(), LONG, b"220 mail.example ESMTP\r\n").await;
    let text = garbage.as_ref().unwrap_err().to_string();
    assert!(text.contains(r#""220 mail.example ESMTP""#), "{text}");
    assert_eq!(reason(garbage), "reply");
    let endless = http(get(), LONG, |mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n").await;
        while socket.write_all(b"A: b\r\n").await.is_ok() {}
    });
    assert_eq!(reason(endless.await), "tooLong");
    let endless_body = http(get(), LONG, |mut socket| async move {
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        while socket.write_all(&[b'a'; 999]).await.is_ok() {}
    });
    endless_body.await.unwrap();
    let cut = http(get(), LONG, |mut socket| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel";
        socket.write_all(head).await.unwrap();
        socket.shutdown().await.unwrap();
    });
    assert_eq!(reason(cut.await), "closed");
    let reset = http(get(), LONG, |socket| async move {
        socket.set_zero_linger().unwrap();
    });
    assert_eq!(reason(reset.await), "closed");
}

fn datagram(proxy_protocol: UdpProxyProtocol) -> UdpProbe {
    UdpProbe {
        send: b"ping".to_vec(),
        expect: b"po".to_vec(),
        proxy_protocol,
    }
}

async fn udp(
    asked: UdpProbe,
    to: &[SocketAddr],
    header: &[u8],
    time: Duration,
) -> Result<Duration, ProbeError> {
    probe(&ProbeKind::Udp(asked), to, header, Instant::now() + time).await
}

async fn udp_server() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Takes datagrams until one ends with the payload, and answers that.
async fn answer(socket: &UdpSocket, answer: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    loop {
        let mut buffer = [0; 999];
        let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
        datagrams.push(buffer[..length].to_vec());
        if buffer[..length].ends_with(b"ping") {
            socket.send_to(answer, from).await.unwrap();
            return datagrams;
        }
    }
}

#[tokio::test]
async fn a_datagram_is_answered_as_expected_and_the_header_goes_as_the_port_sends_it() {
    let (server, address) = udp_server().await;
    let both = [HEADER, b"ping"].concat();
    let cases: [(_, _, &[&[u8]]); 5] = [
        (UdpProxyProtocol::None, &b""[..], &[b"ping"]),
        (UdpProxyProtocol::None, HEADER, &[b"ping"]),
        (UdpProxyProtocol::FirstDatagram, b"", &[b"ping"]),
        (UdpProxyProtocol::FirstDatagram, HEADER, &[HEADER, b"ping"]),
        (UdpProxyProtocol::EveryDatagram, HEADER, &[&both]),
    ];
    for (proxy_protocol, header, datagrams) in cases {
        let to = [address];
        let probing = udp(datagram(proxy_protocol), &to, header, LONG);
        let (found, taken) = tokio::join!(probing, answer(&server, b"pong"));
        found.unwrap();
        assert_eq!(taken, datagrams);
    }
}

#[tokio::test]
async fn another_datagram_fails_at_once() {
    let (server, address) = udp_server().await;
    for other in [&b"p"[..], b"", b"no\n"] {
        let to = [address];
        let probing = udp(datagram(UdpProxyProtocol::None), &to, b"", LONG);
        let (found, _) = tokio::join!(probing, answer(&server, other));
        let error = found.unwrap_err();
        assert_eq!(error.reason(), "reply");
        let told = format!("\"{}\"", other.escape_ascii());
        assert!(error.to_string().contains(&told), "{error}");
    }
}

#[tokio::test]
async fn a_datagram_that_is_refused_fails_at_once_and_a_lost_one_at_the_deadline() {
    let refusing = udp_server().await.1;
    let asked = datagram(UdpProxyProtocol::None);
    for proxy_protocol in [UdpProxyProtocol::None, UdpProxyProtocol::FirstDatagram] {
        let started = Instant::now();
        let result = udp(datagram(proxy_protocol), &[refusing], HEADER, LONG).await;
        let text = result.as_ref().unwrap_err().to_string();
        assert!(text.contains(&format!("UDP at {refusing}")), "{text}");
        assert_eq!(reason(result), "refused");
        assert!(started.elapsed() < LONG / 2);
    }
    let (_silent, silent) = udp_server().await;
    let started = Instant::now();
    let result = udp(asked.clone(), &[silent], b"", SHORT).await;
    assert_eq!(reason(result), "timeout");
    assert!(started.elapsed() >= SHORT && started.elapsed() < LONG);
    // Another address has its turn after one that refuses, or is silent for its share.
    let (server, address) = udp_server().await;
    let to = [refusing, silent, address];
    let probing = udp(asked.clone(), &to, b"", SHORT * 4);
    let (found, _) = tokio::join!(probing, answer(&server, b"pong"));
    let took = found.unwrap();
    assert!(took >= SHORT && took < SHORT * 4, "{took:?}");
    assert_eq!(reason(udp(asked, &[], b"", LONG).await), "unreachable");
}

#[test]
fn a_lack_of_this_machine_is_told_apart() {
    let attempt = |code: i32| Attempt {
        address: (Ipv4Addr::LOCALHOST, 1).into(),
        error: io::Error::from_raw_os_error(code),
    };
    let reason_of = |codes: &[i32]| {
        let tried = codes.iter().map(|code| attempt(*code)).collect();
        let error = ProbeError::Connect { tried };
        (error.reason(), error.is_own())
    };
    for code in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM] {
        assert_eq!(reason_of(&[libc::ECONNREFUSED, code]), ("exhausted", true));
    }
    assert_eq!(
        reason_of(&[libc::ENETUNREACH, libc::ECONNREFUSED]),
        ("refused", false)
    );
    assert_eq!(
        reason_of(&[libc::ECONNREFUSED, libc::ETIMEDOUT]),
        ("timeout", false)
    );
    assert_eq!(
        reason_of(&[libc::EADDRNOTAVAIL, libc::ECONNREFUSED]),
        ("refused", false)
    );
    assert_eq!(reason_of(&[libc::EHOSTUNREACH]), ("unreachable", false));
}
