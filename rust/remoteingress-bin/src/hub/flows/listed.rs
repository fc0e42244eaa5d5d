//! Flows, as a list of streams shows them.

use super::FlowTable;
use crate::listing::{FlowFacts, Flows};
use remoteingress_config::streams::WaitsFor;
use remoteingress_proto::flow::FlowId;
use std::time::Instant;

impl Flows for FlowTable {
    fn begun(&self) -> Vec<(FlowId, Instant)> {
        let flows = self.flows.borrow();
        flows.iter().map(|(id, flow)| (id, flow.begun_at)).collect()
    }

    fn facts(&self, id: FlowId) -> Option<FlowFacts> {
        let flow = self.flows.borrow().get(id)?.clone();
        let (bytes_in, bytes_out) = flow.moved.get();
        Some(FlowFacts {
            client: flow.header.client,
            listener: flow.header.listener,
            target: Some(flow.target.name()),
            bytes_in,
            bytes_out,
            waits_for: (!flow.is_connected()).then_some(WaitsFor::Dial),
        })
    }
}
