//! The ports of an edge: the hub's generations, applied by the port table, with binds that may fail.

use crate::env::Env;
use remoteingress_core::edge::port_table::{Change, PortState, PortTable};
use remoteingress_proto::control::{
    Applied, ApplyOutcome, Config, ControlMessage, PortFailure, PortState as Reported, PortStatus,
};
use remoteingress_proto::handshake::HubEpoch;
use std::collections::BTreeSet;
use std::time::Instant;

/// A generation in force, and what the operating system has bound for it.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    table: PortTable,
    applied: Option<(HubEpoch, u64)>,
    /// Ports on which this edge listens.
    bound: BTreeSet<u16>,
}

impl Ports {
    /// Takes over a generation; gives the answer to the hub, unless the generation is an old one.
    pub(crate) fn apply(&mut self, env: &mut Env, config: &Config) -> Option<ControlMessage> {
        let (epoch, generation) = (config.epoch, config.generation);
        let is_old = |(at, last): (HubEpoch, u64)| at == epoch && generation < last;
        if self.applied.is_some_and(is_old) {
            return None;
        }
        if self.applied != Some((epoch, generation)) {
            let changes = self.table.apply(config).expect("no ports overlap");
            self.applied = Some((epoch, generation));
            env.say(format_args!("edge: generation {generation} of {epoch}"));
            self.carry_out(env, changes);
        }
        self.report()
    }

    /// The hub has no such edge any more.
    pub(crate) fn close_all(&mut self, env: &mut Env) {
        if self.applied.take().is_some() {
            env.say(format_args!("edge: closes all ports"));
            let changes = self.table.clear();
            self.carry_out(env, changes);
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.table.next_retry()
    }

    /// Tries failed ports again that are due; gives the news for the hub.
    pub(crate) fn poll(&mut self, env: &mut Env) -> Option<ControlMessage> {
        let due = self.table.due(env.now());
        if due.is_empty() {
            return None;
        }
        self.carry_out(env, due);
        self.report()
    }

    pub(crate) fn bound(&self) -> &BTreeSet<u16> {
        &self.bound
    }

    pub(crate) fn applied(&self) -> Option<(HubEpoch, u64)> {
        self.applied
    }

    fn carry_out(&mut self, env: &mut Env, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Bind { key, .. } if env.one_in(6) => {
                    let (now, code) = (env.now(), PortFailure::AddressInUse);
                    self.table.failed(now, key, code, String::new());
                }
                Change::Bind { key, .. } => {
                    self.table.bound(key);
                    assert!(self.bound.insert(key.port), "a port is bound twice");
                }
                Change::Close { key, .. } => {
                    assert!(self.bound.remove(&key.port), "no such port is open");
                }
            }
        }
    }

    /// The state of all ports, for the hub.
    pub(crate) fn report(&self) -> Option<ControlMessage> {
        let (epoch, generation) = self.applied?;
        let states = self.table.iter().map(|(key, port)| Reported {
            protocol: key.protocol,
            port: key.port,
            status: match &port.state {
                PortState::Bound(_) => PortStatus::Bound,
                PortState::Failed { code, message, .. } => PortStatus::Failed {
                    code: *code,
                    message: message.clone(),
                },
                PortState::Wanted => panic!("every port is tried at once"),
            },
        });
        let outcome = ApplyOutcome::Applied(states.collect());
        Some(ControlMessage::Applied(Applied {
            epoch,
            generation,
            outcome,
        }))
    }
}
