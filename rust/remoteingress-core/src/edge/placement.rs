//! Placement: the worker that carries a client, a flow or a control message (D1).
//!
//! The workers' sessions share what there is by halves, so streams are equal only if their numbers are.

use crate::uplink::load::Load;

/// The worker for a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The worker that accepted it.
    Here,
    /// Another one, by its number.
    At(usize),
    /// None: no session is live, and the client waits for one.
    Nowhere,
}

/// The worker for a client that worker `own` has accepted: this one, unless it has no session or another has fewer
/// streams. `loads` are those of all workers in their order.
pub fn place_client(own: usize, loads: impl Iterator<Item = Load> + Clone) -> Place {
    let Some((least, streams)) = least_loaded(loads.clone()) else {
        return Place::Nowhere;
    };
    let mut loads = loads;
    let own = loads.nth(own).filter(|own| own.is_live);
    if own.is_some_and(|own| own.streams <= streams) {
        Place::Here
    } else {
        Place::At(least)
    }
}

/// The worker for a datagram that the worker which read it can't send: the one that has its flow, as long as that has a
/// session, else the least loaded one.
pub fn place_flow(
    carrier: Option<usize>,
    loads: impl Iterator<Item = Load> + Clone,
) -> Option<usize> {
    let carrier = carrier.filter(|carrier| is_live(*carrier, loads.clone()));
    carrier.or_else(|| least_loaded(loads).map(|(worker, _)| worker))
}

/// The worker has a session that takes new streams.
pub fn is_live(worker: usize, mut loads: impl Iterator<Item = Load>) -> bool {
    loads.nth(worker).is_some_and(|load| load.is_live)
}

/// The worker whose session carries control messages: the lowest live one.
pub fn lowest_live(mut loads: impl Iterator<Item = Load>) -> Option<usize> {
    loads.position(|load| load.is_live)
}

/// The peer allows the stream that was counted last: its own count decides, and this one saves the way there. A maximum of
/// 0 is none.
pub fn may_open(max_streams: usize, loads: impl Iterator<Item = Load>) -> bool {
    max_streams == 0 || loads.map(|load| load.streams).sum::<usize>() <= max_streams
}

/// The live worker with the fewest streams, and their number.
fn least_loaded(loads: impl Iterator<Item = Load>) -> Option<(usize, usize)> {
    let live = loads.enumerate().filter(|(_, load)| load.is_live);
    live.map(|(worker, load)| (worker, load.streams))
        .min_by_key(|(_, streams)| *streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers with these numbers of streams; a negative one stands for a worker without a session.
    fn loads(streams: &[i32]) -> impl Iterator<Item = Load> + Clone {
        streams.iter().map(|streams| Load {
            is_live: *streams >= 0,
            streams: streams.unsigned_abs() as usize,
        })
    }

    #[test]
    fn a_client_stays_unless_another_worker_has_fewer_streams() {
        assert_eq!(place_client(0, loads(&[3, 3])), Place::Here);
        assert_eq!(place_client(1, loads(&[3, 3])), Place::Here);
        assert_eq!(place_client(0, loads(&[4, 3])), Place::At(1));
        assert_eq!(place_client(1, loads(&[4, 3, 3])), Place::Here);
    }

    #[test]
    fn a_worker_without_a_session_gives_its_clients_away_however_few_it_has() {
        assert_eq!(place_client(0, loads(&[-1, 9, 7])), Place::At(2));
        assert_eq!(place_client(5, loads(&[2])), Place::At(0));
    }

    #[test]
    fn without_any_session_a_client_waits() {
        assert_eq!(place_client(0, loads(&[-1, -2])), Place::Nowhere);
        assert_eq!(place_client(0, loads(&[])), Place::Nowhere);
        assert_eq!(place_flow(Some(0), loads(&[-1])), None);
    }

    #[test]
    fn a_burst_is_spread_evenly_wherever_it_was_accepted() {
        let mut streams = [0, 0, 0, 0];
        for client in 0..400 {
            let own = if client % 4 == 0 { 1 } else { 0 };
            match place_client(own, loads(&streams)) {
                Place::Here => streams[own] += 1,
                Place::At(other) => streams[other] += 1,
                Place::Nowhere => panic!("all are live"),
            }
        }
        assert_eq!(streams, [100; 4]);
    }

    #[test]
    fn a_flow_stays_where_it_has_begun_while_that_worker_has_a_session() {
        assert_eq!(place_flow(Some(2), loads(&[-1, 1, 9])), Some(2));
        assert_eq!(place_flow(Some(2), loads(&[-1, 1, -9])), Some(1));
        assert_eq!(place_flow(None, loads(&[-1, 5, 4])), Some(2));
    }

    #[test]
    fn the_lowest_live_worker_carries_control_messages() {
        assert_eq!(lowest_live(loads(&[-1, 5, 0])), Some(1));
        assert_eq!(lowest_live(loads(&[-1])), None);
        assert!(is_live(1, loads(&[-1, 5])));
        assert!(!is_live(2, loads(&[-1, 5])));
    }

    #[test]
    fn the_peers_limit_of_streams_counts_all_workers() {
        assert!(may_open(10, loads(&[4, 6])));
        assert!(!may_open(10, loads(&[5, 6])));
        assert!(may_open(0, loads(&[5, 6])));
    }
}
