//! The files of pools: one thread looks at those that targets and countries come from, and keeps what is known of
//! targets. It sleeps while there are none.

use super::kept::{KeptState, Unusable};
use crate::hub::state::HubState;
use remoteingress_config::events::{
    Event, GeoFailed, GeoReloaded, RoutingFailed, RoutingReloaded, TargetRefused,
};
use remoteingress_config::name::Name;
use remoteingress_config::pool_status::{TargetAdmin, TargetSource};
use remoteingress_config::status::{GeoStatus, RefusedRow, RoutingDbStatus};
use remoteingress_config::{CountryCode, GeoConfig, RegionName, RoutingDbConfig};
use remoteingress_store::geo_file::{self, GeoFile};
use remoteingress_store::routing_db::{self, Admin, RoutingDbError, Row, Version};
use remoteingress_store::{POLL_INTERVAL, SAVE_INTERVAL};
use remoteingress_upstream::pool_set::Candidate;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

/// Refused rows that the status names.
const MAX_REFUSED_SHOWN: usize = 20;
/// A writer that locks the database for longer is worth a word.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Seconds of a day, for the age of a database of countries.
const DAY_SECS: u64 = 86_400;

/// To the thread.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// The configuration may name other files, or an operator has said something that is to be kept.
    Look,
    Stop,
}

/// Tells the thread of another configuration.
#[derive(Clone)]
pub(in crate::hub) struct SourceOrders(SyncSender<Order>);

impl SourceOrders {
    /// The configuration may name other files, or an operator has said something that is to be kept.
    pub(in crate::hub) fn look(&self) {
        // If one waits, it is for this configuration too; and the thread lives as long as the hub.
        let _ = self.0.try_send(Order::Look);
    }
}

/// The thread that looks at the files.
pub(crate) struct SourceWatch {
    orders: SyncSender<Order>,
    thread: JoinHandle<()>,
}

impl SourceWatch {
    /// Reads the files once, so that the first clients find their targets, and goes on looking at them.
    pub(in crate::hub) fn start(
        state: Arc<HubState>,
        kept: Result<Option<KeptState>, Unusable>,
    ) -> std::io::Result<Self> {
        // One that waits is enough: it is carried out with the configuration of that moment.
        let (orders, received) = sync_channel(1);
        let is_usable = kept.is_ok();
        let mut watched = Watched {
            state,
            kept: kept.unwrap_or_default(),
            is_usable,
            routing: None,
            geo: None,
            saved_at: Instant::now(),
            is_save_due: false,
        };
        watched.state.follow_named_pools();
        watched.follow_config();
        watched.poll();
        let thread = thread::Builder::new()
            .name("pool-sources".to_owned())
            .spawn(move || watched.run(&received))?;
        Ok(Self { orders, thread })
    }

    /// By which it is told of another configuration.
    pub(in crate::hub) fn orders(&self) -> SourceOrders {
        SourceOrders(self.orders.clone())
    }

    /// Ends it; waits for the read that it is at.
    pub(crate) fn stop(self) {
        let Self { orders, thread } = self;
        // It may have ended already.
        let _ = orders.send(Order::Stop);
        // It panics only where a library does; the hub is about to end.
        let _ = thread.join();
    }
}

struct Watched {
    state: Arc<HubState>,
    kept: Option<KeptState>,
    /// False once the state's file has failed: it is told once.
    is_usable: bool,
    saved_at: Instant,
    /// An operator's word isn't to be lost, whatever happens next.
    is_save_due: bool,
    routing: Option<Routing>,
    geo: Option<Geo>,
}

struct Routing {
    config: RoutingDbConfig,
    watch: routing_db::Watch,
    version: Version,
    /// The reason that was told, and since when a lock lasts.
    told: Option<&'static str>,
    locked_since: Option<Instant>,
}

struct Geo {
    path: PathBuf,
    watch: geo_file::Watch,
    told: Option<&'static str>,
}

impl Watched {
    fn run(mut self, orders: &Receiver<Order>) {
        loop {
            let has_files = self.routing.is_some() || self.geo.is_some();
            let pause = if has_files {
                Some(POLL_INTERVAL)
            } else {
                self.kept.as_ref().map(|_| SAVE_INTERVAL)
            };
            let order = match pause {
                Some(pause) => orders.recv_timeout(pause),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(Order::Look) => {
                    self.follow_config();
                    self.is_save_due = true;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Order::Stop) | Err(RecvTimeoutError::Disconnected) => break,
            }
            self.poll();
            self.save();
        }
        if let Some(kept) = self.kept {
            let pools = &self.state.pools;
            let bindings = pools.bindings.export(pools.now());
            kept.close(&pools.kept(), &pools.leases, bindings);
        }
    }

