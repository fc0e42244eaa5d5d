//! Which target each client has: bindings that last while they are used, in a table of bounded size.
//!
//! A client that comes again within the time to live goes to the target that it had, over TCP and UDP alike, and its time
//! begins anew. The table is in shards with a lock each, which a new stream takes once. In a full shard the binding that
//! was used least lately makes room.

use crate::client::{ClientKey, mix};
use crate::time::Moment;
use hashbrown::HashTable;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Shards: with eight workers that all open streams, one in a hundred meets another at its shard.
const SHARDS: usize = 64;
/// Unit of ages: 32 bits of it last for over a year, and the longest time to live is a week.
const TICK_MILLIS: u64 = 10;
/// No node.
const NONE: u32 = u32::MAX;

/// A client in one pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingKey(u64);

/// A binding as it is kept over a restart of the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedBinding {
    /// Whose it is. It is known again after a restart that keeps the seed of clients and the number of the pool.
    pub key: BindingKey,
    /// Number of the target. It is another one after a restart: a file has the target's id instead.
    pub target: u32,
    /// Time since its last use, in steps of 10 ms.
    pub age: Duration,
}

/// The bindings of a hub's clients.
#[derive(Debug)]
pub struct Bindings {
    shards: Vec<Mutex<Shard>>,
    per_shard: usize,
}

/// Bindings in order of their last use.
#[derive(Debug)]
struct Shard {
    /// Places in `nodes`, found by the keys that stand there: a map would keep each key twice, in 16 bytes instead of 4.
    index: HashTable<u32>,
    nodes: Vec<Node>,
    newest: u32,
    oldest: u32,
    /// First of the nodes that are free, each of which names the next one as its older.
    free: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u64,
    target: u32,
    used_at: u32,
    newer: u32,
    older: u32,
}

impl BindingKey {
    /// Of a client in the pool with this number.
    pub fn new(pool: u32, client: ClientKey) -> Self {
        Self(mix(client.0 ^ u64::from(pool).rotate_left(40)))
    }

    /// From the number that [`Self::to_u64`] gave.
    pub fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// As a number, for a file.
    pub fn to_u64(self) -> u64 {
        self.0
    }
}

