//! What is kept of pools over a restart of the hub, in `hub.db` of its `stateDir`: what is known of targets, which
//! clients they have, and which of them registered themselves.

use remoteingress_config::HubConfig;
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::TargetAdmin;
use remoteingress_config::registration::Registration;
use remoteingress_store::state_db::{
    LoadedTarget, SavedAdmin, SavedBinding, SavedBreaker, SavedCheck, SavedTarget, StateDb,
    StateDbError, UnixMillis,
};
use remoteingress_upstream::affinity::{self, BindingKey};
use remoteingress_upstream::breaker;
use remoteingress_upstream::latency::SavedLatency;
use remoteingress_upstream::leases::{Lease, Leases};
use remoteingress_upstream::member::{Checked, SavedHealth, SavedMember};
use remoteingress_upstream::pool_set::{KeptTarget, Remembered};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Targets that had registered themselves are there again after a restart, each for the time of one heartbeat's lease; they
/// couldn't give a sign of life meanwhile. After a longer time their addresses may be others'.
const LONGEST_AWAY: Duration = Duration::from_secs(60 * 60);

/// The file can't be used in this run.
#[derive(Clone, Copy, Debug)]
pub(in crate::hub) struct Unusable;

/// The file, if it is there. A hub that can't use it says so and goes on.
pub(in crate::hub) struct KeptState {
    db: StateDb,
    /// The reason that was told last.
    told: Option<&'static str>,
    /// Revision of the registrations that were saved; none while the file has those of an earlier run.
    registered: Option<u64>,
}

/// What an earlier run of the hub knew, by pool and target.
#[derive(Default)]
pub(super) struct Recalled {
    pub(super) targets: Vec<((Name, Name), Remembered)>,
    pub(super) bindings: Vec<((Name, Name), (BindingKey, Duration))>,
    pub(super) registrations: Vec<Registration>,
}

impl KeptState {
    /// Opens the file where pools are configured, or were, or targets have registered.
    ///
    /// # Errors
    /// It can't be used, which has been told.
    pub(in crate::hub) fn open(
        config: &HubConfig,
        has_registrations: bool,
    ) -> Result<Option<Self>, Unusable> {
        let Some(folder) = &config.state_dir else {
            return Ok(None);
        };
        let has_pools =
            !config.pools.is_empty() || config.routing_db.is_some() || has_registrations;
        if !has_pools
            && !folder
                .join(remoteingress_store::state_db::FILE_NAME)
                .exists()
        {
            return Ok(None);
        }
        Self::begin(folder).map(Some)
    }

    fn begin(folder: &Path) -> Result<Self, Unusable> {
        let opened = std::fs::create_dir_all(folder)
            .map_err(|error| StateDbError::Unwritable(error.to_string()))
            .and_then(|()| StateDb::open(folder));
        match opened {
            Ok(db) => {
                if let Some(broken) = db.broken() {
                    let (moved_to, reason) = (broken.moved_to.display(), &broken.reason);
                    tracing::error!(%moved_to, %reason, "hub.db was damaged and has been moved aside: health, manual states, bindings and registrations begin anew");
                }
                Ok(Self {
                    db,
                    told: None,
                    registered: None,
                })
            }
            Err(error) => {
                tracing::error!(folder = %folder.display(), reason = error.reason(), %error, "health, manual states, bindings and registrations don't outlive this run");
                Err(Unusable)
            }
        }
    }

    /// The seed of the clients' hashes; `random` where there was none.
    pub(super) fn seed(&mut self, random: u64) -> u64 {
        let seed = self.db.seed(random);
        seed.unwrap_or_else(|error| {
            self.tell(&error);
            random
        })
    }

    /// What an earlier run knew. `special`: the configuration lets targets be at any address.
    pub(super) fn recall(&mut self, special: bool) -> Recalled {
        let now = UnixMillis::now();
        let mut recalled = Recalled::default();
        let known = |loaded: LoadedTarget| {
            let key = named(&loaded.target.pool, &loaded.target.id)?;
            Some((key, remembered(&loaded, now)))
        };
        match self.db.load_targets() {
            Ok(targets) => recalled
                .targets
                .extend(targets.into_iter().filter_map(known)),
            Err(error) => self.tell(&error),
        }
        let loaded = self.db.load_bindings(now, |binding| {
            if let Some(key) = named(binding.pool, binding.target) {
                let client = (BindingKey::from_u64(binding.key), binding.age);
                recalled.bindings.push((key, client));
            }
        });
        if let Err(error) = loaded {
            self.tell(&error);
        }
        match self.registrations(now, special) {
            Ok(registrations) => recalled.registrations = registrations,
            Err(error) => self.tell(&error),
        }
        let (targets, clients) = (recalled.targets.len(), recalled.bindings.len());
        let registered = recalled.registrations.len();
        tracing::debug!(
            targets,
            clients,
            registered,
            "what an earlier run knew of pools was read"
        );
        recalled
    }

    fn registrations(
        &self,
        now: UnixMillis,
        special: bool,
    ) -> Result<Vec<Registration>, StateDbError> {
        let ran = self.db.saved_at()?;
        if ran.is_none_or(|ran| now.since(ran) > LONGEST_AWAY) {
            return Ok(Vec::new());
        }
        let parsed =
            |json: &String| Registration::parse(&serde_json::from_str(json).ok()?, special).ok();
        Ok(self
            .db
            .load_registrations()?
            .iter()
            .filter_map(parsed)
            .collect())
    }

    /// Saves what is known of targets, and which have registered.
    pub(super) fn save(&mut self, kept: &[KeptTarget], leases: &Mutex<Leases>) {
        let now = UnixMillis::now();
        let targets: Vec<SavedTarget> = kept.iter().map(|target| saved(target, now)).collect();
        let saved = self.db.save_targets(&targets, now);
        match saved.and_then(|_| self.save_registrations(leases)) {
            Ok(()) => self.told = None,
            Err(error) => self.tell(&error),
        }
    }