    fn save(&mut self) {
        if !self.is_save_due && self.saved_at.elapsed() < SAVE_INTERVAL {
            return;
        }
        self.is_save_due = false;
        if let Some(kept) = &mut self.kept {
            let pools = &self.state.pools;
            kept.save(&pools.kept(), &pools.leases);
            self.saved_at = Instant::now();
        }
    }

    /// Looks at the files that the configuration names now.
    fn follow_config(&mut self) {
        let config = self.state.config();
        if self.kept.is_none() && self.is_usable {
            // These are the first pools of this stateDir.
            let has_registrations = self.state.pools.leases().revision() > 0;
            let kept = KeptState::open(&config, has_registrations);
            self.is_usable = kept.is_ok();
            self.kept = kept.unwrap_or_default();
            if let Some(kept) = &mut self.kept {
                kept.seed(self.state.pools.seed());
            }
        }
        let keeps = self.kept.is_some();
        self.state.pools.keeps.store(keeps, Ordering::Relaxed);
        let special = config.allow_special_targets;
        let watched = self.routing.as_ref().map(|routing| &routing.config);
        if watched != config.routing_db.as_ref() {
            // The last version of the same file stays in force until it is read.
            let version = self.routing.take().map(|routing| routing.version);
            self.routing = config.routing_db.clone().map(|config| Routing {
                watch: routing_db::Watch::new(&config.path, special),
                version: version.unwrap_or_default(),
                told: None,
                locked_since: None,
                config,
            });
            if self.routing.is_none() {
                self.state.change_pools(|set| set.set_rows(Vec::new()));
                self.state.pools.set_routing_db(None);
            }
        }
        let GeoConfig { database, .. } = &config.geo;
        if self.geo.as_ref().map(|geo| &geo.path) != database.as_ref() {
            self.geo = database.clone().map(|path| Geo {
                watch: geo_file::Watch::new(&path),
                told: None,
                path,
            });
            if self.geo.is_none() {
                self.state.set_geo_file(None);
                self.state.pools.set_geo(None);
            }
        }
    }

    fn poll(&mut self) {
        if let Some(routing) = &mut self.routing {
            routing.poll(&self.state);
        }
        if let Some(geo) = &mut self.geo {
            geo.poll(&self.state);
        }
    }
}

impl Routing {
    fn poll(&mut self, state: &HubState) {
        match self.watch.poll() {
            routing_db::Poll::Unchanged => {}
            routing_db::Poll::Changed(reading) => {
                let (version, change) = self.version.next(reading);
                let is_good_again = self.told.take().is_some();
                self.locked_since = None;
                let is_first = self.version.revision == 0;
                let refused = std::mem::take(&mut self.version.refused);
                let is_mended = refused != version.refused;
                self.version = version;
                if !change.is_empty() || is_good_again || is_first {
                    self.put_in_force(state, &change);
                } else if is_mended {
                    // A row that was refused is gone.
                    state.pools.set_routing_db(Some(self.status(None)));
                }
            }
            routing_db::Poll::Failed(error) => self.fail(state, &error),
        }
    }

    fn put_in_force(&self, state: &HubState, change: &routing_db::Change) {
        let header = self.config.proxy_protocol;
        let candidate = |row: &Row| {
            let app = row.pool.as_deref().and_then(|app| Name::new(app).ok());
            let mut candidate = candidate(row)?;
            candidate.proxy_protocol = Some(header);
            Some((app, candidate))
        };
        let rows = self.version.rows.values().filter_map(candidate).collect();
        state.change_pools(|set| set.set_rows(rows));
        state.pools.set_routing_db(Some(self.status(None)));
        let path = self.config.path.display();
        let (added, removed, changed) = (
            change.added.len(),
            change.removed.len(),
            change.changed.len(),
        );
        let (revision, rows) = (self.version.revision, self.version.rows.len());
        let refused = self.version.refused.len();
        tracing::info!(%path, revision, rows, added, removed, changed, refused, "routing.db is in force");
        state.events.emit(&Event::RoutingReloaded(RoutingReloaded {
            revision,
            rows: rows as u64,
            added: added as u64,
            removed: removed as u64,
            changed: changed as u64,
            refused: refused as u64,
        }));
        for refusal in change.refused.iter().take(MAX_REFUSED_SHOWN) {
            let (row, reason) = (refusal.row, &refusal.reason);
            let id = refusal.id.as_deref().unwrap_or_default();
            tracing::warn!(%path, row, id, %reason, "a row of routing.db is no target");
            state.events.emit(&Event::TargetRefused(TargetRefused {
                source: TargetSource::RoutingDb,
                id: refusal.id.clone(),
                row: Some(row),
                reason: reason.clone(),
            }));
        }
        let more = change.refused.len().saturating_sub(MAX_REFUSED_SHOWN);
        if more > 0 {
            tracing::warn!(%path, more, "further rows of routing.db are no targets");
        }
    }

