//! Why a check failed: for the log, with what was asked and where, and for the status, in a few words.

use remoteingress_os::probe::{Flaw, ProbeError, ProbeKind};
use remoteingress_os::resolve::ResolveError;
use std::time::Duration;

/// The reason why a check failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    #[error("the lookup of its name took too long")]
    Late,
}

impl CheckError {
    /// True if this machine is to blame: that says nothing of the target.
    pub(super) fn is_own(&self) -> bool {
        matches!(self, Self::Probe(error) if error.is_own())
    }

    /// The reason without what stands in the configuration, beside which it is shown: `kind` is what was asked, and
    /// `timeout` the time for an answer.
    pub(super) fn brief(&self, kind: &ProbeKind, timeout: Duration) -> String {
        let secs = timeout.as_secs();
        let error = match self {
            Self::Probe(error) => error,
            Self::Resolve(error) => return error.to_string(),
            Self::Late => return format!("its name wasn't looked up within {secs} s"),
        };
        match (error.reason(), error) {
            ("refused", _) => "refused".to_owned(),
            (_, ProbeError::Answer { flaw, .. }) => of_answer(flaw, kind, secs),
            ("timeout", _) => format!("no connection within {secs} s"),
            (_, ProbeError::Socket { source, .. }) => source.to_string(),
            (_, ProbeError::Connect { tried }) => match tried.last() {
                Some(last) => last.error.to_string(),
                None => "its name has no address".to_owned(),
            },
        }
    }
}

fn of_answer(flaw: &Flaw, kind: &ProbeKind, secs: u64) -> String {
    match (flaw, kind) {
        (Flaw::Timeout { received: 0 }, _) => format!("no answer within {secs} s"),
        (Flaw::Timeout { received }, _) => {
            format!("no whole answer within {secs} s, {received} bytes of it")
        }
        (Flaw::Status(status), ProbeKind::Http(asked)) => {
            let (first, last) = (asked.statuses.start(), asked.statuses.end());
            if first == last {
                format!("status {status}, not {first}")
            } else {
                format!("status {status}, not {first}-{last}")
            }
        }
        (flaw, _) => flaw.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_os::probe::HttpProbe;
    use std::ops::RangeInclusive;

    fn told(statuses: RangeInclusive<u16>, flaw: Flaw) -> String {
        let kind = ProbeKind::Http(HttpProbe {
            host: "web.internal".to_owned(),
            path: "/health".to_owned(),
            statuses,
            text: Vec::new(),
        });
        let error = ProbeError::Answer {
            asked: "GET /health".to_owned(),
            address: ([192, 0, 2, 1], 80).into(),
            flaw,
        };
        CheckError::from(error).brief(&kind, Duration::from_secs(2))
    }

    #[test]
    fn a_bad_answer_is_told_beside_the_good_ones() {
        let any = || 200..=399;
        assert_eq!(told(any(), Flaw::Status(500)), "status 500, not 200-399");
        assert_eq!(told(204..=204, Flaw::Status(200)), "status 200, not 204");
        assert_eq!(told(any(), Flaw::Refused), "refused");
        let late = |received| told(any(), Flaw::Timeout { received });
        assert_eq!(late(0), "no answer within 2 s");
        assert_eq!(late(7), "no whole answer within 2 s, 7 bytes of it");
        let text = told(any(), Flaw::Text);
        assert_eq!(text, "the text isn't in the body's first 16 KiB");
    }

    #[test]
    fn a_failure_to_ask_is_told_without_the_address() {
        let connect = |tried| {
            let error = CheckError::from(ProbeError::Connect { tried });
            error.brief(&ProbeKind::Tcp, Duration::from_secs(3))
        };
        assert_eq!(connect(Vec::new()), "its name has no address");
        let late = CheckError::Late.brief(&ProbeKind::Tcp, Duration::from_secs(3));
        assert_eq!(late, "its name wasn't looked up within 3 s");
        let socket = CheckError::from(ProbeError::Socket {
            asked: "UDP".to_owned(),
            address: ([192, 0, 2, 1], 53).into(),
            source: std::io::ErrorKind::NetworkUnreachable.into(),
        });
        let told = socket.brief(&ProbeKind::Tcp, Duration::from_secs(3));
        assert_eq!(told, "network unreachable");
    }
}
