//! A worker: a thread with a runtime of its own, which owns everything it touches (D1).

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use tokio::time::timeout;

/// Time for a worker's answer. A turn takes milliseconds, so a worker that needs this long is stuck.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Pause after which a drain looks again if streams still run: short beside the second that a stop may take, and a look is a few
/// loads.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Threads of one worker that look names up (getaddrinfo has no deadline of its own and can't be called off). Further lookups
/// queue; the resolver has at most one for each name. tokio's own bound is 512, with a stack of 2 MiB each.
const LOOKUP_THREADS: usize = 64;

/// Figures of a worker for other threads. They are read once per accept, never per byte.
#[derive(Debug, Default)]
pub struct Gauge {
    /// It has a session that takes new streams.
    pub live: AtomicBool,
    /// Streams that it carries.
    pub streams: AtomicUsize,
}

impl Gauge {
    /// A gauge for each of `count` workers.
    pub fn of_workers(count: usize) -> Vec<Self> {
        std::iter::repeat_with(Self::default).take(count).collect()
    }

    /// The worker has a session that takes new streams.
    pub fn is_live(&self) -> bool {
        self.live.load(Ordering::Relaxed)
    }

    /// Streams that the worker carries.
    pub fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }
}

/// A running worker that takes commands of type `C`.
#[derive(Debug)]
pub struct Worker<C> {
    /// Commands on their way to it. Unbounded, so that none is lost: the clients, connections, ports and edges that were let in
    /// bound their number.
    pub commands: mpsc::UnboundedSender<C>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Worker<C> {
    /// Starts a thread named `name`, with a runtime of its own, that runs `body` to its end.
    ///
    /// # Errors
    /// The process is out of threads or descriptors.
    pub fn start<F: Future<Output = ()>>(
        name: &str,
        body: impl FnOnce(mpsc::UnboundedReceiver<C>) -> F + Send + 'static,
    ) -> io::Result<Self> {
        let (commands, receiver) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(LOOKUP_THREADS)
            .build()?;
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                LocalSet::new().block_on(&runtime, body(receiver));
                // Dropped, the runtime would wait for every lookup: up to half a minute where no name server answers.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            commands,
            thread: Some(thread),
        })
    }

    /// Tells the worker to end and joins it. A worker that doesn't answer in time goes on until the process ends.
    async fn stop(mut self, command: impl FnOnce(oneshot::Sender<()>) -> C) {
        let answered = ask(&self.commands, command).await.is_some();
        let thread = self.thread.take().filter(|_| answered);
        if thread.is_some_and(|thread| thread.join().is_err()) || !answered {
            tracing::error!("a worker has panicked or doesn't answer");
        }
    }
}

/// Asks a worker for something. `None` if it has ended or doesn't answer within 3 s.
pub async fn ask<C, T>(
    worker: &mpsc::UnboundedSender<C>,
    question: impl FnOnce(oneshot::Sender<T>) -> C,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    worker.send(question(reply)).ok()?;
    timeout(ANSWER_TIMEOUT, answer).await.ok()?.ok()
}

/// Asks all workers at the same time to do something, and waits until they have, at most 3 s.
pub async fn ask_all<C>(workers: &[Worker<C>], command: fn(oneshot::Sender<()>) -> C) {
    let asked = workers.iter().map(|worker| {
        let (done, answer) = oneshot::channel();
        // A worker that has ended drops the question, which answers it.
        let _ = worker.commands.send(command(done));
        answer
    });
    let asked: Vec<oneshot::Receiver<()>> = asked.collect();
    let answers = async {
        for answer in asked {
            let _ = answer.await;
        }
    };
    let _ = timeout(ANSWER_TIMEOUT, answers).await;
}

/// Gives every worker a command and doesn't wait. A worker that has ended needs none.
pub fn tell_all<C>(workers: &[Worker<C>], command: impl Fn() -> C) {
    for worker in workers {
        let _ = worker.commands.send(command());
    }
}

