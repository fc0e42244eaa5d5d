//! Everything that happens at random: clients and targets, and everything that can go wrong.

use crate::edge::Client;
use crate::world::{End, Start, World};
use remoteingress_testkit::net::Dials;
use std::time::Duration;

impl World {
    /// A time of random things.
    pub(crate) fn make_chaos(&mut self) {
        let steps = 15 + self.env.chance.below(30);
        self.env.loses_welcomes = self.env.one_in(2);
        for _ in 0..steps {
            let wait = match self.env.chance.below(20) {
                0..=9 => 300,
                10..=16 => 3_000,
                _ => 25_000,
            };
            let wait = self.env.up_to(Duration::from_millis(wait));
            self.pass(wait);
            self.do_something();
            for start in &mut self.edges {
                start.edge.turn(&mut self.env);
            }
            if let Some(hub) = &mut self.hub {
                hub.turn(&mut self.env);
            }
        }
    }

    fn do_something(&mut self) {
        match self.env.chance.below(100) {
            0..=29 => self.bring_clients(),
            30..=43 => self.touch_stream(),
            44..=57 => self.cut_connection(),
            58..=62 => self.blacken(),
            63..=67 => self.block_quic(),
            68..=74 => self.fail_dials(),
            75..=79 => self.restart_hub(),
            80..=84 => self.restart_edge(),
            85..=87 => self.start_second_edge(),
            88..=90 => self.change_secret(),
            91..=92 => self.remove_edge(),
            93..=96 => self.change_ports(),
            _ => self.change_path(),
        }
    }

    fn bring_clients(&mut self) {
        let count = 1 + self.env.chance.below(3);
        for _ in 0..count {
            let chance = &mut self.env.chance;
            let mut bytes = || match chance.below(8) {
                0 => 0,
                1 => chance.below(150_000),
                _ => chance.below(4_000),
            };
            let (sends, answer) = (bytes(), bytes());
            let client = Client {
                sends: (sends, self.env.one_in(3)),
                answer: (answer, self.env.one_in(3)),
            };
            let at = self.env.chance.below(self.edges.len().max(1));
            if let Some(Start { edge, .. }) = self.edges.get_mut(at)
                && !edge.up.is_leaving
            {
                edge.client(&mut self.env, client);
            }
        }
    }

    /// A client or a target goes on, or gives up.
    fn touch_stream(&mut self) {
        let env = &mut self.env;
        let bytes = env.chance.below(6_000);
        let (finishes, aborts) = (env.one_in(3), env.one_in(5));
        let is_at_edge = env.one_in(2);
        let found = if is_at_edge {
            let mut edges = self.edges.iter_mut().map(|start| &mut start.edge);
            edges.find_map(|edge| {
                let streams = edge.streams();
                let serial = *streams.get(env.chance.below(streams.len().max(1)))?;
                let session = edge.of_stream(serial)?;
                Some((serial, &mut session.session, &mut session.ends))
            })
        } else {
            self.hub.as_mut().and_then(|hub| {
                let streams = hub.streams();
                let serial = *streams.get(env.chance.below(streams.len().max(1)))?;
                let session = hub.of_stream(serial)?;
                Some((serial, &mut session.session, &mut session.ends))
            })
        };
        let Some((serial, session, ends)) = found else {
            return;
        };
        if aborts {
            env.traffic.abort(session, ends, serial);
        } else {
            let now = env.now();
            env.traffic
                .write(session, ends, now, serial, (bytes, finishes));
        }
    }

    fn cut_connection(&mut self) {
        let mut connections = Vec::new();
        for Start { edge, .. } in &self.edges {
            connections.extend(edge.connections());
        }
        if connections.is_empty() {
            return;
        }
        let connection = connections[self.env.chance.below(connections.len())];
        let after = |env: &mut crate::env::Env| {
            let is_seen = env.chance.below(3) > 0;
            is_seen.then(|| env.up_to(Duration::from_millis(500)))
        };
        let seen = [after(&mut self.env), after(&mut self.env)];
        let name = self.env.name(connection);
        self.env
            .say(format_args!("cut: {name}, seen after {seen:?}"));
        self.env.net.cut(connection, seen);
    }

    fn blacken(&mut self) {
        if !self.faults.is_black {
            let time = self.up_to_secs(40);
            self.env.say(format_args!("black for {time:?}"));
            self.faults.is_black = true;
            self.set_paths();
            self.ends_after(time, End::BlackHole);
        }
    }

