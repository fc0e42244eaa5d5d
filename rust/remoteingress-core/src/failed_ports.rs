//! Ports that failed to open, as a log names them: consecutive ones of a cause together, and only when they are news.

use remoteingress_proto::control::{PortFailure, PortState, PortStatus};
use remoteingress_proto::wire::header::Protocol;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;

/// Lines for one change; ports beyond that are counted in a last one.
const MAX_LINES: usize = 16;

/// Consecutive ports of a protocol that failed for the same cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedPorts {
    /// Protocol of the ports.
    pub protocol: Protocol,
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
    /// Only where the ports are there on several addresses: the one of these.
    pub address: Option<IpAddr>,
    /// Cause that they share.
    pub code: PortFailure,
    /// Reason of the first port, for people.
    pub message: String,
}

impl fmt::Display for FailedPorts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol.as_str(), self.first)?;
        if self.last > self.first {
            write!(f, "-{}", self.last)?;
        }
        if let Some(address) = self.address {
            write!(f, " on {address}")?;
        }
        Ok(())
    }
}

/// The ports of `now` that have failed and hadn't for the same cause `before`, and the number of those that had to be
/// left out.
pub fn newly_failed(before: &[PortState], now: &[PortState]) -> (Vec<FailedPorts>, usize) {
    let known: HashSet<_> = before.iter().filter_map(failure).collect();
    let mut news: Vec<_> = now
        .iter()
        .filter_map(|port| Some((failure(port)?, port)))
        .filter(|(failure, _)| !known.contains(failure))
        .collect();
    news.sort_by_key(|((is_udp, port, address, _), _)| (*is_udp, *address, *port));
    let mut lines: Vec<FailedPorts> = Vec::new();
    let mut left_out = 0;
    for ((_, number, address, code), port) in news {
        let continues = lines.last_mut().filter(|line| {
            (line.protocol, line.address) == (port.protocol, address)
                && line.code == code
                && line.last.checked_add(1) == Some(number)
        });
        if let Some(line) = continues {
            line.last = number;
        } else if lines.len() < MAX_LINES {
            let PortStatus::Failed { message, .. } = &port.status else {
                continue;
            };
            lines.push(FailedPorts {
                protocol: port.protocol,
                first: number,
                last: number,
                address,
                code,
                message: message.to_string(),
            });
        } else {
            left_out += 1;
        }
    }
    (lines, left_out)
}

fn failure(port: &PortState) -> Option<(bool, u16, Option<IpAddr>, PortFailure)> {
    match port.status {
        PortStatus::Failed { code, .. } => {
            let is_udp = port.protocol == Protocol::Udp;
            Some((is_udp, port.port, port.address(), code))
        }
        PortStatus::Bound | PortStatus::Draining => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(protocol: Protocol, port: u16, code: PortFailure) -> PortState {
        PortState {
            protocol,
            port,
            address: None,
            status: PortStatus::Failed {
                code,
                message: format!("of {port}").into(),
            },
        }
    }

    fn bound(port: u16) -> PortState {
        PortState {
            protocol: Protocol::Tcp,
            port,
            address: None,
            status: PortStatus::Bound,
        }
    }

    fn lines(before: &[PortState], now: &[PortState]) -> Vec<String> {
        let (lines, _) = newly_failed(before, now);
        let line = |line: &FailedPorts| format!("{line} {} {}", line.code.as_str(), line.message);
        lines.iter().map(line).collect()
    }

    #[test]
    fn consecutive_ports_of_a_cause_are_one_line() {
        use PortFailure::{AddressInUse, PermissionDenied};
        use Protocol::{Tcp, Udp};
        let now = [
            failed(Udp, 82, AddressInUse),
            failed(Tcp, 81, AddressInUse),
            failed(Tcp, 80, AddressInUse),
            failed(Tcp, 82, PermissionDenied),
            failed(Tcp, 84, PermissionDenied),
            bound(83),
        ];
        let expected = [
            "tcp 80-81 addressInUse of 80",
            "tcp 82 permissionDenied of 82",
            "tcp 84 permissionDenied of 84",
            "udp 82 addressInUse of 82",
        ];
        assert_eq!(lines(&[], &now), expected);
    }

    #[test]
    fn ports_on_several_addresses_have_lines_of_their_own() {
        let on = |address: &str, port| PortState {
            address: address.parse().ok().map(Box::new),
            ..failed(Protocol::Tcp, port, PortFailure::AddressInUse)
        };
        let first = [on("192.0.2.1", 443), on("192.0.2.2", 444)];
        let expected = [
            "tcp 443 on 192.0.2.1 addressInUse of 443",
            "tcp 444 on 192.0.2.2 addressInUse of 444",
        ];
        assert_eq!(lines(&[], &first), expected);
        let more = [
            on("192.0.2.1", 443),
            on("192.0.2.2", 443),
            on("192.0.2.2", 444),
        ];
        let expected = ["tcp 443 on 192.0.2.2 addressInUse of 443"];
        assert_eq!(lines(&first, &more), expected);
    }

    #[test]
    fn a_port_is_news_once_for_each_cause() {
        use PortFailure::{AddressInUse, PermissionDenied};
        let first = [failed(Protocol::Tcp, 80, AddressInUse)];
        assert_eq!(lines(&first, &first), Vec::<String>::new());
        let other = [failed(Protocol::Tcp, 80, PermissionDenied)];
        assert_eq!(lines(&first, &other), ["tcp 80 permissionDenied of 80"]);
        assert_eq!(lines(&[bound(80)], &first), ["tcp 80 addressInUse of 80"]);
    }

    #[test]
    fn the_last_ports_and_many_gaps_are_bounded() {
        let every_other = (1..=u16::MAX).step_by(2);
        let now: Vec<_> = every_other
            .map(|port| failed(Protocol::Tcp, port, PortFailure::AddressInUse))
            .collect();
        let (lines, left_out) = newly_failed(&[], &now);
        assert_eq!((lines.len(), left_out), (MAX_LINES, 32_768 - MAX_LINES));
        let all: Vec<_> = (65_000..=u16::MAX)
            .map(|port| failed(Protocol::Tcp, port, PortFailure::AddressInUse))
            .collect();
        let (lines, _) = newly_failed(&[], &all);
        assert_eq!(lines.len(), 1);
        assert_eq!(lines[0].to_string(), "tcp 65000-65535");
    }
}
