//! The kernel's side of a process: signals, limits, descriptors, memory. The only unsafe code of the tests.

use std::fs;

/// Sends `signal` to one process.
#[expect(unsafe_code, reason = "the standard library sends no signals")]
pub(crate) fn signal(pid: u32, signal: i32) {
    let pid = libc::pid_t::try_from(pid).unwrap();
    // SAFETY: kill takes two integers and touches no memory of ours.
    let _ = unsafe { libc::kill(pid, signal) };
}

/// Sets the soft limit of open descriptors of a running process and gives the old one.
#[expect(unsafe_code, reason = "the standard library sets no limits")]
pub(crate) fn limit_descriptors(pid: u32, soft: u64) -> u64 {
    let pid = libc::pid_t::try_from(pid).unwrap();
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both pointers are to live rlimit structures or null.
    let read = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut old) };
    assert_eq!(read, 0, "failed to read the descriptor limit");
    let new = libc::rlimit {
        rlim_cur: soft,
        rlim_max: old.rlim_max,
    };
    // SAFETY: as above.
    let set = unsafe {
        libc::prlimit(
            pid,
            libc::RLIMIT_NOFILE,
            &raw const new,
            std::ptr::null_mut(),
        )
    };
    assert_eq!(set, 0, "failed to set the descriptor limit");
    old.rlim_cur
}

/// Raises our own soft limit of open descriptors to the hard one, and gives it.
pub(crate) fn raise_descriptors() -> u64 {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let hard = line.and_then(|line| line.split_whitespace().nth(4));
    let hard = hard.and_then(|hard| hard.parse().ok()).unwrap();
    limit_descriptors(std::process::id(), hard);
    hard
}

/// Open descriptors of a process; `None` where the kernel doesn't show them (the binary isn't dumpable).
pub(crate) fn descriptors(pid: u32) -> Option<usize> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()
        .map(Iterator::count)
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmRSS:")
}

/// The most of it that the process has had so far.
pub(crate) fn most_resident_bytes(pid: u32) -> u64 {
    memory_bytes(pid, "VmHWM:")
}

fn memory_bytes(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
}

/// Command line and environment of a process, as far as the kernel shows them.
pub(crate) fn command_line_and_environment(pid: u32) -> Vec<u8> {
    let mut text = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    text.extend(fs::read(format!("/proc/{pid}/environ")).unwrap_or_default());
    text
}

/// Moves the calling thread into another network namespace: sockets and processes that it makes from now on are there.
#[expect(unsafe_code, reason = "the standard library knows no namespaces")]
pub(crate) fn enter_network(namespace: &fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: setns takes a descriptor, open while `namespace` lives, and a flag.
    let entered = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(entered, 0, "failed to enter a network namespace");
}

/// Sets the don't-fragment bit of what an IPv4 socket sends.
#[expect(unsafe_code, reason = "the standard library has no such option")]
pub(crate) fn forbid_fragments(socket: &std::net::UdpSocket) {
    use std::os::fd::AsRawFd;
    let value = libc::IP_PMTUDISC_DO;
    let length = libc::socklen_t::try_from(size_of_val(&value)).unwrap();
    // SAFETY: the pointer is to a live integer of the length that is told.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            (&raw const value).cast(),
            length,
        )
    };
    assert_eq!(set, 0, "failed to forbid fragments");
}
