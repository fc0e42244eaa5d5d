//! A listener's wait for descriptors and memory: in growing pauses, without filling the log (threats A1.5). Pure.

use std::io;
use std::time::Duration;
use tokio::time::Instant;

/// The pause after running out, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// At most one warning in this time: the log may lie on a disk that is full as well.
const WARNING_INTERVAL: Duration = Duration::from_secs(10);

/// State of one listener: how long its next pause is, and when it may warn again.
#[derive(Debug)]
pub struct Exhaustion {
    next_pause: Duration,
    next_warning: Option<Instant>,
}

/// The answer to a failure: accept nothing for a while.
#[derive(Debug, PartialEq, Eq)]
pub struct Pause {
    /// Time until the next accept: 100 ms after the first failure, then twice the one before, at most 1 s.
    pub length: Duration,
    /// A warning is due; the last one is at least 10 s old.
    pub is_news: bool,
}

impl Default for Exhaustion {
    fn default() -> Self {
        Self::new()
    }
}

impl Exhaustion {
    /// A listener that hasn't failed yet.
    pub fn new() -> Self {
        Self {
            next_pause: FIRST_PAUSE,
            next_warning: None,
        }
    }

    /// A connection was accepted: the next pause is the shortest one again.
    pub fn accepted(&mut self) {
        self.next_pause = FIRST_PAUSE;
    }

    /// The pause after `error`; `None` for a connection that was gone before it was accepted. Any other error comes again
    /// with the next accept, until its cause is gone.
    pub fn failed(&mut self, now: Instant, error: &io::Error) -> Option<Pause> {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return None;
        }
        let length = self.next_pause;
        self.next_pause = (length * 2).min(LAST_PAUSE);
        let is_news = self.next_warning.is_none_or(|next| now >= next);
        if is_news {
            self.next_warning = Some(now + WARNING_INTERVAL);
        }
        Some(Pause { length, is_news })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_a_connection_is_accepted_and_warnings_are_rare() {
        let exhausted = io::Error::from_raw_os_error(libc::EMFILE);
        let mut state = Exhaustion::new();
        let (begun, mut now) = (Instant::now(), Instant::now());
        let (mut pauses, mut warnings) = (Vec::new(), 0);
        while now < begun + Duration::from_secs(25) {
            let pause = state
                .failed(now, &exhausted)
                .expect("descriptors are missing");
            now += pause.length;
            pauses.push(pause.length.as_millis());
            warnings += u32::from(pause.is_news);
        }
        assert_eq!(pauses[..6], [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(warnings, 3);
        state.accepted();
        let again = state.failed(now, &exhausted).map(|pause| pause.length);
        assert_eq!(again, Some(FIRST_PAUSE));
    }

    #[test]
    fn a_connection_that_is_gone_pauses_nothing() {
        let gone = io::Error::from_raw_os_error(libc::ECONNABORTED);
        assert_eq!(Exhaustion::new().failed(Instant::now(), &gone), None);
    }
}
