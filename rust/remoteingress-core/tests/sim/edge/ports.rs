//! The ports of an edge: the hub's generations, with binds that may fail.

use crate::env::Env;
use remoteingress_core::edge::generations::{Generations, Received, Told};
use remoteingress_core::edge::port_table::Change;
use remoteingress_proto::control::{Config, PortFailure};
use remoteingress_proto::handshake::HubEpoch;
use std::collections::BTreeSet;
use std::time::Instant;

/// A generation in force, and what the operating system has bound for it.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    pub(crate) generations: Generations,
    applied: Option<(HubEpoch, u64)>,
    /// Ports on which this edge listens.
    bound: BTreeSet<u16>,
}

impl Ports {
    /// Takes over a generation; gives what is to be told.
    pub(crate) fn apply(&mut self, env: &mut Env, config: &Config) -> Vec<Told> {
        match self.generations.receive(config) {
            Received::Old => Vec::new(),
            Received::Refused(applied) => panic!("no ports overlap: {applied:?}"),
            Received::Known => self.generations.repeated(&[]),
            Received::New(changes) => {
                let (epoch, generation) = (config.epoch, config.generation);
                self.applied = Some((epoch, generation));
                env.say(format_args!("edge: generation {generation} of {epoch}"));
                self.carry_out(env, changes);
                self.generations.applied(&[])
            }
        }
    }

    /// The hub has no such edge any more.
    pub(crate) fn close_all(&mut self, env: &mut Env) -> Vec<Told> {
        let Some(changes) = self.generations.close() else {
            return Vec::new();
        };
        env.say(format_args!("edge: closes all ports"));
        self.applied = None;
        self.carry_out(env, changes);
        self.generations.closed(&[])
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.generations.next_retry()
    }

    /// Tries failed ports again that are due; gives what is to be told.
    pub(crate) fn poll(&mut self, env: &mut Env) -> Vec<Told> {
        let due = self.generations.due(env.now());
        if due.is_empty() {
            return Vec::new();
        }
        let before = self.generations.open_ports();
        self.carry_out(env, due);
        self.generations.retried(before, &[])
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
                    self.generations.failed(now, key, code, String::new());
                }
                Change::Bind { key, .. } => {
                    self.generations.bound(key);
                    assert!(self.bound.insert(key.port), "a port is bound twice");
                }
                Change::Close { key, .. } => {
                    assert!(self.bound.remove(&key.port), "no such port is open");
                }
            }
        }
    }
}
