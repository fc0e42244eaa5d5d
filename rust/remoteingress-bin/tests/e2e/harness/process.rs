//! A running `remoteingress-bin`: its IPC, its signals, what it costs, and its log when a test fails.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use remoteingress_config::status::{EdgeStatus, HubStatus};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, watch};

use super::inbox::{Inbox, misfit};
use super::{SOON, new_directory, system};

const BINARY: &str = env!("CARGO_BIN_EXE_remoteingress-bin");

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// One process of the binary; killed when dropped.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    pid: u32,
    stdin: Mutex<Option<mpsc::UnboundedSender<Vec<u8>>>>,
    inbox: Arc<Inbox>,
    reading: watch::Sender<Reading>,
    log: PathBuf,
    next_id: AtomicU64,
}

/// The test's use of the process's stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Running,
    Paused,
    Closed,
}

impl Process {
    /// A process driven over stdio, after its `ready`.
    pub(crate) async fn management(name: &'static str) -> Self {
        Self::management_with(name, &[]).await
    }

    /// The same, with an environment.
    pub(crate) async fn management_with(name: &'static str, environment: &[(&str, &str)]) -> Self {
        Self::spawn(name, &["--management"], environment)
            .after_ready()
            .await
    }

    /// The same, with so many descriptors at most.
    pub(crate) async fn management_with_descriptors(name: &'static str, most: u64) -> Self {
        let log = new_directory("log").join(format!("{name}.stderr"));
        let stderr = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={most}:{most}"));
        command.args([BINARY, "--management"]);
        let mut process = Self::start_command(name, command, &[], stderr.into());
        process.log = log;
        process.after_ready().await
    }

    /// A process driven over stdio whose log nobody reads: the pipe is closed at the other end.
    pub(crate) async fn management_without_log(name: &'static str) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        Self::start(name, &["--management"], &[], writer.into())
            .after_ready()
            .await
    }

