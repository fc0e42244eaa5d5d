//! Conclusions about this machine: its clock, limits, files and tunnel port.

use remoteingress_config::civil_date::civil_date;
use remoteingress_config::doctor::{Check, CheckName};
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_config::{AllowedPorts, EdgeLimits, HubLimits};

/// A clock before this time, in seconds since 1970, is wrong: this program is younger (1 January 2026).
const EARLIEST: u64 = 1_767_225_600;
/// A clock after this one is wrong, too: 1 January 2100.
const LATEST: u64 = 4_102_444_800;
/// Clocks of file servers may be ahead by this much, in seconds.
const SKEW: u64 = 60;
/// A process with fewer descriptors serves hardly anybody.
const FEW_DESCRIPTORS: u64 = 4_096;
/// Descriptors for everything but streams, at most.
const SPARE_DESCRIPTORS: u64 = 1_024;
const SECONDS_PER_DAY: u64 = 86_400;

/// `now` and the change of the youngest file are in seconds since 1970; `by_date` tells that a certificate's dates are
/// verified.
pub fn clock(now: u64, youngest: Option<(&str, u64)>, by_date: bool) -> Check {
    let seen = format!("this machine's clock says {}", date(now));
    let advice = "set the clock, for instance by NTP (timedatectl set-ntp true)";
    let name = CheckName::Clock;
    if !(EARLIEST..LATEST).contains(&now) {
        return if by_date {
            Check::failure(name, seen, advice)
        } else {
            Check::warning(name, seen, advice)
        };
    }
    match youngest {
        Some((file, changed)) if changed > now.saturating_add(SKEW) => {
            let changed = date(changed);
            let seen = format!("{seen}, but {file} was changed later, at {changed}");
            Check::warning(name, seen, advice)
        }
        _ => Check::ok(name, seen),
    }
}

