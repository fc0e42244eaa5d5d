//! What an earlier run of the hub knew, until the targets that it is about are there.

use crate::affinity::{BindingKey, SavedBinding};
use crate::member::{Checked, Member, SavedMember};
use crate::time::Moment;
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::TargetAdmin;
use std::collections::HashMap;
use std::time::Duration;

/// Targets of files and of DNS are there by then; what isn't used is forgotten.
const LASTS: Duration = Duration::from_secs(300);

/// What an earlier run knew of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// What an operator said.
    pub said: TargetAdmin,
    /// The state of its member.
    pub member: SavedMember,
    /// Time since that was so.
    pub age: Duration,
}

/// What a later run is to know of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptTarget {
    /// Its pool.
    pub pool: Name,
    /// Its id.
    pub id: Name,
    /// Its number, by which bindings know it.
    pub number: u32,
    /// What an operator said.
    pub said: TargetAdmin,
    /// Its pool is checked.
    pub is_checked: bool,
    /// The state of its member.
    pub member: SavedMember,
}

/// What an earlier run knew, by pool and id.
#[derive(Debug, Default)]
pub(super) struct Memory {
    targets: HashMap<(Name, Name), Remembered>,
    bindings: HashMap<(Name, Name), Vec<(BindingKey, Duration)>>,
    since: Moment,
}

impl Memory {
    pub(super) fn fill(
        &mut self,
        targets: impl IntoIterator<Item = ((Name, Name), Remembered)>,
        bindings: impl IntoIterator<Item = ((Name, Name), (BindingKey, Duration))>,
        now: Moment,
    ) {
        self.since = now;
        self.targets.extend(targets);
        for (key, binding) in bindings {
            self.bindings.entry(key).or_default().push(binding);
        }
    }

    /// What operators said. It isn't forgotten.
    pub(super) fn said(&self) -> Vec<((Name, Name), TargetAdmin)> {
        let said = self.targets.iter();
        said.filter(|(_, known)| known.said != TargetAdmin::Active)
            .map(|(key, known)| (key.clone(), known.said))
            .collect()
    }

    /// Gives a target the state that it had, and tells of its bindings, once.
    pub(super) fn recall(
        &mut self,
        key: &(Name, Name),
        member: &Member,
        is_checked: bool,
        now: Moment,
    ) -> Vec<SavedBinding> {
        let passed = now.since(self.since);
        if let Some(mut known) = self.targets.remove(key) {
            if !is_checked {
                // Nobody would find that it is up again.
                known.member.health.checked = Checked::Up;
            }
            let age = known.age.saturating_add(passed);
            // A member that was there already has seen more since.
            if member.total() == 0 {
                member.restore(&known.member, age, now);
            }
        }
        let bindings = self.bindings.remove(key).unwrap_or_default();
        let binding = |(key, age): (BindingKey, Duration)| SavedBinding {
            key,
            target: member.number(),
            age: age.saturating_add(passed),
        };
        bindings.into_iter().map(binding).collect()
    }

    /// Forgets what wasn't asked for in time.
    pub(super) fn fade(&mut self, now: Moment) {
        if now.since(self.since) >= LASTS {
            self.targets = HashMap::new();
            self.bindings = HashMap::new();
        }
    }
}
