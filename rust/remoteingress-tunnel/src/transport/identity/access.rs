//! Who may write or read the hub's key: the rule alone, without a file.
//!
//! Volumes of orchestrators belong to root or to a group that the process is in (Kubernetes' `fsGroup`), and gain
//! rights for that group at each mount. Whoever is root, or in such a group, can reach the process's files anyway.

/// All that the kernel says of a file or directory in this matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    /// Its user.
    pub(super) owner: u32,
    /// Its group.
    pub(super) group: u32,
    /// Its permissions.
    pub(super) mode: u32,
    /// It is on a file system where nobody can write.
    pub(super) read_only: bool,
}

/// As whom this process runs.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Its user.
    pub(super) user: u32,
    /// All of its groups.
    pub(super) groups: Vec<u32>,
}

const GROUP_READ: u32 = 0o040;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;

impl Rights {
    /// Why others than root, this process's user and its groups could replace it, if they could.
    pub(super) fn fault(&self, process: &Process) -> Option<String> {
        let mode = self.mode & 0o777;
        if ![process.user, 0].contains(&self.owner) {
            return Some(format!(
                "it belongs to user {}, neither to this process's user {} nor to root (chown it)",
                self.owner, process.user
            ));
        }
        if self.read_only {
            return None;
        }
        if mode & OTHERS_WRITE != 0 {
            return Some(format!(
                "its mode is {mode:03o}, which lets everybody write it (chmod o-w it)"
            ));
        }
        if mode & GROUP_WRITE != 0 && !process.groups.contains(&self.group) {
            return Some(format!(
                "its mode is {mode:03o}, which lets group {} write it, and this process isn't in that group (chmod g-w it)",
                self.group
            ));
        }
        None
    }

    /// Who could read it besides root and its owner, if anybody could.
    pub(super) fn readers(&self) -> Option<String> {
        if self.mode & OTHERS_READ != 0 {
            Some("everybody".to_owned())
        } else if self.mode & GROUP_READ != 0 {
            Some(format!("group {}", self.group))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process() -> Process {
        Process {
            user: 4711,
            groups: vec![4711, 2000],
        }
    }

    fn rights(owner: u32, group: u32, mode: u32) -> Rights {
        Rights {
            owner,
            group,
            mode,
            read_only: false,
        }
    }

    #[test]
    fn root_the_own_user_and_the_own_groups_may_write() {
        for (owner, group, mode) in [
            (4711, 4711, 0o700),
            (4711, 9, 0o755),
            (0, 0, 0o755),
            // A volume with fsGroup, as it is mounted and after its recursive chmod.
            (0, 2000, 0o2775),
            (4711, 2000, 0o2770),
            (4711, 2000, 0o660),
        ] {
            let fault = rights(owner, group, mode).fault(&process());
            assert_eq!(fault, None, "{owner}:{group} {mode:o}");
        }
    }

    #[test]
    fn nobody_else_may_write() {
        for (owner, group, mode, why) in [
            (1000, 2000, 0o700, "user 1000"),
            (4711, 2000, 0o777, "everybody"),
            (0, 0, 0o1777, "everybody"),
            (4711, 9, 0o770, "group 9"),
            (0, 0, 0o775, "group 0"),
        ] {
            let fault = rights(owner, group, mode).fault(&process());
            assert!(
                fault.as_ref().is_some_and(|fault| fault.contains(why)),
                "{owner}:{group} {mode:o}: {fault:?}"
            );
        }
    }

    #[test]
    fn rights_to_write_mean_nothing_where_nobody_can_but_the_owner_does() {
        // A Kubernetes secret: its directory has 1777, and is mounted read-only.
        let read_only = |owner| Rights {
            read_only: true,
            ..rights(owner, 0, 0o1777)
        };
        assert_eq!(read_only(0).fault(&process()), None);
        assert!(read_only(1000).fault(&process()).is_some());
    }

    #[test]
    fn readers_are_named() {
        assert_eq!(rights(4711, 2000, 0o600).readers(), None);
        let group = rights(4711, 2000, 0o660).readers();
        assert_eq!(group.as_deref(), Some("group 2000"));
        let everybody = rights(0, 0, 0o644).readers();
        assert_eq!(everybody.as_deref(), Some("everybody"));
    }
}