/// For people, as `2026-11-29 08:00 UTC`.
fn date(seconds: u64) -> String {
    let (days, rest) = (seconds / SECONDS_PER_DAY, seconds % SECONDS_PER_DAY);
    let (year, month, day) = civil_date(days);
    let (hour, minute) = (rest / 3_600, rest % 3_600 / 60);
    format!("{year}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

/// The descriptors that the process may have, against the clients that an edge lets in.
pub fn edge_descriptors(limit: u64, limits: &EdgeLimits) -> Check {
    let clients = limits.max_connections(limit);
    let count = clients.get().map_or(0, u64::from);
    let promised = limits.configured_max_connections.is_some();
    let for_clients = format!("{limit} descriptors, for at most {count} clients at a time");
    descriptors(
        limit,
        for_clients,
        promised.then_some(count),
        "limits.maxConnections",
    )
}

/// The same against the streams that a hub lets in.
pub fn hub_descriptors(limit: u64, limits: &HubLimits) -> Check {
    let streams = limits.max_streams.get().map_or(0, u64::from);
    // The default is a bound and no promise.
    let promised = limits.max_streams != HubLimits::default().max_streams;
    let seen = format!("{limit} descriptors; each stream and each UDP flow takes one");
    descriptors(
        limit,
        seen,
        promised.then_some(streams),
        "limits.maxStreams",
    )
}

fn descriptors(limit: u64, seen: String, promised: Option<u64>, field: &str) -> Check {
    let name = CheckName::Descriptors;
    let spare = SPARE_DESCRIPTORS.min(limit / 5);
    match promised {
        Some(count) if count.saturating_add(spare) > limit => {
            let enough = count.saturating_add(SPARE_DESCRIPTORS);
            let advice = format!(
                "raise the hard limit to {enough} (LimitNOFILE, ulimit -Hn), or lower {field} from {count}"
            );
            Check::warning(name, seen, advice)
        }
        _ if limit < FEW_DESCRIPTORS => {
            let advice = "raise the hard limit (LimitNOFILE=1048576, ulimit -Hn)";
            Check::warning(name, seen, advice)
        }
        _ => Check::ok(name, seen),
    }
}

/// Bytes that the kernel was asked for and those that it gave, of a UDP socket.
pub fn socket_buffers(wanted: usize, receive: usize, send: usize) -> Check {
    let name = CheckName::SocketBuffers;
    let kib = |bytes: usize| bytes / 1_024;
    let (got, sending, asked) = (kib(receive), kib(send), kib(wanted));
    let seen = format!("a UDP socket gets {got} KiB to receive and {sending} KiB to send");
    if receive < wanted {
        let advice = format!(
            "set net.core.rmem_max and net.core.wmem_max to at least {wanted}, so that bursts of QUIC and UDP of up to {asked} KiB aren't lost"
        );
        return Check::warning(name, seen, advice);
    }
    Check::ok(name, seen)
}

/// `first_free` is the lowest port that needs no capability, and `is_capable` tells if this process has it.
pub fn low_ports(first_free: u16, is_capable: bool, allowed: &AllowedPorts) -> Check {
    let name = CheckName::LowPorts;
    let mut low = 1..first_free;
    if is_capable || first_free <= 1 {
        return Check::ok(name, "this process may open every port");
    }
    if !low.any(|port| allowed.tcp.contains(port) || allowed.udp.contains(port)) {
        let seen = format!("allowedPorts has no port below {first_free}");
        return Check::ok(name, seen);
    }
    Check::warning(
        name,
        format!("this process may not open ports below {first_free}"),
        "give it CAP_NET_BIND_SERVICE (AmbientCapabilities), lower net.ipv4.ip_unprivileged_port_start, or leave those ports out of allowedPorts",
    )
}

/// The mode of a file that holds a secret; `is_of_own_group` if its group is one of this process, which may read it then.
pub fn file_mode(path: &str, mode: u32, is_of_own_group: bool) -> Check {
    let (name, mode) = (CheckName::FileMode, mode & 0o777);
    let seen = format!("{path} holds a secret and has mode {mode:04o}");
    let advice = format!("let only its owner read and write it: chmod 600 {path}");
    if mode & 0o002 != 0 {
        Check::failure(name, format!("{seen}: everybody can write it"), advice)
    } else if mode & 0o004 != 0 {
        Check::warning(name, format!("{seen}: everybody can read it"), advice)
    } else if mode & 0o020 != 0 || (mode & 0o040 != 0 && !is_of_own_group) {
        let seen = format!("{seen}: its group can read or write it");
        Check::warning(name, seen, advice)
    } else {
        Check::ok(name, seen)
    }
}

/// Who answers at a tunnel port that can't be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A hub or an edge with the key of this configuration.
    Own,
    /// A hub or an edge; this configuration's key lasts no restart, so it may be this one.
    MaybeOwn,
    /// A hub or an edge with another key.
    Other,
    /// Something else, or nothing that answers.
    Unknown,
}

/// The tunnel port was opened for a moment, or not.
pub fn tunnel_port(port: u16, bound: Result<(), &CodedError>, holder: Holder, own: &str) -> Check {
    let name = CheckName::TunnelPort;
    let Err(error) = bound else {
        let seen = if port == 0 {
            "any free port will do".to_owned()
        } else {
            format!("port {port} is free for TCP and UDP")
        };
        return Check::ok(name, seen);
    };
    let stop = "stop one of them, or choose another port";
    if error.code != ErrorCode::AddressInUse {
        let advice = "see the message, and the address and rights of this process";
        return Check::failure(name, error.to_string(), advice);
    }
    match holder {
        Holder::Own => {
            let seen = format!("port {port} is used by this {own}, which runs already");
            Check::ok(name, seen)
        }
        Holder::MaybeOwn => Check::warning(
            name,
            format!(
                "port {port} is used by a remoteingress process, probably this {own}, which runs already"
            ),
            format!("a second one can't start beside it: {stop}"),
        ),
        Holder::Other => {
            let seen = format!("port {port} is used by a remoteingress process with another key");
            Check::failure(name, seen, stop)
        }
        Holder::Unknown => Check::failure(
            name,
            format!("port {port} is used by another program"),
            format!("{stop}; ss -lntup shows the program"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remoteingress_config::Limit;
    use remoteingress_config::doctor::CheckState::{self, Failure, Ok, Warning};

    const NOW: u64 = 1_795_939_200;

    fn says(check: &Check, state: CheckState, text: &str) {
        assert_eq!(check.state, state, "{check:?}");
        assert_eq!(check.advice.is_none(), state == Ok, "{check:?}");
        let said = format!(
            "{} {}",
            check.seen,
            check.advice.as_deref().unwrap_or_default()
        );
        assert!(said.contains(text), "{check:?}");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_399, "2000-02-28 23:59 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (EARLIEST, "2026-01-01 00:00 UTC"),
            (LATEST - 1, "2099-12-31 23:59 UTC"),
            (NOW, "2026-11-29 08:00 UTC"),
        ] {
            assert_eq!(date(seconds), shown);
        }
    }

    #[test]
    fn a_clock_is_right_between_two_years_and_after_every_file() {
        says(&clock(NOW, None, true), Ok, "2026-11-29");
        says(&clock(NOW, Some(("/a", NOW + SKEW)), true), Ok, "2026");
        let late = clock(NOW, Some(("/a", NOW + SKEW + 1)), true);
        says(&late, Warning, "/a was changed later");
        for wrong in [0, EARLIEST - 1, LATEST] {
            says(&clock(wrong, None, false), Warning, "NTP");
            says(&clock(wrong, None, true), Failure, "NTP");
        }
    }

    #[test]
    fn descriptors_must_do_for_what_was_promised() {
        let (default, mut few) = (EdgeLimits::default(), EdgeLimits::default());
        says(&edge_descriptors(1 << 20, &default), Ok, "65536 clients");
        says(&edge_descriptors(4_096, &default), Ok, "1638 clients");
        says(&edge_descriptors(1_024, &default), Warning, "LimitNOFILE");
        few.configured_max_connections = Some(Limit::new(10_000));
        says(&edge_descriptors(11_024, &few), Ok, "10000 clients");
        says(&edge_descriptors(11_023, &few), Warning, "11024");
        let mut hub = HubLimits::default();
        says(&hub_descriptors(65_536, &hub), Ok, "65536 descriptors");
        says(&hub_descriptors(4_095, &hub), Warning, "LimitNOFILE");
        hub.max_streams = Limit::new(100_000);
        says(&hub_descriptors(65_536, &hub), Warning, "limits.maxStreams");
    }

    #[test]
    fn buffers_are_those_that_receive() {
        says(&socket_buffers(2 << 20, 2 << 20, 1 << 10), Ok, "2048 KiB");
        let small = socket_buffers(2 << 20, 208 << 10, 208 << 10);
        says(&small, Warning, "net.core.rmem_max");
        says(&small, Warning, "208 KiB to receive");
    }

    #[test]
    fn low_ports_matter_where_they_may_be_asked_for() {
        let every = AllowedPorts::every_port();
        let check = |first, is_capable| low_ports(first, is_capable, &every);
        says(&check(1_024, true), Ok, "every port");
        says(&check(0, false), Ok, "every port");
        says(&check(1_024, false), Warning, "CAP_NET_BIND_SERVICE");
        let none = AllowedPorts::default();
        says(&low_ports(1_024, false, &none), Ok, "no port below 1024");
    }

    #[test]
    fn a_secret_is_its_owners() {
        for (mode, state, text) in [
            (0o100_600, Ok, "0600"),
            (0o400, Ok, "0400"),
            (0o640, Warning, "its group"),
            (0o644, Warning, "everybody can read"),
            (0o666, Failure, "everybody can write"),
        ] {
            says(&file_mode("/t", mode, false), state, text);
        }
        says(&file_mode("/t", 0o640, true), Ok, "0640");
        says(&file_mode("/t", 0o660, true), Warning, "its group");
        says(&file_mode("/t", 0o644, true), Warning, "everybody");
    }

    #[test]
    fn a_port_in_use_is_fine_if_this_program_has_it() {
        let used = CodedError::new(ErrorCode::AddressInUse, "in use");
        let check = |holder| tunnel_port(8443, Err(&used), holder, "hub");
        says(
            &tunnel_port(8443, Result::Ok(()), Holder::Unknown, "hub"),
            Ok,
            "is free",
        );
        says(&check(Holder::Own), Ok, "this hub, which runs already");
        says(&check(Holder::MaybeOwn), Warning, "probably this hub");
        says(&check(Holder::Other), Failure, "another key");
        says(&check(Holder::Unknown), Failure, "another program");
        let denied = CodedError::new(ErrorCode::PermissionDenied, "denied");
        let check = tunnel_port(443, Err(&denied), Holder::Own, "hub");
        says(&check, Failure, "denied");
    }
}
