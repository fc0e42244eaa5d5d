//! Resolves the names of targets off the dial path, with a small cache and a list of addresses that no target has.
//!
//! An answer is fresh for 10 s. For a minute after that it is still served at once while the next one is looked up;
//! later callers wait for the lookup, and get the old answer only if that fails. One lookup per name runs at a time.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::Instant;

use remoteingress_config::target::is_special;
use remoteingress_proto::token::host::bare;

/// An answer of this age needs no lookup.
const FRESH: Duration = Duration::from_secs(10);
/// An answer of this age is served while it is looked up again.
const USABLE: Duration = Duration::from_secs(70);
/// More names than a hub's configuration is likely to hold. Above it, answers that are no longer usable are forgotten; the
/// configuration bounds the others.
const MAX_NAMES: usize = 1024;

/// The reason why a target's name gives no address.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ResolveError {
    #[error("failed to resolve {host}: {reason}")]
    /// The lookup failed, and no earlier answer is known.
    Failed {
        /// The name.
        host: String,
        /// The resolver's answer.
        reason: String,
    },
    #[error("{host} is at {address}, which is no target (see allowSpecialTargets)")]
    /// All addresses of the name are special ones, which no target has unless the configuration allows it (D6).
    Special {
        /// The name.
        host: String,
        /// The first of its addresses.
        address: IpAddr,
    },
}

/// The resolver of one worker. Clones share their answers.
///
/// A lookup has no deadline of its own (getaddrinfo gives up after about half a minute), and those who wait for it have none
/// here: each caller sets its own. The number of lookups is bounded by that of the names, their threads by the worker.
#[derive(Clone)]
pub struct TargetResolver {
    names: Rc<RefCell<HashMap<String, Entry>>>,
    lookup: Rc<Lookup>,
    allow_special: bool,
}

type Answer = Result<Rc<[SocketAddr]>, ResolveError>;
type Lookup = dyn Fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>>>>;

/// The last answer for one name, and the lookup of the next.
#[derive(Default)]
struct Entry {
    addresses: Option<(Rc<[SocketAddr]>, Instant)>,
    /// The lookup that runs now.
    running: Option<watch::Receiver<Option<ResolveError>>>,
}

impl Entry {
    fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        let since = self.addresses.as_ref().map(|(_, since)| *since);
        since.is_none_or(|since| now.saturating_duration_since(since) > age)
    }
}

impl TargetResolver {
    /// A resolver for the current `LocalSet`. `allow_special` lets targets have any address.
    pub fn new(allow_special: bool) -> Self {
        Self::with_lookup(allow_special, |host| async move {
            Ok(tokio::net::lookup_host((host, 0)).await?.collect())
        })
    }

