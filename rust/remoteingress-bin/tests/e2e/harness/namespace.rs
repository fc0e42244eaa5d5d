//! Network namespaces of a test's own, joined by veth pairs, for what loopback can't show: a small MTU.

use std::fs::File;
use std::marker::PhantomData;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::system::enter_network;

/// A network namespace; it ends when dropped.
pub(crate) struct Namespace {
    name: String,
    handle: File,
}

/// While this lives, the thread that made it is in another namespace.
pub(crate) struct Inside {
    home: File,
    // A thread enters and leaves for itself.
    _thread: PhantomData<*const ()>,
}

impl Namespace {
    /// A namespace with loopback; `None` where privileges or tools lack.
    pub(crate) fn new(role: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("rmi-{}-{number}-{role}", std::process::id());
        if !ip(&["netns", "add", &name]) {
            return None;
        }
        let namespace = Self {
            handle: File::open(format!("/run/netns/{name}")).ok()?,
            name,
        };
        namespace.ip("link set lo up").then_some(namespace)
    }

    /// Joins two namespaces by a veth pair with addresses `10.<net>.0.1` here and `10.<net>.0.2` there, whose ends are
    /// `v<net>a` and `v<net>b`.
    pub(crate) fn join(&self, other: &Self, net: u8, mtu: u16) -> Option<()> {
        let (here, there) = (format!("v{net}a"), format!("v{net}b"));
        let pair = format!(
            "link add {here} type veth peer name {there} netns {}",
            other.name
        );
        let is_joined = self.ip(&pair)
            && [(self, &here, 1), (other, &there, 2)]
                .iter()
                .all(|(end, link, host)| {
                    end.ip(&format!("address add 10.{net}.0.{host}/24 dev {link}"))
                        && end.ip(&format!("link set {link} mtu {mtu} up"))
                });
        is_joined.then_some(())
    }

    /// Runs `ip` in here with these words; whether it succeeds.
    pub(crate) fn ip(&self, words: &str) -> bool {
        let mut arguments = vec!["-n", &self.name];
        arguments.extend(words.split(' '));
        ip(&arguments)
    }

    /// Puts this thread into the namespace until the answer is dropped.
    pub(crate) fn enter(&self) -> Inside {
        let home = File::open("/proc/thread-self/ns/net").unwrap();
        enter_network(&self.handle);
        Inside {
            home,
            _thread: PhantomData,
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "delete", &self.name]);
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        enter_network(&self.home);
    }
}

/// Runs `ip` with these arguments; true if it succeeds.
fn ip(arguments: &[&str]) -> bool {
    let mut command = Command::new("ip");
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