/// Waits until `is_idle`, which is asked every 20 ms, at most for `timeout` and at most until `cut` resolves.
pub async fn drain(is_idle: impl Fn() -> bool, timeout: Duration, cut: impl Future<Output = ()>) {
    let idle = async {
        while !is_idle() {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(timeout, idle) => {}
        () = cut => {}
    }
}

/// Ends workers, all at the same time. Those that don't answer within 3 s are logged and left to the process's end.
///
/// # Panics
/// Outside of a `LocalSet`.
pub async fn stop_all<C: Send + 'static>(
    workers: Vec<Worker<C>>,
    command: fn(oneshot::Sender<()>) -> C,
) {
    let mut stopping = tokio::task::JoinSet::new();
    for worker in workers {
        stopping.spawn_local(worker.stop(command));
    }
    stopping.join_all().await;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex, mpsc as std_mpsc};

    use tokio::task::spawn_blocking;
    use tokio::time::{Instant, sleep};

    use super::*;

    enum Command {
        /// Starts lookups that end when their sender is gone.
        LookUp(Lookups, oneshot::Sender<()>),
        Stop(oneshot::Sender<()>),
    }

    /// Lookups at a name server that doesn't answer.
    #[derive(Clone)]
    struct Lookups {
        count: usize,
        begun: Arc<AtomicUsize>,
        answer: Arc<Mutex<std_mpsc::Receiver<()>>>,
    }

    impl Lookups {
        fn start(&self) {
            for _ in 0..self.count {
                let this = self.clone();
                spawn_blocking(move || {
                    this.begun.fetch_add(1, Ordering::Relaxed);
                    let _ = this.answer.lock().map(|answer| answer.recv());
                });
            }
        }

        fn begun(&self) -> usize {
            self.begun.load(Ordering::Relaxed)
        }
    }

    fn silent(count: usize) -> (Lookups, std_mpsc::Sender<()>) {
        let (server, answer) = std_mpsc::channel();
        let lookups = Lookups {
            count,
            begun: Arc::default(),
            answer: Arc::new(Mutex::new(answer)),
        };
        (lookups, server)
    }

    fn worker() -> Worker<Command> {
        let serve = |mut commands: mpsc::UnboundedReceiver<Command>| async move {
            while let Some(command) = commands.recv().await {
                match command {
                    Command::LookUp(lookups, done) => {
                        lookups.start();
                        let _ = done.send(());
                    }
                    Command::Stop(done) => {
                        let _ = done.send(());
                        return;
                    }
                }
            }
        };
        Worker::start("test", serve).unwrap()
    }

    /// Waits until `count` of the lookups have begun.
    async fn wait_for(lookups: &Lookups, count: usize) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while lookups.begun() < count {
            assert!(Instant::now() < deadline, "{} have begun", lookups.begun());
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[tokio::test]
    async fn a_stop_does_not_wait_for_a_silent_name_server() {
        let (worker, (lookups, server)) = (worker(), silent(1));
        let look_up = |done| Command::LookUp(lookups.clone(), done);
        ask(&worker.commands, look_up).await.unwrap();
        wait_for(&lookups, 1).await;

        let stopping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, stop_all(vec![worker], Command::Stop));
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        while !stopping.is_finished() && Instant::now() < deadline {
            sleep(Duration::from_millis(1)).await;
        }
        let has_waited = !stopping.is_finished();
        drop(server);
        stopping.join().unwrap();
        assert!(!has_waited);
    }

    #[tokio::test]
    async fn lookups_of_a_worker_have_a_bound_of_threads() {
        let (worker, (lookups, server)) = (worker(), silent(LOOKUP_THREADS + 10));
        let look_up = |done| Command::LookUp(lookups.clone(), done);
        ask(&worker.commands, look_up).await.unwrap();
        wait_for(&lookups, LOOKUP_THREADS).await;
        sleep(Duration::from_millis(50)).await;
        assert_eq!(lookups.begun(), LOOKUP_THREADS);
        drop(server);
        wait_for(&lookups, LOOKUP_THREADS + 10).await;
    }

    #[tokio::test]
    async fn a_worker_that_has_ended_answers_nothing_and_nobody_waits() {
        let worker = worker();
        ask(&worker.commands, Command::Stop).await.unwrap();
        while !worker.thread.as_ref().unwrap().is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        let asked = Instant::now();
        assert!(ask(&worker.commands, Command::Stop).await.is_none());
        ask_all(&[worker], Command::Stop).await;
        assert!(asked.elapsed() < ANSWER_TIMEOUT);
    }
}