    fn with_lookup<F>(allow_special: bool, lookup: impl Fn(String) -> F + 'static) -> Self
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + 'static,
    {
        Self {
            names: Rc::default(),
            lookup: Rc::new(move |host| Box::pin(lookup(host))),
            allow_special,
        }
    }

    /// The addresses to dial for `host` at the time `now`, all of them allowed and at least one.
    ///
    /// # Errors
    /// The lookup failed and no earlier answer is known, or no address is allowed.
    pub async fn resolve(
        &self,
        host: &str,
        port: u16,
        now: Instant,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let host = bare(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(address, port);
            return self.allowed(host, vec![address]);
        }
        let addresses = self.cached(host, now).await?;
        Ok(with_port(&addresses, port))
    }

    /// These addresses where no lookup is needed: for an address, or a name whose answer is fresh. `None` otherwise.
    pub fn resolve_now(
        &self,
        host: &str,
        port: u16,
        now: Instant,
    ) -> Option<Result<Vec<SocketAddr>, ResolveError>> {
        let host = bare(host);
        if let Ok(address) = host.parse::<IpAddr>() {
            let address = SocketAddr::new(address, port);
            return Some(self.allowed(host, vec![address]));
        }
        let names = self.names.borrow();
        let entry = names
            .get(host)
            .filter(|entry| !entry.is_older_than(FRESH, now))?;
        let (addresses, _) = entry.addresses.as_ref()?;
        Some(Ok(with_port(addresses, port)))
    }

    async fn cached(&self, host: &str, now: Instant) -> Answer {
        let mut running = {
            let mut names = self.names.borrow_mut();
            let entry = names.entry(host.to_owned()).or_default();
            if entry.is_older_than(FRESH, now) && entry.running.is_none() {
                entry.running = Some(self.look_up(host, now));
            }
            match (&entry.addresses, &entry.running) {
                (Some((addresses, _)), _) if !entry.is_older_than(USABLE, now) => {
                    return Ok(Rc::clone(addresses));
                }
                (_, Some(running)) => running.clone(),
                (_, None) => return Err(failed(host, "no lookup runs")),
            }
        };
        // The sender's end is the end of the lookup.
        while running.changed().await.is_ok() {}
        let names = self.names.borrow();
        if let Some((addresses, _)) = names.get(host).and_then(|entry| entry.addresses.as_ref()) {
            return Ok(Rc::clone(addresses));
        }
        let error = running.borrow().clone();
        Err(error.unwrap_or_else(|| failed(host, "the lookup was given up")))
    }

    /// Starts a lookup, which ends by dropping its end of the channel.
    fn look_up(&self, host: &str, now: Instant) -> watch::Receiver<Option<ResolveError>> {
        let (outcome, running) = watch::channel(None);
        let (this, host) = (self.clone(), host.to_owned());
        spawn_local(async move {
            let found = (this.lookup)(host.clone()).await;
            let found = found
                .map_err(|error| failed(&host, &error.to_string()))
                .and_then(|addresses| this.allowed(&host, addresses));
            this.settle(&host, &found, now);
            if let Err(error) = found {
                outcome.send_replace(Some(error));
            }
        });
        running
    }

    fn settle(&self, host: &str, found: &Result<Vec<SocketAddr>, ResolveError>, now: Instant) {
        let mut names = self.names.borrow_mut();
        let entry = names.entry(host.to_owned()).or_default();
        entry.running = None;
        match found {
            Ok(addresses) => entry.addresses = Some((addresses.as_slice().into(), now)),
            // A name that points to a forbidden address now must not be served from memory.
            Err(ResolveError::Special { .. }) => entry.addresses = None,
            Err(ResolveError::Failed { .. }) => {}
        }
        if names.len() > MAX_NAMES {
            names.retain(|_, entry| entry.running.is_some() || !entry.is_older_than(USABLE, now));
        }
    }

    fn allowed(
        &self,
        host: &str,
        mut addresses: Vec<SocketAddr>,
    ) -> Result<Vec<SocketAddr>, ResolveError> {
        let Some(first) = addresses.first().map(SocketAddr::ip) else {
            return Err(failed(host, "it has no address"));
        };
        if !self.allow_special {
            addresses.retain(|address| !is_special(address.ip()));
        }
        if addresses.is_empty() {
            return Err(ResolveError::Special {
                host: host.to_owned(),
                address: first,
            });
        }
        Ok(addresses)
    }
}

impl std::fmt::Debug for TargetResolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("TargetResolver")
    }
}

fn with_port(addresses: &[SocketAddr], port: u16) -> Vec<SocketAddr> {
    let with_port = |address: &SocketAddr| {
        let mut address = *address;
        address.set_port(port);
        address
    };
    addresses.iter().map(with_port).collect()
}

