//! A pool with its clock and its chance.

use remoteingress_upstream::breaker::BreakerRules;
use remoteingress_upstream::client::{ClientKey, HashSeed};
use remoteingress_upstream::pick::{Ask, NoTarget, Pick, Picked};
use remoteingress_upstream::plan::{Plan, Pool, PoolSettings, Strategy, TargetSettings};
use remoteingress_upstream::region::{Origin, Place};
use remoteingress_upstream::time::Moment;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

/// A pool, its clock, and numbers that look like chance.
pub(crate) struct World {
    pub(crate) pool: Pool,
    pub(crate) settings: PoolSettings,
    pub(crate) plan: Arc<Plan>,
    pub(crate) now: Moment,
    pub(crate) seed: u64,
}

impl World {
    pub(crate) fn new(strategy: Strategy, targets: Vec<TargetSettings>) -> Self {
        let settings = PoolSettings {
            strategy,
            targets,
            slow_start: Duration::ZERO,
            breaker: BreakerRules::default(),
            max_ejected_percent: 50,
            seed: HashSeed(7),
            spills_at_soft: false,
            load_bound_percent: None,
        };
        let mut pool = Pool::new(&Arc::default());
        let now = Moment(1_000);
        let plan = pool.plan(&settings, now);
        Self {
            pool,
            settings,
            plan,
            now,
            seed: 1,
        }
    }

    pub(crate) fn reload(&mut self) {
        self.plan = self.pool.plan(&self.settings, self.now);
    }

    pub(crate) fn pick_as(
        &mut self,
        client: u32,
        origin: Origin,
        tried: &[usize],
    ) -> Result<Picked, NoTarget> {
        let address = IpAddr::V4(Ipv4Addr::from(client));
        let ask = Ask {
            client: ClientKey::new(address, HashSeed(7)),
            origin,
            bound: None,
            tried,
            now: self.now,
        };
        let seed = &mut self.seed;
        Pick::new(&self.plan, &ask).take(&mut || {
            *seed ^= *seed << 13;
            *seed ^= *seed >> 7;
            *seed ^= *seed << 17;
            seed.wrapping_mul(0x2545_f491_4f6c_dd1d)
        })
    }

    pub(crate) fn pick(&mut self) -> Picked {
        self.pick_as(1, Origin::default(), &[]).expect("a target")
    }

    /// How often each target is picked, for streams that end before the next one comes.
    pub(crate) fn shares(&mut self, picks: u32) -> Vec<u32> {
        let mut shares = vec![0; self.settings.targets.len()];
        for client in 0..picks {
            let mut picked = self
                .pick_as(client, Origin::default(), &[])
                .expect("a target");
            shares[picked.index] += 1;
            picked.slot.succeeded(self.now, Duration::from_millis(1));
        }
        shares
    }

    pub(crate) fn fail(&mut self, index: usize, times: usize) {
        for _ in 0..times {
            let member = &self.plan.entries()[index].member;
            member.reserve(0).expect("a place").failed(self.now, 0.5);
        }
    }

    pub(crate) fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }
}

pub(crate) fn target(id: &str, weight: u16) -> TargetSettings {
    TargetSettings {
        id: id.to_owned(),
        weight,
        soft_limit: 100,
        hard_limit: 0,
        priority: 0,
        slow_start: None,
        place: Place::default(),
    }
}

pub(crate) fn targets(weights: &[u16]) -> Vec<TargetSettings> {
    let target = |(index, weight): (usize, &u16)| target(&format!("t{index}"), *weight);
    weights.iter().enumerate().map(target).collect()
}

pub(crate) const ALL: [Strategy; 7] = [
    Strategy::Geo,
    Strategy::RoundRobin,
    Strategy::Random,
    Strategy::IpHash,
    Strategy::LeastConnections,
    Strategy::LeastLatency,
    Strategy::TwoChoices,
];
