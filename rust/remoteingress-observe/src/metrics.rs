//! Metrics as text, made from the typed status: nothing is counted for them alone. Pure.
//!
//! docs/operations.md says what each one means.

mod common;
mod edge;
mod families;
mod hub;
#[cfg(test)]
mod tests;
mod tunnel;

use crate::histogram::Counts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;
use remoteingress_config::overview::Overview;
use remoteingress_proto::token::edge_id::EdgeId;
use std::borrow::Cow;
use std::fmt;

/// Form of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The classic text of Prometheus, version 0.0.4.
    Classic,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// As HTTP names it.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Classic => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// All that the metrics of one process are made from.
#[derive(Clone, Debug)]
pub struct Facts {
    /// What runs here, and its status.
    pub overview: Overview,
    /// The allowed edges; at an edge, itself.
    pub edges: Vec<EdgeId>,
    /// Restarts of the process by the program that drives it.
    pub restarts: u64,
    /// Times of dials to targets; a hub's.
    pub dial: Counts,
    /// Times until the first byte from the target.
    pub first_byte: Counts,
}

impl Facts {
    /// The metrics as text.
    ///
    /// # Errors
    /// A label can't be written. None of those here fails.
    pub fn text(self, format: Format) -> Result<String, fmt::Error> {
        let role = Cow::Borrowed(self.overview.role.as_str());
        let labels = std::iter::once((Cow::Borrowed("role"), role));
        let mut registry = Registry::with_prefix_and_labels("remoteingress", labels);
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        match format {
            Format::Classic => prometheus_text::encode(&mut text, &registry)?,
            Format::OpenMetrics => text::encode(&mut text, &registry)?,
        }
        Ok(text)
    }
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let overview = &self.overview;
        common::encode(&mut encoder, overview, self.restarts, &self.first_byte)?;
        if let Some(status) = &overview.hub {
            hub::encode(&mut encoder, status, &self.edges, &self.dial)?;
        }
        if let Some((status, id)) = overview.edge.as_ref().zip(self.edges.first()) {
            edge::encode(&mut encoder, status, id)?;
        }
        Ok(())
    }
}