    fn block_quic(&mut self) {
        if !self.faults.is_quic_blocked {
            let time = self.up_to_secs(60);
            self.env.say(format_args!("QUIC is blocked for {time:?}"));
            self.faults.is_quic_blocked = true;
            self.set_paths();
            self.ends_after(time, End::QuicBlocked);
        }
    }

    fn fail_dials(&mut self) {
        if self.faults.tls_dials == Dials::Accepted {
            let time = self.up_to_secs(25);
            self.faults.tls_dials = if self.env.one_in(3) {
                Dials::Ignored
            } else {
                Dials::Refused
            };
            self.env.say(format_args!(
                "dials: {:?} for {time:?}",
                self.faults.tls_dials
            ));
            self.set_paths();
            self.ends_after(time, End::Dials);
        }
    }

    /// The hub goes away, with or without a warning.
    fn restart_hub(&mut self) {
        let is_told_before = |(_, end): &(_, End)| *end == End::HubDrains;
        if self.ends.iter().any(is_told_before) {
            return;
        }
        let Some(hub) = &mut self.hub else {
            return;
        };
        if self.env.one_in(2) {
            hub.drain(&mut self.env);
            let time = self.up_to_secs(8);
            self.ends_after(time, End::HubDrains);
        } else {
            self.stop_hub();
        }
    }

    fn stop_hub(&mut self) {
        let is_heard = self.env.chance.below(4) > 0;
        if let Some(hub) = self.hub.take() {
            hub.vanish(&mut self.env, is_heard);
            self.set_paths();
            let time = self.up_to_secs(6);
            self.ends_after(time, End::HubDown);
        }
    }

    /// The edge's program ends, and a new one starts.
    fn restart_edge(&mut self) {
        let is_down = |(_, end): &(_, End)| *end == End::EdgeDown;
        if self.ends.iter().any(is_down) {
            return;
        }
        let leaves = self.env.one_in(2);
        let env = &mut self.env;
        let mut edges = self.edges.iter_mut().rev();
        let main = edges.find(|start| start.machine == 0 && !start.edge.up.is_leaving);
        let Some(start) = main else {
            return;
        };
        if leaves {
            start.edge.leave(env);
        } else {
            start.edge.vanish(env);
        }
        start.edge.turn(env);
        let time = self.up_to_secs(4);
        self.ends_after(time, End::EdgeDown);
    }

    /// Somebody starts the same edge on another machine.
    fn start_second_edge(&mut self) {
        if self.edges.iter().all(|start| start.machine == 0) {
            let replaces = self.env.one_in(2);
            self.start_edge(1, replaces);
            let time = self.up_to_secs(40);
            self.ends_after(time, End::SecondEdge);
        }
    }

    fn change_secret(&mut self) {
        if self.configured.has_right_secret {
            self.configured.has_right_secret = false;
            self.tell_hub();
            let time = self.up_to_secs(70);
            self.ends_after(time, End::WrongSecret);
        }
    }

    fn remove_edge(&mut self) {
        if self.configured.is_allowed {
            self.configured.is_allowed = false;
            self.tell_hub();
            let time = self.up_to_secs(40);
            self.ends_after(time, End::Removed);
        }
    }

    fn change_ports(&mut self) {
        for port in [80, 443, 8_000, 8_001, 8_002] {
            if self.env.one_in(3) && !self.configured.ports.remove(&port) {
                self.configured.ports.insert(port);
            }
        }
        self.tell_hub();
    }

    /// A fault is over.
    pub(crate) fn end_fault(&mut self, end: End) {
        self.env.say(format_args!("over: {end:?}"));
        match end {
            End::BlackHole => self.faults.is_black = false,
            End::QuicBlocked => self.faults.is_quic_blocked = false,
            End::Dials => self.faults.tls_dials = Dials::Accepted,
            End::HubDrains => return self.stop_hub(),
            End::HubDown => {
                self.start_hub();
                let time = self.up_to_secs(2);
                self.ends_after(time, End::HubUntold);
            }
            End::HubUntold => self.tell_hub(),
            End::WrongSecret => {
                self.configured.has_right_secret = true;
                self.tell_hub();
            }
            End::Removed => {
                self.configured.is_allowed = true;
                self.tell_hub();
            }
            End::EdgeDown => self.start_edge(0, self.plan.replaces_instance),
            End::SecondEdge => {
                for start in &mut self.edges {
                    if start.machine != 0 {
                        start.edge.vanish(&mut self.env);
                    }
                }
                self.edges.retain(|start| !start.edge.is_gone());
            }
        }
        self.set_paths();
    }

    fn up_to_secs(&mut self, most: u64) -> Duration {
        self.env.up_to(Duration::from_secs(most))
    }
}
