//! Memory that this process may have: the machine's, or that of a control group around it where that is less.

use std::fs;
use std::path::{Path, PathBuf};

/// Groups around a process that are asked for their limit.
const MAX_DEPTH: usize = 64;

/// Bytes that this process may have at most; none where the system doesn't say.
pub fn available() -> Option<u64> {
    available_under(Path::new("/"))
}

fn available_under(root: &Path) -> Option<u64> {
    let machine = fs::read_to_string(root.join("proc/meminfo"))
        .ok()
        .and_then(|text| total(&text));
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let limits = limit_files(&groups).into_iter().filter_map(|file| {
        // Of a file that isn't there the group has no limit; one without a limit says "max".
        let text = fs::read_to_string(root.join(file)).ok()?;
        text.trim().parse().ok()
    });
    machine.into_iter().chain(limits).min()
}

/// `MemTotal` of /proc/meminfo, in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1_024)
}

/// The files that may hold a limit, from the lines of /proc/self/cgroup: of the process's own group and of each around
/// it, of version 2 (`0::/path`) and of version 1 (`5:memory:/path`). In a container the path may be the host's, while
/// the group's own files are at the top.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let (top, name) = if controllers.is_empty() {
            ("sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        // A group outside of what this process may see is shown with dots.
        let path = if path.contains("..") { "" } else { path };
        let path = Path::new(path.trim_start_matches('/'));
        let around = path.ancestors().take(MAX_DEPTH);
        files.extend(around.map(|group| Path::new(top).join(group).join(name)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Removed at its end.
    struct Root(PathBuf);

    impl Root {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let path = std::env::temp_dir().join(format!("memory-{name}-{}", std::process::id()));
            for (file, text) in files {
                let file = path.join(file);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, text).unwrap();
            }
            Self(path)
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const MACHINE: (&str, &str) = ("proc/meminfo", "MemTotal:        8000 kB\nMemFree: 1 kB\n");

    #[test]
    fn the_smallest_limit_around_the_process_counts() {
        let root = Root::new(
            "v2",
            &[
                MACHINE,
                ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                ("sys/fs/cgroup/a.slice/memory.max", "4096000\n"),
                ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
            ],
        );
        assert_eq!(available_under(&root.0), Some(4_096_000));
    }

    #[test]
    fn version_1_and_containers_are_understood() {
        let root = Root::new(
            "v1",
            &[
                MACHINE,
                (
                    "proc/self/cgroup",
                    "5:cpu,memory:/docker/0123\n0::/docker/0123\n",
                ),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1024000\n"),
            ],
        );
        assert_eq!(available_under(&root.0), Some(1_024_000));
        let root = Root::new(
            "namespace",
            &[
                MACHINE,
                ("proc/self/cgroup", "0::/../outside\n"),
                ("sys/fs/cgroup/memory.max", "2048000\n"),
                ("sys/fs/outside/memory.max", "1\n"),
            ],
        );
        assert_eq!(available_under(&root.0), Some(2_048_000));
    }

    #[test]
    fn a_group_without_a_limit_has_the_machines_memory() {
        let unlimited = "9223372036854771712\n";
        let root = Root::new(
            "unlimited",
            &[
                MACHINE,
                ("proc/self/cgroup", "5:memory:/x\n0::/x\nnonsense\n"),
                ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", unlimited),
                ("sys/fs/cgroup/x/memory.max", "max\n"),
            ],
        );
        assert_eq!(available_under(&root.0), Some(8_192_000));
        assert_eq!(available_under(Path::new("/nonexistent")), None);
        assert!(available().is_some_and(|bytes| bytes > 0));
    }
}
