//! Which of its target's addresses a UDP flow uses: the next one where one refuses or fails, and for later flows first the
//! one that has answered.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Addresses of one target that a flow tries; the rest is ignored.
pub const MAX_ADDRESSES: usize = 16;
/// Targets whose good address is remembered. Beyond it, the newest isn't.
const MAX_REMEMBERED: usize = 4_096;
/// An address that has answered no new flow for this long has lost its place.
const REMEMBERED: Duration = Duration::from_secs(60);

/// The addresses of one flow's target.
#[derive(Clone, Debug)]
pub struct TargetAddresses {
    /// At least one.
    all: Box<[SocketAddr]>,
    current: usize,
    /// Addresses that have failed in a row.
    failed: usize,
    /// The current one has answered.
    has_answered: bool,
}

/// The address after one that has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// The flow uses it from now on.
    pub address: SocketAddr,
    /// Every address has failed in a row, this one as the first: only new datagrams go there.
    pub is_again: bool,
}

impl TargetAddresses {
    /// The addresses in the order in which they are tried; None without any.
    pub fn new(mut all: Vec<SocketAddr>) -> Option<Self> {
        all.truncate(MAX_ADDRESSES);
        (!all.is_empty()).then(|| Self {
            all: all.into(),
            current: 0,
            failed: 0,
            has_answered: false,
        })
    }

    /// True if there is another address than the current one.
    pub fn has_choice(&self) -> bool {
        self.all.len() > 1
    }

    /// The address that the flow uses.
    pub fn current(&self) -> SocketAddr {
        self.all[self.current]
    }

    /// The current address has refused a datagram, or can't be reached.
    pub fn handle_failure(&mut self) -> Next {
        self.current = (self.current + 1) % self.all.len();
        self.failed += 1;
        self.has_answered = false;
        let is_again = self.failed >= self.all.len();
        if is_again {
            self.failed = 0;
        }
        Next {
            address: self.current(),
            is_again,
        }
    }

    /// The current address has sent something; true if that is news.
    pub fn handle_answer(&mut self) -> bool {
        self.failed = 0;
        !std::mem::replace(&mut self.has_answered, true)
    }
}

/// The address that has answered last, of targets that have several.
#[derive(Debug, Default)]
pub struct GoodAddresses(HashMap<(String, u16), (SocketAddr, Instant)>);

impl GoodAddresses {
    /// An address of this host has answered a new flow.
    pub fn remember(&mut self, now: Instant, host: &str, address: SocketAddr) {
        if self.0.len() >= MAX_REMEMBERED {
            self.0.retain(|_, (_, at)| now < *at + REMEMBERED);
        }
        let key = (host.to_owned(), address.port());
        if self.0.len() < MAX_REMEMBERED || self.0.contains_key(&key) {
            self.0.insert(key, (address, now));
        }
    }

    /// The address has failed.
    pub fn forget(&mut self, host: &str, address: SocketAddr) {
        let key = (host.to_owned(), address.port());
        if self.0.get(&key).is_some_and(|(good, _)| *good == address) {
            self.0.remove(&key);
        }
    }

    /// Puts the address that is remembered for this host before the others; their order stays.
    pub fn put_first(&self, now: Instant, host: &str, addresses: &mut [SocketAddr]) {
        let [first, _, ..] = addresses else { return };
        let good = self.0.get(&(host.to_owned(), first.port()));
        let good = good.filter(|(_, at)| now < *at + REMEMBERED);
        let place = good.and_then(|(good, _)| addresses.iter().position(|one| one == good));
        if let Some(head) = place.and_then(|place| addresses.get_mut(..=place)) {
            head.rotate_right(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    #[test]
    fn each_address_is_tried_once_in_a_row_and_then_the_first_for_new_datagrams() {
        let mut addresses = TargetAddresses::new(three()).unwrap();
        let [a, b, c] = three()[..] else { panic!() };
        assert_eq!(addresses.current(), a);
        for _ in 0..2 {
            assert_eq!(addresses.handle_failure(), next(b, false));
            assert_eq!(addresses.handle_failure(), next(c, false));
            assert_eq!(addresses.handle_failure(), next(a, true));
        }
    }

    #[test]
    fn an_answer_is_news_once_and_begins_the_row_anew() {
        let mut addresses = TargetAddresses::new(three()).unwrap();
        let [a, b, c] = three()[..] else { panic!() };
        addresses.handle_failure();
        assert!(addresses.handle_answer());
        assert!(!addresses.handle_answer());
        assert_eq!(addresses.current(), b);
        assert_eq!(addresses.handle_failure(), next(c, false));
        assert_eq!(addresses.handle_failure(), next(a, false));
        assert!(addresses.handle_answer());
    }

    #[test]
    fn one_address_is_no_choice_and_none_is_no_target() {
        assert!(TargetAddresses::new(Vec::new()).is_none());
        let one = TargetAddresses::new(three()[..1].to_vec()).unwrap();
        assert!(!one.has_choice());
        let many = TargetAddresses::new(three().repeat(10)).unwrap();
        assert!(many.has_choice());
        assert_eq!(many.all.len(), MAX_ADDRESSES);
    }

    #[test]
    fn the_good_address_comes_first_until_it_fails_or_is_a_minute_old() {
        let now = any_instant();
        let mut good = GoodAddresses::default();
        let [a, b, c] = three()[..] else { panic!() };
        let order = |good: &GoodAddresses, now, host| {
            let mut addresses = three();
            good.put_first(now, host, &mut addresses);
            addresses
        };
        good.remember(now, "here", c);
        assert_eq!(order(&good, now, "here"), [c, a, b]);
        assert_eq!(order(&good, now, "there"), three());
        assert_eq!(order(&good, now + REMEMBERED, "here"), three());
        good.forget("here", b);
        assert_eq!(order(&good, now, "here"), [c, a, b]);
        good.forget("here", c);
        assert_eq!(order(&good, now, "here"), three());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = any_instant();
        let mut good = GoodAddresses::default();
        let address = three()[0];
        for number in 0..5_000 {
            good.remember(now, &number.to_string(), address);
        }
        assert_eq!(good.0.len(), MAX_REMEMBERED);
        good.remember(now + REMEMBERED, "new", address);
        assert_eq!(good.0.len(), 1);
    }

    fn three() -> Vec<SocketAddr> {
        ["[::1]:53", "127.0.0.1:53", "127.0.0.2:53"]
            .map(|address| address.parse().unwrap())
            .to_vec()
    }

    fn next(address: SocketAddr, is_again: bool) -> Next {
        Next { address, is_again }
    }
}
