//! Which failures are warned of: the first of a kind, and then one every 30 s.

use remoteingress_config::error::ErrorCode;
use std::time::{Duration, Instant};

/// A failure with the code of the last one is warned of again after this; until then it is a line for debugging.
const INTERVAL: Duration = Duration::from_secs(30);

/// The last failure that was warned of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Warnings(Option<(ErrorCode, Instant)>);

impl Warnings {
    /// Tells whether to warn of this failure, and remembers that.
    pub fn is_due(&mut self, code: ErrorCode, now: Instant) -> bool {
        let is_recent = |(last, at)| last == code && now < at + INTERVAL;
        let is_due = !self.0.is_some_and(is_recent);
        if is_due {
            self.0 = Some((code, now));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_failure_is_warned_of_every_thirty_seconds_and_another_at_once() {
        let (mut warnings, now) = (Warnings::default(), crate::any_instant());
        let later = |secs| now + Duration::from_secs(secs);
        assert!(warnings.is_due(ErrorCode::HubUnreachable, now));
        assert!(!warnings.is_due(ErrorCode::HubUnreachable, later(29)));
        assert!(warnings.is_due(ErrorCode::AuthFailed, later(29)));
        assert!(warnings.is_due(ErrorCode::HubUnreachable, later(29)));
        assert!(warnings.is_due(ErrorCode::HubUnreachable, later(59)));
    }
}
