//! Which refusals of an edge are news: an edge that comes again and again is told of once a minute, and while the hub
//! drains once.

use crate::client_network::client_network;
use crate::entrance::RefusedPeer;
use remoteingress_config::reasons::TunnelRefusalReason;
use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// The same edge at the same address for the same reason is news again after this.
const INTERVAL: Duration = Duration::from_secs(60);
/// Edge ids that are remembered, claimed or proven; beyond it only the counter tells.
const MAX_EDGES: usize = 65_536;
/// Reasons and addresses of one edge that are remembered.
const MAX_PER_EDGE: usize = 16;
/// A full table is searched for entries that may go at most this often.
const PURGE_INTERVAL: Duration = Duration::from_secs(1);

/// The refusals that the operator was told of.
#[derive(Debug, Default)]
pub struct Rejections {
    told: HashMap<Option<EdgeId>, Vec<Told>>,
    purge_at: Option<Instant>,
}

#[derive(Debug)]
struct Told {
    reason: TunnelRefusalReason,
    network: IpAddr,
    at: Instant,
}

impl Told {
    fn is_recent(&self, now: Instant) -> bool {
        // A hub that drains doesn't do anything else any more.
        self.reason == TunnelRefusalReason::Draining || now < self.at + INTERVAL
    }
}

impl Rejections {
    /// True if the operator is to be told of this one, which counts as told.
    pub fn is_news(&mut self, now: Instant, refused: &RefusedPeer) -> bool {
        let RefusedPeer { edge, reason, .. } = refused;
        let network = client_network(refused.address.ip());
        if self.told.len() >= MAX_EDGES && !self.told.contains_key(edge) && !self.purge(now) {
            return false;
        }
        let told = self.told.entry(edge.clone()).or_default();
        told.retain(|told| told.is_recent(now));
        // A drain is the hub's own: wherever the edge comes from, it says nothing new.
        let is_known = |told: &Told| {
            told.reason == *reason
                && (told.network == network || *reason == TunnelRefusalReason::Draining)
        };
        if told.iter().any(is_known) || told.len() >= MAX_PER_EDGE {
            return false;
        }
        told.push(Told {
            reason: *reason,
            network,
            at: now,
        });
        true
    }

    /// The edge has come in: that it is refused is news again.
    pub fn admitted(&mut self, edge: &EdgeId) {
        if !self.told.is_empty() {
            self.told.remove(&Some(edge.clone()));
        }
    }

    /// Forgets what is old, at most once a second; true if there is room then.
    fn purge(&mut self, now: Instant) -> bool {
        if self.purge_at.is_some_and(|at| now < at) {
            return false;
        }
        self.purge_at = Some(now + PURGE_INTERVAL);
        self.told.retain(|_, told| {
            told.retain(|told| told.is_recent(now));
            !told.is_empty()
        });
        self.told.len() < MAX_EDGES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    fn refused(edge: &str, host: u8, reason: TunnelRefusalReason) -> RefusedPeer {
        RefusedPeer {
            edge: Some(EdgeId::new(edge).unwrap()),
            address: ([192, 0, 2, host], 5_000).into(),
            reason,
            other: None,
        }
    }

    #[test]
    fn an_edge_that_comes_again_is_news_after_a_minute_or_for_another_reason() {
        use TunnelRefusalReason::{AuthFailed, InstanceConflict};
        let now = any_instant();
        let mut rejections = Rejections::default();
        let first = refused("a", 1, AuthFailed);
        assert!(rejections.is_news(now, &first));
        assert!(!rejections.is_news(now, &first));
        assert!(rejections.is_news(now, &refused("a", 1, InstanceConflict)));
        assert!(rejections.is_news(now, &refused("a", 2, AuthFailed)));
        assert!(rejections.is_news(now, &refused("b", 1, AuthFailed)));
        let late = now + INTERVAL - Duration::from_millis(1);
        assert!(!rejections.is_news(late, &first));
        assert!(rejections.is_news(now + INTERVAL, &first));
        rejections.admitted(&EdgeId::new("a").unwrap());
        assert!(rejections.is_news(now + INTERVAL, &first));
    }

    #[test]
    fn a_drain_is_told_once_per_edge_however_long_it_lasts() {
        let now = any_instant();
        let mut rejections = Rejections::default();
        let told = (0..600u32).filter(|second| {
            let at = now + Duration::from_secs((*second).into());
            let host = (second % 7) as u8;
            rejections.is_news(at, &refused("a", host, TunnelRefusalReason::Draining))
        });
        assert_eq!(told.count(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = any_instant();
        let mut rejections = Rejections::default();
        let hosts = (0..200).filter(|host| {
            rejections.is_news(now, &refused("a", *host, TunnelRefusalReason::AuthFailed))
        });
        assert_eq!(hosts.count(), MAX_PER_EDGE);
        let mut rejections = Rejections::default();
        let news = |rejections: &mut Rejections, at, number: usize| {
            let edge = format!("{number}");
            rejections.is_news(at, &refused(&edge, 1, TunnelRefusalReason::AuthFailed))
        };
        let edges = (0..70_000).filter(|number| news(&mut rejections, now, *number));
        assert_eq!(edges.count(), MAX_EDGES);
        assert!(news(&mut rejections, now + INTERVAL, 70_001));
        assert_eq!(rejections.told.len(), 1);
    }
}
