//! Options of the process: its limits, what others may read of it, and its end with its parent.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{Access, StatVfsMountFlags, access, fstatvfs};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, Signal, getegid, geteuid, getgroups, getrlimit,
    set_dumpable_behavior, set_parent_process_death_signal, setrlimit,
};

use crate::c_library;

/// The signal that tells of the parent's death. It may come more than once, so it isn't SIGTERM, whose second one cuts.
pub(super) const PARENT_DIED: Signal = Signal::USR2;

/// Raises this process's soft limit of open descriptors to the hard one and returns it; [`u64::MAX`] is no limit.
///
/// # Errors
/// A kernel whose own ceiling (`fs.nr_open`) is below the hard limit answers `PermissionDenied`; the limit stays as it was.
pub fn raise_descriptor_limit() -> io::Result<u64> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Ports that the kernel gives to sockets that ask for any, of one protocol and both address families together.
pub fn ephemeral_ports() -> usize {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}"));
    let range = read("ip_local_port_range").unwrap_or_default();
    let reserved = read("ip_local_reserved_ports").unwrap_or_default();
    count_ephemeral(&range, &reserved).unwrap_or(EPHEMERAL_PORTS)
}

/// Linux's own default: 32768 to 60999.
const EPHEMERAL_PORTS: usize = 28_232;

/// `range` is `first last`, and `reserved` a list of ports and ranges that are left out.
fn count_ephemeral(range: &str, reserved: &str) -> Option<usize> {
    let port = |text: &str| text.trim().parse::<u16>().ok();
    let (first, last) = range.trim().split_once(char::is_whitespace)?;
    let (first, last) = (port(first)?, port(last)?);
    let reserved: Vec<(u16, u16)> = reserved
        .trim()
        .split(',')
        .filter_map(|part| {
            let (low, high) = part.split_once('-').unwrap_or((part, part));
            Some((port(low)?, port(high)?))
        })
        .collect();
    let is_free = |port: &u16| {
        !reserved
            .iter()
            .any(|(low, high)| (low..=high).contains(&port))
    };
    Some((first..=last).filter(is_free).count())
}

/// Keeps secrets out of core dumps, and keeps other processes of the same user from reading this one's memory.
///
/// # Errors
/// Fails only where a sandbox forbids the calls (seccomp).
pub fn protect_memory() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Gives free pages of the heap back to the system: glibc by itself gives back only what lies at its end. With this it
/// returns more than jemalloc and mimalloc do, at the same speed, so neither is worth its build (D9 has the figures).
/// Other C libraries have no such call: there it does nothing.
pub fn return_memory() {
    c_library::trim_heap();
}

/// Asks the kernel for SIGUSR2 when the thread that started this process ends; [`Signals`](crate::signals::Signals) takes
/// that as a wish to drain. A parent that has ended before this call is not noticed.
///
/// # Errors
/// Fails only where a sandbox forbids the call (seccomp).
pub fn end_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(PARENT_DIED))?)
}

/// The user whose rights this process has.
pub fn effective_user_id() -> u32 {
    geteuid().as_raw()
}

/// The groups whose rights this process has.
///
/// # Errors
/// Fails only where a sandbox forbids the call (seccomp).
pub fn effective_group_ids() -> io::Result<Vec<u32>> {
    let groups = getgroups()?.into_iter().chain([getegid()]);
    Ok(groups.map(|group| group.as_raw()).collect())
}

/// True if this process could make files in this directory.
pub fn may_write(directory: &Path) -> bool {
    access(directory, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

/// True if this process could write to this file.
pub fn may_append(file: &Path) -> bool {
    access(file, Access::WRITE_OK).is_ok()
}

/// The lowest port that needs no capability.
pub fn first_free_port() -> u16 {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first = text.ok().and_then(|text| text.trim().parse().ok());
    first.unwrap_or(FIRST_FREE_PORT)
}

/// Linux's own default.
const FIRST_FREE_PORT: u16 = 1_024;

/// True if this process has CAP_NET_BIND_SERVICE, which lets it open every port.
pub fn may_open_low_ports() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_capability(&status, CAP_NET_BIND_SERVICE)
}

/// Its number in capability.h.
const CAP_NET_BIND_SERVICE: u32 = 10;

/// `status` is that of /proc; the mask of effective capabilities is in hexadecimal digits.
fn has_capability(status: &str, number: u32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> number & 1 == 1)
}

/// True where the file system of this file is mounted so that nobody can write.
///
/// # Errors
/// The file is of a kind, or on a file system, that can't say so.
pub fn is_mounted_read_only(file: impl AsFd) -> io::Result<bool> {
    Ok(fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, parent_process_death_signal};

    use super::*;

    #[test]
    fn ephemeral_ports_are_those_of_the_range_that_arent_reserved() {
        assert_eq!(count_ephemeral("32768\t60999\n", "\n"), Some(28_232));
        assert_eq!(count_ephemeral("40000 40099", ""), Some(100));
        let reserved = "1-10,40000-40049,40099,50000\n";
        assert_eq!(count_ephemeral("40000 40099", reserved), Some(49));
        assert_eq!(count_ephemeral("", ""), None);
        assert!(ephemeral_ports() > 0);
    }

    #[test]
    fn capabilities_are_bits_of_a_mask() {
        let bind = CAP_NET_BIND_SERVICE;
        assert!(has_capability(
            "Name:\tx\nCapEff:\t0000000000000400\n",
            bind
        ));
        assert!(has_capability("CapEff:\t000001ffffffffff\n", bind));
        assert!(!has_capability(
            "CapPrm:\t400\nCapEff:\t0000000000000200\n",
            bind
        ));
        assert!(!has_capability("", bind));
        assert!(first_free_port() <= FIRST_FREE_PORT);
    }

    #[test]
    fn files_are_made_where_that_is_permitted() {
        assert!(may_write(&std::env::temp_dir()));
        assert!(!may_write(Path::new("/nonexistent")));
    }

    #[test]
    fn descriptor_limit_is_the_hard_one() {
        let raised = raise_descriptor_limit().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert!(raised > 0);
        assert_eq!(limit.current, limit.maximum);
        assert_eq!(limit.current.unwrap_or(u64::MAX), raised);
    }

    #[test]
    fn memory_is_neither_dumped_nor_read_by_others() {
        protect_memory().unwrap();
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
        let limit = getrlimit(Resource::Core);
        assert_eq!((limit.current, limit.maximum), (Some(0), Some(0)));
    }

    #[test]
    fn the_kernel_tells_of_the_parents_end() {
        end_with_parent().unwrap();
        assert_eq!(parent_process_death_signal().unwrap(), Some(PARENT_DIED));
        // The tests must not end with whatever started them.
        set_parent_process_death_signal(None).unwrap();
    }

    #[test]
    fn files_of_ours_belong_to_the_effective_user() {
        use std::os::unix::fs::MetadataExt;
        let own = std::fs::metadata("/proc/self/stat").unwrap();
        // Those of a process that can't be dumped belong to root, and another test makes this one such.
        assert!([effective_user_id(), 0].contains(&own.uid()));
    }
}