    fn save_registrations(&mut self, leases: &Mutex<Leases>) -> Result<(), StateDbError> {
        let leases = leases.lock().unwrap_or_else(PoisonError::into_inner);
        let revision = leases.revision();
        if self.registered == Some(revision) {
            return Ok(());
        }
        let json = |lease: &Lease| serde_json::to_string(&lease.registration).ok();
        let registrations: Vec<String> = leases.iter().filter_map(json).collect();
        // The disk may be slow.
        drop(leases);
        self.db
            .save_registrations(registrations.iter().map(String::as_str))?;
        self.registered = Some(revision);
        Ok(())
    }

    /// Saves all, and closes the file.
    pub(super) fn close(
        mut self,
        kept: &[KeptTarget],
        leases: &Mutex<Leases>,
        bindings: impl Iterator<Item = affinity::SavedBinding>,
    ) {
        self.save(kept, leases);
        let by_number: HashMap<u32, &KeptTarget> =
            kept.iter().map(|target| (target.number, target)).collect();
        let bindings = bindings.filter_map(|binding| {
            let target = by_number.get(&binding.target)?;
            Some(SavedBinding {
                key: binding.key.to_u64(),
                pool: target.pool.as_str(),
                target: target.id.as_str(),
                age: binding.age,
            })
        });
        let saved = self.db.save_bindings(bindings, UnixMillis::now());
        if let Err(error) = saved {
            self.tell(&error);
        }
        if let Err(error) = self.db.close() {
            tracing::warn!(%error, "hub.db wasn't closed in order; the next start does it");
        }
    }

    /// Once for each reason until a save goes well.
    fn tell(&mut self, error: &StateDbError) {
        if self.told != Some(error.reason()) {
            self.told = Some(error.reason());
            tracing::error!(reason = error.reason(), %error, "the state of pools wasn't kept");
        }
    }
}

fn named(pool: &str, target: &str) -> Option<(Name, Name)> {
    Some((Name::new(pool).ok()?, Name::new(target).ok()?))
}

fn remembered(loaded: &LoadedTarget, now: UnixMillis) -> Remembered {
    let SavedTarget {
        admin,
        checked,
        breaker,
        failures,
        latency_micros,
        ..
    } = &loaded.target;
    let said = match admin {
        SavedAdmin::Active => TargetAdmin::Active,
        SavedAdmin::Drain => TargetAdmin::Drain,
        SavedAdmin::Dead => TargetAdmin::Dead,
    };
    let is_open = breaker.is_some();
    let health = SavedHealth {
        checked: match checked {
            SavedCheck::Unknown | SavedCheck::Up => Checked::Up,
            SavedCheck::Down => Checked::Down,
        },
        failures: *failures,
        breaker: breaker::SavedBreaker {
            // From the save on, as its age is.
            open_for: breaker.map(|breaker| breaker.open_until.since(loaded.at)),
            in_a_row: if is_open { 0 } else { *failures },
            opened: breaker.map_or(0, |breaker| breaker.opened),
        },
        latency: latency_micros.map(|micros| SavedLatency {
            connect: Duration::from_micros(micros),
            age: Duration::ZERO,
        }),
    };
    Remembered {
        said,
        member: SavedMember {
            admin: said.into(),
            health,
        },
        age: now.since(loaded.at),
    }
}

fn saved(target: &KeptTarget, now: UnixMillis) -> SavedTarget {
    let health = &target.member.health;
    let is_down = health.checked == Checked::Down;
    SavedTarget {
        pool: target.pool.as_str().to_owned(),
        id: target.id.as_str().to_owned(),
        admin: match target.said {
            TargetAdmin::Active => SavedAdmin::Active,
            TargetAdmin::Drain => SavedAdmin::Drain,
            TargetAdmin::Dead => SavedAdmin::Dead,
        },
        checked: match (target.is_checked, is_down) {
            (false, _) => SavedCheck::Unknown,
            (true, false) => SavedCheck::Up,
            (true, true) => SavedCheck::Down,
        },
        breaker: health.breaker.open_for.map(|open_for| {
            let millis = u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX);
            SavedBreaker {
                open_until: UnixMillis(now.0.saturating_add(millis)),
                opened: health.breaker.opened,
            }
        }),
        failures: health.breaker.in_a_row,
        latency_micros: health
            .latency
            .and_then(|latency| u64::try_from(latency.connect.as_micros()).ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_of_long_ago_are_gone_for_good() {
        let hex = u64::from_ne_bytes(remoteingress_os::random::bytes());
        let folder = std::env::temp_dir().join(format!("kept-{hex:x}"));
        std::fs::create_dir(&folder).unwrap();
        let mut db = StateDb::open(&folder).unwrap();
        let json = r#"{"id": "a", "app": "web", "ip": "192.0.2.1", "port": 80}"#;
        db.save_registrations([json]).unwrap();
        let away = u64::try_from(LONGEST_AWAY.as_millis()).unwrap();
        let recalled = |ago: u64| {
            let mut db = StateDb::open(&folder).unwrap();
            db.save_targets(&[], UnixMillis(UnixMillis::now().0 - ago))
                .unwrap();
            db.close().unwrap();
            let mut kept = KeptState::begin(&folder).unwrap();
            let count = kept.recall(false).registrations.len();
            // As a hub does to which none has registered.
            if count == 0 {
                kept.save(&[], &Mutex::default());
            }
            count
        };
        db.close().unwrap();
        assert_eq!(recalled(0), 1);
        assert_eq!(recalled(away + 1_000), 0);
        assert_eq!(recalled(0), 0);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