fn failed(host: &str, reason: &str) -> ResolveError {
    ResolveError::Failed {
        host: host.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::task::LocalSet;

    use super::*;

    #[tokio::test]
    async fn literals_and_odd_spellings_are_checked() {
        let test = async {
            let resolver = TargetResolver::new(false);
            let now = Instant::now();
            let one = resolver.resolve("[::1]", 80, now).await.unwrap();
            assert_eq!(one, ["[::1]:80".parse().unwrap()]);
            let short = resolver.resolve("127.1", 80, now).await.unwrap();
            assert_eq!(short, ["127.0.0.1:80".parse().unwrap()]);
            for host in ["169.254.169.254", "0xa9.254.169.254", "fe80::1%lo", "0"] {
                let error = resolver.resolve(host, 80, now).await.unwrap_err();
                let is_special = matches!(error, ResolveError::Special { .. });
                assert!(is_special, "{host}: {error}");
            }
            let any = TargetResolver::new(true);
            any.resolve("169.254.169.254", 80, now).await.unwrap();
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn answers_are_cached_refreshed_and_served_stale() {
        let test = async {
            let (resolver, zone) = scripted();
            let start = Instant::now();
            zone.answer.set(Some("10.0.0.1"));
            resolves_to(&resolver, "10.0.0.1:80", start).await;
            zone.answer.set(Some("10.0.0.2"));
            resolves_to(&resolver, "10.0.0.1:80", start + FRESH).await;
            assert_eq!(zone.lookups.get(), 1);

            // Past its freshness the old answer is served at once, and the new one to the next caller.
            let stale = start + FRESH + Duration::from_secs(1);
            resolves_to(&resolver, "10.0.0.1:80", stale).await;
            zone.settled(2).await;
            resolves_to(&resolver, "10.0.0.2:80", stale).await;
            assert_eq!(zone.lookups.get(), 2);

            // Much later the caller waits, and a failure gives the old answer.
            zone.answer.set(None);
            let old = stale + USABLE * 10;
            resolves_to(&resolver, "10.0.0.2:80", old).await;
            zone.answer.set(Some("10.0.0.3"));
            resolves_to(&resolver, "10.0.0.3:80", old).await;

            // A name that turns bad isn't served from memory.
            zone.answer.set(Some("169.254.169.254"));
            let turned = resolver.resolve("target", 80, old + USABLE * 2).await;
            assert!(matches!(turned, Err(ResolveError::Special { .. })));
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test]
    async fn callers_share_one_lookup() {
        let test = async {
            let (resolver, zone) = scripted();
            let now = Instant::now();
            let (first, second) = tokio::join!(
                resolver.resolve("target", 1, now),
                resolver.resolve("target", 2, now)
            );
            assert!(matches!(first, Err(ResolveError::Failed { .. })));
            assert!(second.unwrap_err().to_string().contains("target"));
            assert_eq!(zone.lookups.get(), 1);
        };
        LocalSet::new().run_until(test).await;
    }

    /// A name server whose one answer is set by the test.
    struct Zone {
        answer: Cell<Option<&'static str>>,
        lookups: Cell<u32>,
    }

    impl Zone {
        /// Waits for the end of lookup number `count`.
        async fn settled(&self, count: u32) {
            while self.lookups.get() < count {
                tokio::task::yield_now().await;
            }
            tokio::task::yield_now().await;
        }
    }

    fn scripted() -> (TargetResolver, Rc<Zone>) {
        let zone = Rc::new(Zone {
            answer: Cell::new(None),
            lookups: Cell::new(0),
        });
        let server = Rc::clone(&zone);
        let resolver = TargetResolver::with_lookup(false, move |_| {
            server.lookups.set(server.lookups.get() + 1);
            let answer = server.answer.get();
            async move {
                let ip = answer.ok_or(io::ErrorKind::NotFound)?;
                Ok(vec![SocketAddr::new(ip.parse().unwrap(), 0)])
            }
        });
        (resolver, zone)
    }

    async fn resolves_to(resolver: &TargetResolver, expected: &str, now: Instant) {
        let addresses = resolver.resolve("target", 80, now).await.unwrap();
        assert_eq!(addresses, [expected.parse().unwrap()]);
    }
}