    /// The same, with a hosts file of its own.
    pub(crate) async fn management_with_hosts(name: &'static str, hosts: &str) -> Self {
        let directory = new_directory("hosts");
        let (file, log) = (directory.join("hosts"), directory.join("stderr"));
        std::fs::write(&file, hosts).unwrap();
        let stderr = std::fs::File::create(&log).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c"]);
        command.arg(r#"mount --bind "$0" /etc/hosts && exec "$1" --management"#);
        command.arg(file).arg(BINARY);
        let mut process = Self::start_command(name, command, &[], stderr.into());
        process.log = log;
        process.after_ready().await
    }

    /// A process with these arguments and environment; stdin stays open.
    pub(crate) fn spawn(
        name: &'static str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let log = new_directory("log").join(format!("{name}.stderr"));
        let file = std::fs::File::create(&log).unwrap();
        let mut process = Self::start(name, arguments, environment, file.into());
        process.log = log;
        process
    }

    fn start(
        name: &'static str,
        arguments: &[&str],
        environment: &[(&str, &str)],
        stderr: Stdio,
    ) -> Self {
        let mut command = Command::new(BINARY);
        command.args(arguments);
        Self::start_command(name, command, environment, stderr)
    }

    fn start_command(
        name: &'static str,
        mut command: Command,
        environment: &[(&str, &str)],
        stderr: Stdio,
    ) -> Self {
        let mut child = command
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let inbox = Arc::new(Inbox::new());
        let reading = watch::Sender::new(Reading::Running);
        let (lines, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_lines(child.stdin.take().unwrap(), queue));
        let stdout = child.stdout.take().unwrap();
        tokio::spawn(read_lines(stdout, Arc::clone(&inbox), reading.subscribe()));
        Self {
            name,
            pid: child.id().unwrap(),
            child,
            stdin: Mutex::new(Some(lines)),
            inbox,
            reading,
            log: PathBuf::new(),
            next_id: AtomicU64::new(1),
        }
    }

    async fn after_ready(self) -> Self {
        let first = self.inbox.find(SOON, |received| {
            received.events.first().map(|(event, _)| event.clone())
        });
        assert_eq!(
            first.await.as_deref(),
            Some("ready"),
            "{}: first event",
            self.name
        );
        self
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    pub(crate) fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    /// All of stderr so far.
    pub(crate) fn log(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap_or_default()
    }

    /// Asks and waits for the answer.
    pub(crate) async fn request(&self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = format!("t{}", self.next_id.fetch_add(1, Ordering::Relaxed));
        self.send(&json!({"id": id, "method": method, "params": params}));
        self.answer(&id, 1)
            .await
            .unwrap_or_else(|| panic!("{}: no answer to {method}", self.name))
    }

    /// Like [`Self::request`], for requests that must succeed.
    pub(crate) async fn call(&self, method: &str, params: Value) -> Value {
        let answer = self.request(method, params).await;
        let answer =
            answer.unwrap_or_else(|refusal| panic!("{}: {method} failed: {refusal:?}", self.name));
        if method == "getStatus" {
            let is_hub = answer.get("tunnelPort").is_some();
            let misfit = if is_hub {
                misfit::<HubStatus>
            } else {
                misfit::<EdgeStatus>
            };
            assert_eq!(misfit(&answer), None);
        }
        answer
    }

    /// The `nth` answer (from 1) to a request id.
    pub(crate) async fn answer(&self, id: &str, nth: usize) -> Option<Result<Value, Refusal>> {
        let find = self.inbox.find(SOON, |received| {
            received.answers.get(id)?.get(nth - 1).cloned()
        });
        let answer = find.await?;
        Some(if answer["success"] == true {
            Ok(answer["result"].clone())
        } else {
            let text = answer["error"].as_str().expect("an error text");
            let (code, message) = text.split_once(": ").expect("CODE: message");
            Err(Refusal {
                code: code.to_owned(),
                message: message.to_owned(),
            })
        })
    }

    pub(crate) fn send(&self, request: &Value) {
        let mut line = request.to_string().into_bytes();
        line.push(b'\n');
        self.send_raw(line);
    }

    /// Bytes as they are on stdin.
    pub(crate) fn send_raw(&self, bytes: Vec<u8>) {
        if let Some(stdin) = self.stdin.lock().unwrap().as_ref() {
            let _ = stdin.send(bytes);
        }
    }

    pub(crate) fn close_stdin(&self) {
        self.stdin.lock().unwrap().take();
    }

    pub(crate) fn pause_stdout(&self) {
        self.reading.send_replace(Reading::Paused);
    }

    pub(crate) fn resume_stdout(&self) {
        self.reading.send_replace(Reading::Running);
    }

    pub(crate) fn close_stdout(&self) {
        self.reading.send_replace(Reading::Closed);
    }

    pub(crate) async fn status(&self) -> Value {
        self.call("getStatus", json!({})).await
    }

    /// The first status that `accept` takes.
    pub(crate) async fn wait_status(
        &self,
        limit: Duration,
        what: &str,
        mut accept: impl FnMut(&Value) -> bool,
    ) -> Value {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let status = self.status().await;
            if accept(&status) {
                return status;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{}: no {what} within {limit:?}: {status}",
                self.name
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Number of events so far, to tell later ones apart.
    pub(crate) fn mark(&self) -> usize {
        self.inbox.with(|received| received.events.len())
    }

    /// The first event of that name, after `mark`, that `accept` takes.
    pub(crate) async fn wait_event_since(
        &self,
        mark: usize,
        name: &str,
        limit: Duration,
        mut accept: impl FnMut(&Value) -> bool,
    ) -> Value {
        let find = self.inbox.find(limit, |received| {
            let later = received.events.iter().skip(mark);
            let mut named = later.filter(|(event, _)| event == name);
            named
                .find(|(_, body)| accept(body))
                .map(|(_, body)| body.clone())
        });
        find.await.unwrap_or_else(|| {
            let later = self.inbox.with(|received| {
                let later = received.events.iter().skip(mark).rev().take(20);
                later
                    .map(|event| format!("{event:?}\n"))
                    .collect::<String>()
            });
            panic!(
                "{}: no {name} within {limit:?}; latest first:\n{later}",
                self.name
            )
        })
    }

    /// The first event of that name since the start that `accept` takes.
    pub(crate) async fn wait_event(
        &self,
        name: &str,
        limit: Duration,
        accept: impl FnMut(&Value) -> bool,
    ) -> Value {
        self.wait_event_since(0, name, limit, accept).await
    }

    /// True if such an event came after `mark`.
    pub(crate) fn has_event_since(&self, mark: usize, name: &str) -> bool {
        self.inbox.with(|received| {
            let mut later = received.events.iter().skip(mark);
            later.any(|(event, _)| event == name)
        })
    }

    pub(crate) fn signal(&self, signal: i32) {
        system::signal(self.pid, signal);
    }

    /// SIGKILL, and wait until it is gone.
    pub(crate) async fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.exit(SOON).await;
    }

    /// Waits for the end of the process.
    pub(crate) async fn exit(&mut self, limit: Duration) -> ExitStatus {
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("{} didn't end within {limit:?}", self.name))
            .unwrap()
    }

    /// Waits until everything on stdout was read, after the process ended.
    pub(crate) async fn output(&self) -> String {
        let find = self
            .inbox
            .find(SOON, |received| received.ended.then_some(()));
        find.await;
        let text = self.inbox.with(|received| received.transcript.clone());
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let log = self.log();
            let tail = &log[log.len().saturating_sub(LOG_TAIL)..];
            eprintln!("--- {} (pid {}), end of stderr:", self.name, self.pid);
            eprintln!("{}", String::from_utf8_lossy(tail));
        } else {
            let strays = self.inbox.with(|received| received.strays.clone());
            assert_eq!(strays, Vec::<String>::new(), "{} wrote them", self.name);
        }
    }
}

async fn write_lines(mut stdin: ChildStdin, mut lines: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(line) = lines.recv().await {
        if let Err(error) = stdin.write_all(&line).await {
            // A process that ended takes no more; the test sees that by its own means.
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            return;
        }
    }
}

async fn read_lines(stdout: ChildStdout, inbox: Arc<Inbox>, mut reading: watch::Receiver<Reading>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        let state = *reading.borrow_and_update();
        let more = match state {
            Reading::Closed => false,
            Reading::Paused => reading.changed().await.is_ok(),
            Reading::Running => {
                tokio::select! {
                    // Cancelling keeps what was read: it is in `line`.
                    read = stdout.read_until(b'\n', &mut line) => {
                        let ended = !matches!(read, Ok(1..)) ;
                        if !line.is_empty() {
                            inbox.line(&line);
                            line.clear();
                        }
                        !ended
                    }
                    changed = reading.changed() => changed.is_ok(),
                }
            }
        };
        if !more {
            break;
        }
    }
    inbox.end();
}

/// Runs the binary to its end with nothing on stdin.
pub(crate) async fn run_to_end(arguments: &[&str]) -> (Option<i32>, String, String) {
    run_to_end_with(arguments, &[]).await
}

/// The same, with an environment.
pub(crate) async fn run_to_end_with(
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> (Option<i32>, String, String) {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let (mut out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let reads = async {
        tokio::join!(
            out.read_to_string(&mut stdout),
            err.read_to_string(&mut stderr)
        )
    };
    let ended = tokio::time::timeout(SOON, reads).await;
    assert!(ended.is_ok(), "{arguments:?} didn't end within {SOON:?}");
    let status = child.wait().await.unwrap();
    (status.code(), stdout, stderr)
}

/// Bytes of a log that a failed test prints.
const LOG_TAIL: usize = 6 * 1024;
