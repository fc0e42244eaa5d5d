//! A target that a hub checks over HTTP: the test says what it answers, and sees what came.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::pooled::target;

/// Path of the check.
pub(crate) const HEALTH: &str = "/health";

/// What it answers to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// This status, with the body `ready`.
    Status(u16),
    /// Status 302 and a path of the same target, which is good.
    Redirect,
    /// Status 200, then a byte of the body each second.
    Slow,
}

/// It answers checks as it is told, and other requests with its name. It ends when dropped.
pub(crate) struct HealthTarget {
    name: char,
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    serving: JoinHandle<()>,
}

struct Seen {
    health: Health,
    /// All that came before the answer, of each check.
    checks: Vec<Vec<u8>>,
    /// How long each slow answer was waited for.
    waits: Vec<Duration>,
    /// Answers before each request that was no check.
    clients: Vec<usize>,
    /// Answers since the health has changed.
    answers: usize,
}

impl Seen {
    fn note_client(&mut self) {
        self.clients.push(self.answers);
    }
}

impl HealthTarget {
    pub(crate) async fn start(name: char, health: Health) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let seen = Arc::new(Mutex::new(Seen {
            health,
            checks: Vec::new(),
            waits: Vec::new(),
            clients: Vec::new(),
            answers: 0,
        }));
        Self {
            name,
            address: listener.local_addr().unwrap(),
            seen: seen.clone(),
            serving: tokio::spawn(async move {
                let mut serving = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let seen = seen.clone();
                    serving.spawn(async move {
                        // Whoever asks may go away meanwhile.
                        let _ = serve(name, stream, &seen).await;
                    });
                }
            }),
        }
    }

    /// As a target of a pool, with its name as its id.
    pub(crate) fn target(&self) -> Value {
        target(self.name, self.address, Value::Null)
    }

    pub(crate) fn set(&self, health: Health) {
        let mut seen = self.seen.lock().unwrap();
        seen.health = health;
        seen.answers = 0;
    }

    /// Answers to checks since the health was set.
    pub(crate) fn answers(&self) -> usize {
        self.seen.lock().unwrap().answers
    }

    /// Requests that were no checks.
    pub(crate) fn clients(&self) -> usize {
        self.seen.lock().unwrap().clients.len()
    }

    /// Answers to checks, since the health was set, before the latest such request.
    pub(crate) fn answers_before_client(&self) -> Option<usize> {
        self.seen.lock().unwrap().clients.last().copied()
    }

    /// What came as checks, to the end of the head of each.
    pub(crate) fn checks(&self) -> Vec<Vec<u8>> {
        self.seen.lock().unwrap().checks.clone()
    }

    /// How long the checks waited that a slow answer let wait.
    pub(crate) fn waits(&self) -> Vec<Duration> {
        self.seen.lock().unwrap().waits.clone()
    }
}

impl Drop for HealthTarget {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(name: char, mut stream: TcpStream, seen: &Mutex<Seen>) -> io::Result<()> {
    let began = Instant::now();
    let mut head = Vec::new();
    while !head.ends_with(b"GET ") {
        head.push(stream.read_u8().await?);
    }
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let is_check = String::from_utf8_lossy(&head).contains(&format!("GET {HEALTH} "));
    if !is_check {
        seen.lock().unwrap().note_client();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{name}");
        return stream.write_all(answer.as_bytes()).await;
    }
    let health = {
        let mut seen = seen.lock().unwrap();
        seen.checks.push(head);
        seen.answers += 1;
        seen.health
    };
    let answer = match health {
        Health::Status(status) => {
            format!("HTTP/1.1 {status} Told\r\nContent-Length: 5\r\n\r\nready")
        }
        Health::Redirect => {
            "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 5\r\n\r\nready"
                .to_owned()
        }
        Health::Slow => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n".to_owned(),
    };
    stream.write_all(answer.as_bytes()).await?;
    if health == Health::Slow {
        let (mut reader, mut writer) = stream.split();
        let mut byte = [0];
        tokio::select! {
            _ = reader.read(&mut byte) => {}
            () = drip(&mut writer) => {}
        }
        seen.lock().unwrap().waits.push(began.elapsed());
    }
    Ok(())
}

async fn drip(writer: &mut (impl AsyncWriteExt + Unpin)) {
    while writer.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Asks for something as a client of an edge; gives the name of the target that answers, none if there is none.
pub(crate) async fn fetch(entry: SocketAddr) -> Option<char> {
    // It may be reset before the end of the connect, or of the request.
    let mut stream = TcpStream::connect(entry).await.ok()?;
    let request = format!("GET /client HTTP/1.1\r\nHost: {entry}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = String::new();
    let read = super::within(
        super::SOON,
        "an answer or an end",
        stream.read_to_string(&mut answer),
    );
    // An answer may come before a reset.
    let _ = read.await;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    body.chars().next()
}
