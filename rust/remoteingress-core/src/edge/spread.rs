//! The workers that open a port (D1).

/// Listener descriptors beyond which a port is opened by one worker only (D1).
const MAX_LISTENERS: usize = 4_096;
/// A port without an address of its own is opened for IPv4 and for IPv6.
const FAMILIES: usize = 2;

/// The copies of a port's listener per address family, when this many ports are open already: one per worker, or one.
pub fn copies(open_ports: usize, workers: usize) -> usize {
    let is_everywhere = (open_ports + 1) * FAMILIES * workers <= MAX_LISTENERS;
    if is_everywhere { workers } else { 1 }
}

/// The worker that opens this copy of a port's listener, of `copies` in all.
pub fn worker_of(port: u16, copy: usize, copies: usize, workers: usize) -> usize {
    if copies == workers {
        copy
    } else {
        usize::from(port) % workers.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_open_at_every_worker_while_descriptors_are_few() {
        for (open_ports, workers, expected) in [
            (0, 1, 1),
            (0, 4, 4),
            (511, 4, 4),
            (512, 4, 1),
            (4_095, 4, 1),
            (31, 64, 64),
            (32, 64, 1),
            (0, 2_048, 2_048),
            (0, 2_049, 1),
        ] {
            assert_eq!(copies(open_ports, workers), expected, "{open_ports}");
        }
    }

    #[test]
    fn copies_never_take_more_descriptors_than_allowed_beside_one_per_port() {
        for workers in [1, 2, 3, 8, 64] {
            let mut everywhere = 0;
            for open_ports in 0..4_096 {
                if copies(open_ports, workers) == workers && workers > 1 {
                    everywhere = (open_ports + 1) * FAMILIES * workers;
                }
            }
            assert!(everywhere <= MAX_LISTENERS, "{workers}");
        }
    }

    #[test]
    fn single_listeners_are_spread_over_the_workers() {
        assert_eq!(
            (0..4).map(|copy| worker_of(80, copy, 4, 4)).sum::<usize>(),
            6
        );
        let mut ports = [0; 4];
        for port in 1_000..1_400 {
            ports[worker_of(port, 0, 1, 4)] += 1;
        }
        assert_eq!(ports, [100; 4]);
        assert_eq!(worker_of(80, 0, 1, 1), 0);
    }
}
