//! The base of every test: a deadline, a seed, a place beside the others, and the parts in the modules below.

use std::future::Future;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{RwLock, Semaphore};
use tokio::time::Instant;

pub(crate) mod dial_proxy;
pub(crate) mod dnsmasq;
pub(crate) mod examined;
pub(crate) mod health_target;
pub(crate) mod http;
pub(crate) mod inbox;
pub(crate) mod namespace;
pub(crate) mod oracle;
pub(crate) mod path;
pub(crate) mod pooled;
pub(crate) mod ports;
pub(crate) mod process;
pub(crate) mod proxy_header;
pub(crate) mod quic_peer;
pub(crate) mod relay;
pub(crate) mod steady;
pub(crate) mod system;
pub(crate) mod target;
pub(crate) mod tls_peer;
pub(crate) mod transport;
pub(crate) mod tunnel;
pub(crate) mod udp_oracle;
pub(crate) mod udp_relay;
pub(crate) mod wire_peer;

mod tests;
mod udp_tests;

/// Time allowed for anything that should happen "now", on a loaded machine with two cores.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// Runs one test on its own single-threaded runtime and fails it after `limit_secs`. Few of these run at a time, however
/// many threads the test runner has; waiting for a place isn't counted, here and below.
pub(crate) fn run<F: Future<Output = ()>>(limit_secs: u64, test: F) {
    static PLACES: Semaphore = Semaphore::const_new(2);
    start(limit_secs, PLACES.acquire(), test);
}

/// Like [`run`], for tests that load both cores: they take turns, so that the deadlines of each mean the same alone
/// and in company.
pub(crate) fn run_heavy<F: Future<Output = ()>>(limit_secs: u64, test: F) {
    start(limit_secs, LOAD.write(), test);
}

/// Like [`run`], for tests with deadlines that wait more than they work: any number at a time, and never beside a heavy
/// one.
pub(crate) fn run_timed<F: Future<Output = ()>>(limit_secs: u64, test: F) {
    start(limit_secs, LOAD.read(), test);
}

/// Whoever writes here loads both cores.
static LOAD: RwLock<()> = RwLock::const_new(());

fn start<P, F: Future<Output = ()>>(limit_secs: u64, place: impl Future<Output = P>, test: F) {
    eprintln!("seed {} (REMOTEINGRESS_TEST_SEED repeats it)", seed());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let runtime = Runtime(Some(runtime));
    let limit = Duration::from_secs(limit_secs);
    runtime.0.as_ref().unwrap().block_on(async {
        let _place = place.await;
        // The test outlives the timeout, so that its processes are dropped in a panic and show their logs.
        let mut test = std::pin::pin!(test);
        if tokio::time::timeout(limit, &mut test).await.is_err() {
            panic!("the test didn't end within {limit:?}");
        }
    });
}

/// A runtime whose end doesn't wait for tasks in blocking calls.
struct Runtime(Option<tokio::runtime::Runtime>);

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// One seed for the whole run.
pub(crate) fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        std::env::var("REMOTEINGRESS_TEST_SEED")
            .ok()
            .map_or_else(rand::random, |text| text.parse().expect("a number as seed"))
    })
}

/// Waits until `condition` gives a value; fails with `what` after `limit`.
pub(crate) async fn until<T>(
    limit: Duration,
    what: &str,
    mut condition: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `future`, or a failure that names `what` after `limit`.
pub(crate) async fn within<T>(limit: Duration, what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("no {what} within {limit:?}"))
}

/// Says that something is missing, or fails where it is mandatory.
pub(crate) fn skip(what: &str) {
    let required = std::env::var("REMOTEINGRESS_REQUIRE_PEERS").is_ok_and(|value| value == "1");
    assert!(
        !required,
        "{what} is missing and REMOTEINGRESS_REQUIRE_PEERS=1"
    );
    eprintln!("SKIPPED: {what} is missing");
}

/// A new empty directory below cargo's directory for test files.
pub(crate) fn new_directory(name: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join(format!("{name}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

/// 32 random bytes as base64url, like the product makes them.
pub(crate) fn new_secret() -> String {
    use base64::Engine;
    base64::prelude::BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}