impl Bindings {
    /// No binding yet, and room for about as many as `most`: a share of them in each shard.
    pub fn new(most: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            per_shard: most.div_ceil(SHARDS).clamp(1, NONE as usize - 1),
        }
    }

    /// The target that the client has, by its number. It is as good as used now: its time begins anew.
    pub fn touch(&self, key: BindingKey, ttl: Duration, now: Moment) -> Option<u32> {
        let mut shard = self.shard(key);
        let at = shard.place_of(key.0)?;
        let node = *shard.nodes.get(at as usize)?;
        if is_over(node.used_at, ttl, now) {
            shard.remove(key.0);
            return None;
        }
        shard.unlink(at);
        shard.link(at, tick(now));
        Some(node.target)
    }

    /// The target that the client has, by its number; its time goes on.
    pub fn peek(&self, key: BindingKey, ttl: Duration, now: Moment) -> Option<u32> {
        let shard = self.shard(key);
        let node = shard.nodes.get(shard.place_of(key.0)? as usize)?;
        (!is_over(node.used_at, ttl, now)).then_some(node.target)
    }

    /// The client has this target from now on.
    pub fn bind(&self, key: BindingKey, target: u32, now: Moment) {
        let most = self.per_shard;
        let mut shard = self.shard(key);
        if let Some(at) = shard.place_of(key.0) {
            shard.unlink(at);
            if let Some(node) = shard.nodes.get_mut(at as usize) {
                node.target = target;
            }
            return shard.link(at, tick(now));
        }
        if shard.index.len() >= most
            && let Some(oldest) = shard.nodes.get(shard.oldest as usize).map(|node| node.key)
        {
            shard.remove(oldest);
        }
        shard.insert(key.0, target, tick(now));
    }

    /// The client has no target any more. Gives the one that it had.
    pub fn remove(&self, key: BindingKey) -> Option<u32> {
        self.shard(key).remove(key.0)
    }

    /// Forgets the bindings to this target; gives how many they were. It looks at all: for whoever removes a target.
    pub fn remove_target(&self, target: u32) -> usize {
        let of_shard = |shard: &Mutex<Shard>| {
            let mut shard = lock(shard);
            let keys: Vec<_> = shard
                .index
                .iter()
                .filter_map(|at| shard.nodes.get(*at as usize))
                .filter(|node| node.target == target)
                .map(|node| node.key)
                .collect();
            for key in &keys {
                shard.remove(*key);
            }
            keys.len()
        };
        self.shards.iter().map(of_shard).sum()
    }

    /// All bindings, those among them whose time is over. A shard is locked while its bindings are copied.
    pub fn export(&self, now: Moment) -> impl Iterator<Item = SavedBinding> {
        self.shards.iter().flat_map(move |shard| {
            let shard = lock(shard);
            let saved = |at: &u32| {
                let node = shard.nodes.get(*at as usize)?;
                Some(SavedBinding {
                    key: BindingKey(node.key),
                    target: node.target,
                    age: age(node.used_at, now),
                })
            };
            let saved: Vec<_> = shard.index.iter().filter_map(saved).collect();
            saved
        })
    }

    /// Adds bindings of an earlier run of the hub, the youngest of those for which there is room, in any order. Clients
    /// that have come since keep what they have. Gives how many were added.
    pub fn import(&self, mut saved: Vec<SavedBinding>, now: Moment) -> usize {
        saved.sort_unstable_by_key(|binding| binding.age);
        let add = |binding: SavedBinding| {
            let ticks = binding.age.as_millis() / u128::from(TICK_MILLIS);
            // An age above a year would look young.
            let ticks = u32::try_from(ticks).ok()?;
            let mut shard = self.shard(binding.key);
            let has_room = shard.index.len() < self.per_shard;
            if !has_room || shard.place_of(binding.key.0).is_some() {
                return None;
            }
            let used_at = tick(now).wrapping_sub(ticks);
            shard.insert_as_oldest(binding.key.0, binding.target, used_at);
            Some(())
        };
        saved.into_iter().filter_map(add).count()
    }

    /// Bindings that are kept, those among them whose time is over and that nobody has asked for since.
    pub fn len(&self) -> usize {
        self.shards
            .iter()
            .map(|shard| lock(shard).index.len())
            .sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: BindingKey) -> MutexGuard<'_, Shard> {
        // The high bits, see `hash`.
        let at = (key.0 >> 58) as usize % SHARDS;
        // There are as many as SHARDS says.
        lock(self.shards.get(at).unwrap_or(&self.shards[0]))
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Shard {
    fn default() -> Self {
        Self {
            index: HashTable::new(),
            nodes: Vec::new(),
            newest: NONE,
            oldest: NONE,
            free: NONE,
        }
    }
}

impl Shard {
    fn place_of(&self, key: u64) -> Option<u32> {
        let has_key = |at: &u32| has_key(&self.nodes, *at, key);
        self.index.find(hash(key), has_key).copied()
    }

    fn insert(&mut self, key: u64, target: u32, used_at: u32) {
        let at = self.add(key, target);
        self.link(at, used_at);
    }

    fn insert_as_oldest(&mut self, key: u64, target: u32, used_at: u32) {
        let at = self.add(key, target);
        let newer = self.oldest;
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.used_at = used_at;
            node.newer = newer;
        }
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = at,
            None => self.newest = at,
        }
        self.oldest = at;
    }

    /// A node in the index that isn't in the order yet.
    fn add(&mut self, key: u64, target: u32) -> u32 {
        let node = Node {
            key,
            target,
            used_at: 0,
            newer: NONE,
            older: NONE,
        };
        let at = if let Some(free) = self.nodes.get_mut(self.free as usize) {
            let at = self.free;
            self.free = free.older;
            *free = node;
            at
        } else {
            self.nodes.push(node);
            // Below the bound of a shard.
            (self.nodes.len() - 1) as u32
        };
        let nodes = &self.nodes;
        let hash_at = |at: &u32| nodes.get(*at as usize).map_or(0, |node| hash(node.key));
        self.index.insert_unique(hash(key), at, hash_at);
        at
    }

    fn remove(&mut self, key: u64) -> Option<u32> {
        let nodes = &self.nodes;
        let entry = self
            .index
            .find_entry(hash(key), |at| has_key(nodes, *at, key));
        let (at, _) = entry.ok()?.remove();
        self.unlink(at);
        let free = self.free;
        let node = self.nodes.get_mut(at as usize)?;
        node.older = free;
        let target = node.target;
        self.free = at;
        Some(target)
    }

    /// Makes it the newest.
    fn link(&mut self, at: u32, used_at: u32) {
        let older = self.newest;
        if let Some(node) = self.nodes.get_mut(at as usize) {
            node.used_at = used_at;
            node.newer = NONE;
            node.older = older;
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Some(Node { newer, older, .. }) = self.nodes.get(at as usize).copied() else {
            return;
        };
        match self.nodes.get_mut(newer as usize) {
            Some(node) => node.older = older,
            None => self.newest = older,
        }
        match self.nodes.get_mut(older as usize) {
            Some(node) => node.newer = newer,
            None => self.oldest = newer,
        }
    }
}

