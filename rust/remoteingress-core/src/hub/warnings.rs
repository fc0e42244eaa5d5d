//! Limit on warnings in the log that many streams of a port may cause.

use remoteingress_proto::token::edge_id::EdgeId;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Per edge and port: often enough to see whether it lasts.
const INTERVAL: Duration = Duration::from_secs(5);
/// Ports whose last warning is remembered; beyond it nothing more is said.
const MAX_PORTS: usize = 4_096;

/// Time at which each port of each edge was warned of last.
#[derive(Debug, Default)]
pub struct Warnings(HashMap<(EdgeId, u16), Instant>);

impl Warnings {
    /// True if a warning is to be written now, which counts as written. A warning of the whole edge has port 0.
    pub fn is_due(&mut self, now: Instant, edge: &EdgeId, port: u16) -> bool {
        if self.0.len() >= MAX_PORTS {
            self.0.retain(|_, at| now < *at + INTERVAL);
        }
        let key = (edge.clone(), port);
        let is_due = self.0.get(&key).is_none_or(|at| now >= *at + INTERVAL);
        if !is_due || self.0.len() >= MAX_PORTS {
            return false;
        }
        self.0.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any_instant;

    #[test]
    fn each_port_of_an_edge_is_warned_of_once_in_five_seconds() {
        let now = any_instant();
        let mut warnings = Warnings::default();
        let (a, b) = (EdgeId::new("a").unwrap(), EdgeId::new("b").unwrap());
        assert!(warnings.is_due(now, &a, 80));
        assert!(!warnings.is_due(now, &a, 80));
        assert!(warnings.is_due(now, &a, 443));
        assert!(warnings.is_due(now, &b, 80));
        let later = now + Duration::from_millis(4_999);
        assert!(!warnings.is_due(later, &a, 80));
        assert!(warnings.is_due(now + INTERVAL, &a, 80));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_old_ports_make_room() {
        let now = any_instant();
        let mut warnings = Warnings::default();
        let edge = EdgeId::new("a").unwrap();
        let written = (0..5_000).filter(|port| warnings.is_due(now, &edge, *port));
        assert_eq!(written.count(), MAX_PORTS);
        assert!(warnings.is_due(now + INTERVAL, &edge, 5_000));
    }
}