    /// Tells of a failure once for each reason.
    fn fail(&mut self, state: &HubState, error: &RoutingDbError) {
        if error.is_passing() {
            let since = *self.locked_since.get_or_insert_with(Instant::now);
            if since.elapsed() < LOCK_PATIENCE {
                return;
            }
        } else {
            self.locked_since = None;
        }
        if self.told == Some(error.reason()) {
            return;
        }
        self.told = Some(error.reason());
        let text = error.to_string();
        let path = self.config.path.display().to_string();
        tracing::error!(%path, reason = error.reason(), error = %text, "routing.db can't be read: the earlier targets stay");
        // Who hears the event finds it in the status.
        state
            .pools
            .set_routing_db(Some(self.status(Some(text.clone()))));
        state.events.emit(&Event::RoutingFailed(RoutingFailed {
            path,
            reason: error.reason().to_owned(),
            error: text,
        }));
    }

    fn status(&self, error: Option<String>) -> RoutingDbStatus {
        let refused = self.version.refused.iter().take(MAX_REFUSED_SHOWN);
        RoutingDbStatus {
            path: self.config.path.display().to_string(),
            revision: self.version.revision,
            rows: self.version.rows.len() as u64,
            refused: refused
                .map(|row| RefusedRow {
                    id: row.id.clone(),
                    row: row.row,
                    reason: row.reason.clone(),
                })
                .collect(),
            refused_rows: self.version.refused.len() as u64,
            error,
        }
    }
}

/// A row as a target; a row's id fits a name, as its reader checks.
fn candidate(row: &Row) -> Option<Candidate> {
    Some(Candidate {
        id: Name::new(&row.id).ok()?,
        host: row.host.clone(),
        port: Some(row.port),
        region: row.region.as_deref().and_then(RegionName::from_any),
        country: row
            .country
            .and_then(|letters| CountryCode::new(std::str::from_utf8(&letters).ok()?)),
        weight: row.weight,
        soft_limit: row.soft_limit,
        hard_limit: row.hard_limit.unwrap_or(0),
        priority: u8::try_from(row.priority).unwrap_or(u8::MAX),
        source: TargetSource::RoutingDb,
        admin: match row.admin {
            Admin::Active => TargetAdmin::Active,
            Admin::Drain => TargetAdmin::Drain,
            Admin::Dead => TargetAdmin::Dead,
        },
        is_healthy: row.healthy,
        is_leaving: false,
        slow_start: row
            .slow_start_secs
            .map(|secs| Duration::from_secs(secs.into())),
        proxy_protocol: None,
    })
}

impl Geo {
    fn poll(&mut self, state: &HubState) {
        let path = self.path.display().to_string();
        match self.watch.poll() {
            geo_file::Poll::Unchanged => {}
            geo_file::Poll::Changed(geo) => {
                self.told = None;
                tell(&path, &geo, state);
                state.set_geo_file(Some(Arc::new(geo)));
            }
            geo_file::Poll::Failed(error) => {
                if self.told == Some(error.reason()) {
                    return;
                }
                self.told = Some(error.reason());
                let text = error.to_string();
                tracing::error!(%path, reason = error.reason(), error = %text, "the database of countries can't be read: the earlier data stay in force");
                let before = state.pools.geo();
                state.pools.set_geo(Some(GeoStatus {
                    database: path.clone(),
                    built: before.as_ref().and_then(|before| before.built),
                    networks: before.and_then(|before| before.networks),
                    error: Some(text.clone()),
                }));
                state.events.emit(&Event::GeoFailed(GeoFailed {
                    path,
                    reason: error.reason().to_owned(),
                    error: text,
                }));
            }
        }
    }
}

fn tell(path: &str, geo: &GeoFile, state: &HubState) {
    let (networks, built) = (geo.networks() as u64, geo.build_epoch() * 1_000);
    tracing::info!(
        path,
        kind = geo.kind(),
        networks,
        "the database of countries is in force"
    );
    if let Some(age) = geo.too_old(SystemTime::now()) {
        let days = age.as_secs() / DAY_SECS;
        tracing::warn!(
            path,
            days,
            "the database of countries is old: networks move; get a new one"
        );
    }
    state.pools.set_geo(Some(GeoStatus {
        database: path.to_owned(),
        built: Some(built),
        networks: Some(networks),
        error: None,
    }));
    state.events.emit(&Event::GeoReloaded(GeoReloaded {
        path: path.to_owned(),
        built,
        networks,
    }));
}
