//! Ports as a log names them: consecutive ones together.

use super::port_table::PortKey;
use std::fmt;

/// Runs for one change; ports beyond these are counted.
const MAX_RUNS: usize = 16;

/// Consecutive ports of a protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRun {
    first: PortKey,
    last: u16,
}

impl fmt::Display for PortRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PortKey { protocol, port } = self.first;
        write!(f, "{} {port}", protocol.as_str())?;
        if self.last > port {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

/// These ports in runs, and the number of ports in runs that had to be left out.
pub fn runs(mut ports: Vec<PortKey>) -> (Vec<PortRun>, usize) {
    ports.sort_unstable();
    let (mut runs, mut left_out): (Vec<PortRun>, usize) = (Vec::new(), 0);
    for key in ports {
        let continues = runs.last_mut().filter(|run| {
            run.first.protocol == key.protocol && run.last.checked_add(1) == Some(key.port)
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
        PortKey { protocol, port }
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
    fn runs_are_few() {
        let odd = (1..100).step_by(2).map(|port| key(Protocol::Tcp, port));
        let (runs, left_out) = runs(odd.collect());
        assert_eq!((runs.len(), left_out), (16, 34));
    }
}