fn has_key(nodes: &[Node], at: u32, key: u64) -> bool {
    nodes.get(at as usize).is_some_and(|node| node.key == key)
}

/// Keys are mixed already. An index looks at the lowest bits and the highest; the highest of a key are its shard, in which
/// all keys of an index agree.
fn hash(key: u64) -> u64 {
    key.rotate_left(32)
}

fn tick(now: Moment) -> u32 {
    // It wraps after a year, as ages do.
    (now.0 / TICK_MILLIS) as u32
}

fn age(used_at: u32, now: Moment) -> Duration {
    Duration::from_millis(u64::from(tick(now).wrapping_sub(used_at)) * TICK_MILLIS)
}

fn is_over(used_at: u32, ttl: Duration, now: Moment) -> bool {
    age(used_at, now) >= ttl
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(2);

    fn key(client: u64) -> BindingKey {
        BindingKey::new(3, ClientKey(client))
    }

    #[test]
    fn a_binding_lasts_while_it_is_used_and_no_longer() {
        let bindings = Bindings::new(1_000);
        bindings.bind(key(1), 7, Moment(0));
        assert_eq!(bindings.touch(key(1), TTL, Moment(1_900)), Some(7));
        assert_eq!(bindings.touch(key(1), TTL, Moment(3_890)), Some(7));
        // A look at it renews nothing.
        assert_eq!(bindings.peek(key(1), TTL, Moment(5_880)), Some(7));
        assert_eq!(bindings.peek(key(1), TTL, Moment(5_890)), None);
        assert_eq!(bindings.touch(key(1), TTL, Moment(5_890)), None);
        assert!(bindings.is_empty());
        let other_pool = BindingKey::new(4, ClientKey(1));
        bindings.bind(key(1), 7, Moment(0));
        assert_eq!(bindings.touch(other_pool, TTL, Moment(0)), None);
    }

    #[test]
    fn the_one_that_was_used_least_lately_makes_room() {
        // Two in each shard.
        let bindings = Bindings::new(SHARDS * 2);
        let of_a_shard: Vec<_> = (0..10_000)
            .map(key)
            .filter(|key| key.0 >> 58 == 5)
            .take(3)
            .collect();
        bindings.bind(of_a_shard[0], 0, Moment(0));
        bindings.bind(of_a_shard[1], 1, Moment(0));
        assert_eq!(bindings.touch(of_a_shard[0], TTL, Moment(10)), Some(0));
        bindings.bind(of_a_shard[2], 2, Moment(20));
        let left = of_a_shard
            .into_iter()
            .map(|key| bindings.touch(key, TTL, Moment(30)));
        assert_eq!(left.collect::<Vec<_>>(), [Some(0), None, Some(2)]);
    }

    #[test]
    fn a_million_take_no_more_than_their_room() {
        let bindings = Bindings::new(1 << 20);
        for client in 0..1_200_000 {
            bindings.bind(key(client), 1, Moment(client));
        }
        assert!(bindings.len() <= 1 << 20);
        assert!(bindings.len() > (1 << 20) * 99 / 100);
        let last = bindings.touch(
            key(1_199_999),
            Duration::from_secs(604_800),
            Moment(1_200_000),
        );
        assert_eq!(last, Some(1));
        // 24 bytes in order, and 5 in the index for each of its places, of which less than half are empty.
        assert_eq!(size_of::<Node>(), 24);
    }

    #[test]
    fn a_target_that_goes_takes_its_bindings_along() {
        let bindings = Bindings::new(1_000);
        for client in 0..100 {
            bindings.bind(key(client), u32::from(client % 4 == 0), Moment(0));
        }
        assert_eq!(bindings.remove_target(1), 25);
        assert_eq!(bindings.len(), 75);
        assert_eq!(bindings.remove(key(1)), Some(0));
        assert_eq!(bindings.remove(key(1)), None);
    }

    #[test]
    fn bindings_outlive_a_restart_with_their_ages() {
        let before = Bindings::new(1_000);
        for client in 0..100 {
            before.bind(key(client), 7, Moment(client * 100));
        }
        let saved: Vec<_> = before.export(Moment(10_000)).collect();
        // The clock begins anew, and is younger than what is imported.
        let after = Bindings::new(1_000);
        after.bind(key(99), 8, Moment(0));
        assert_eq!(after.import(saved, Moment(0)), 99);
        let ttl = Duration::from_secs(5);
        let young = (0..99).filter(|client| after.touch(key(*client), ttl, Moment(0)).is_some());
        // They were used at 5,100 ms and later.
        assert_eq!(young.collect::<Vec<_>>(), (51..99).collect::<Vec<_>>());
        assert_eq!(after.touch(key(99), ttl, Moment(0)), Some(8));
        let too_old = SavedBinding {
            key: key(1),
            target: 1,
            age: Duration::MAX,
        };
        assert_eq!(after.import(vec![too_old], Moment(0)), 0);
        assert_eq!(BindingKey::from_u64(key(1).to_u64()), key(1));
    }

    proptest! {
        #[test]
        fn an_import_keeps_the_youngest_and_their_order(ages in proptest::collection::vec(0_u64..500, 0..12), news in 0_usize..6) {
            // One shard that holds four.
            let mut clients = (0..100_000).map(key).filter(|key| key.0 >> 58 == 9);
            let bindings = Bindings::new(SHARDS * 4);
            let saved: Vec<_> = clients.by_ref().zip(&ages).zip(0..).map(|((key, age), target)| SavedBinding {
                key,
                target,
                age: Duration::from_millis(age * TICK_MILLIS),
            }).collect();
            let mut by_age = saved.clone();
            by_age.sort_by_key(|one| one.age);
            prop_assert_eq!(bindings.import(saved, Moment(3)), ages.len().min(4));
            // Those who come make the oldest go.
            for key in clients.take(news) {
                bindings.bind(key, 99, Moment(3));
            }
            let mut left: Vec<_> = bindings.export(Moment(3)).filter(|one| one.target != 99).map(|one| one.age).collect();
            left.sort();
            let room = 4_usize.saturating_sub(news);
            let wanted: Vec<_> = by_age.iter().map(|one| one.age).take(room).collect();
            prop_assert_eq!(left, wanted);
        }

        #[test]
        fn it_is_a_list_in_order_of_use(steps in proptest::collection::vec((0_u8..3, 0_u64..12, 0_u32..3), 1..300)) {
            // One shard that holds four.
            let clients: Vec<_> = (0..100_000).map(key).filter(|key| key.0 >> 58 == 9).take(12).collect();
            let bindings = Bindings::new(SHARDS * 4);
            let mut list: Vec<(u64, u32)> = Vec::new();
            for (step, client, target) in steps {
                let at = list.iter().position(|(one, _)| *one == client);
                let known = at.map(|at| list.remove(at));
                let key = clients[client as usize];
                match step {
                    0 => {
                        list.push((client, target));
                        if list.len() > 4 {
                            list.remove(0);
                        }
                        bindings.bind(key, target, Moment(0));
                    }
                    1 => {
                        list.extend(known);
                        let found = bindings.touch(key, TTL, Moment(0));
                        prop_assert_eq!(found, known.map(|(_, target)| target));
                    }
                    _ => prop_assert_eq!(bindings.remove(key), known.map(|(_, target)| target)),
                }
                prop_assert_eq!(bindings.len(), list.len());
            }
        }
    }
}
