//! The part of something limited that one client network may have.
//!
//! Without a number of its own a network may hold as much as is still free, the dynamic threshold of Choudhury and Hahne
//! ("Dynamic queue length thresholds for shared-memory packet switches", IEEE/ACM Transactions on Networking 6(2), 1998)
//! with factor 1: alone it gets half, n that want all get 1/(n + 1) each, and the last part stays free for whoever comes.

use remoteingress_config::Limit;

/// How much one network may hold now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(Option<usize>);

impl Share {
    /// The number that is configured; where none is, as much as is still free of each of these limits, with what is used
    /// of it.
    pub fn new(configured: Option<Limit>, of: &[(Limit, usize)]) -> Self {
        match configured {
            Some(limit) => Self(limit.get().map(|_| limit.count())),
            None => {
                let free = |(limit, used): &(Limit, usize)| {
                    limit.get().map(|_| limit.count().saturating_sub(*used))
                };
                // Who has nothing isn't refused for others: the limit itself says when that is used up.
                Self(of.iter().filter_map(free).min().map(|free| free.max(1)))
            }
        }
    }

    /// Whether a network that holds `held` may have one more.
    pub fn admits(self, held: usize) -> bool {
        self.0.is_none_or(|most| held < most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alone_it_is_half_and_many_get_equal_parts() {
        let limit = Limit::new(1_200);
        for networks in [1, 2, 3, 5] {
            let mut held = vec![0; networks];
            for turn in 0..100_000 {
                let used = held.iter().sum();
                let own = &mut held[turn % networks];
                if Share::new(None, &[(limit, used)]).admits(*own) {
                    *own += 1;
                }
            }
            assert_eq!(held, vec![1_200 / (networks + 1); networks]);
        }
    }

    #[test]
    fn a_network_that_holds_too_much_gives_way_as_others_come() {
        let share = |used| Share::new(None, &[(Limit::new(100), used)]);
        assert!(share(49).admits(49));
        assert!(!share(50).admits(50));
        // With 25 of others it may have 37, and its 50 don't grow until they are fewer.
        assert!(!share(75).admits(50));
        assert!(share(61).admits(36));
        assert!(share(100).admits(0));
    }

    #[test]
    fn a_number_is_hard_and_off_is_off() {
        let used = [(Limit::new(100), 99)];
        assert!(Share::new(Some(Limit::new(10)), &used).admits(9));
        assert!(!Share::new(Some(Limit::new(10)), &[]).admits(10));
        assert!(Share::new(Some(Limit::OFF), &used).admits(1 << 40));
        assert!(Share::new(None, &[(Limit::OFF, 1 << 40)]).admits(1 << 40));
        let both = [(Limit::new(1_000), 0), (Limit::new(10), 4)];
        assert!(Share::new(None, &both).admits(5));
        assert!(!Share::new(None, &both).admits(6));
    }
}
