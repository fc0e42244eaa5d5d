//! Ports as a log names them: consecutive ones together.

use super::port_table::PortKey;
use std::fmt;

/// Runs for one change; ports beyond these are counted.
const MAX_RUNS: usize = 16;

/// Consecutive ports of a protocol and address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRun {
    first: PortKey,
    last: u16,
}

impl fmt::Display for PortRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortKey {
            protocol,
            port,
            address,
        } = self.first;
        write!(f, "{} {port}", protocol.as_str())?;
        if self.last > port {
            write!(f, "-{}", self.last)?;
        }
        if let Some(address) = address {
            write!(f, " on {address}")?;
        }
        Ok(())
    }
}

/// These ports in runs, and the number of ports in runs that had to be left out.
pub fn runs(mut ports: Vec<PortKey>) -> (Vec<PortRun>, usize) {
    ports.sort_unstable_by_key(|key| (key.protocol, key.address, key.port));
    let (mut runs, mut left_out): (Vec<PortRun>, usize) = (Vec::new(), 0);
    for key in ports {
        let continues = runs.last_mut().filter(|run| {
            (run.first.protocol, run.first.address) == (key.protocol, key.address)
                && run.last.checked_add(1) == Some(key.port)
        });
        if let Some(run) = continues {
            run.last = key.port;
        } else if runs.len() < MAX_RUNS {
            runs.push(PortRun {
                first: key,
                last: key.port,
            });
        } else {
            left_out += 1;
        }
    }
    (runs, left_out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_proto::wire::header::Protocol;

    fn key(protocol: Protocol, port: u16) -> PortKey {
        PortKey {
            protocol,
            port,
            address: None,
        }
    }

    #[test]
    fn consecutive_ports_of_a_protocol_are_a_run() {
        let mut ports = vec![key(Protocol::Udp, 3), key(Protocol::Tcp, 443)];
        ports.extend((20_000..=u16::MAX).map(|port| key(Protocol::Tcp, port)));
        ports.extend([1, 2].map(|port| key(Protocol::Tcp, port)));
        ports.push(key(Protocol::Udp, 4));
        let (runs, left_out) = runs(ports);
        let runs: Vec<_> = runs.iter().map(ToString::to_string).collect();
        let expected = ["tcp 1-2", "tcp 443", "tcp 20000-65535", "udp 3-4"];
        assert_eq!((runs, left_out), (expected.map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn ports_of_one_address_are_a_run() {
        let on = |address: &str, port| PortKey {
            address: Some(address.parse().expect("address")),
            ..key(Protocol::Tcp, port)
        };
        let ports = (80..=81).flat_map(|port| [on("192.0.2.2", port), on("192.0.2.1", port)]);
        let (runs, left_out) = runs(ports.collect());
        let runs: Vec<_> = runs.iter().map(ToString::to_string).collect();
        let expected = ["tcp 80-81 on 192.0.2.1", "tcp 80-81 on 192.0.2.2"];
        assert_eq!((runs, left_out), (expected.map(str::to_owned).to_vec(), 0));
    }

    #[test]
    fn runs_are_few() {
        let odd = (1..100).step_by(2).map(|port| key(Protocol::Tcp, port));
        let (runs, left_out) = runs(odd.collect());
        assert_eq!((runs.len(), left_out), (16, 34));
    }
}
