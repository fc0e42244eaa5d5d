//! Metrics as text, made from the typed status: nothing is counted for them alone. Pure.
//!
//! docs/operations.md says what each one means.

mod common;
mod edge;
mod facts;
mod families;
mod hub;
mod pools;
#[cfg(test)]
mod tests;
mod tunnel;

pub use self::facts::Facts;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, prometheus_text, text};
use prometheus_client::registry::Registry;
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

/// The metrics as text.
///
/// # Errors
/// A label can't be written. None of those here fails.
pub fn render(facts: Facts, format: Format) -> Result<String, fmt::Error> {
    let role = Cow::Borrowed(facts.overview.role.as_str());
    let labels = std::iter::once((Cow::Borrowed("role"), role));
    let mut registry = Registry::with_prefix_and_labels("remoteingress", labels);
    registry.register_collector(Box::new(Collected(facts)));
    let mut text = String::new();
    match format {
        Format::Classic => prometheus_text::encode(&mut text, &registry)?,
        Format::OpenMetrics => text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

/// The facts, as the library collects from them.
#[derive(Debug)]
struct Collected(Facts);

impl Collector for Collected {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self(facts) = self;
        common::encode(&mut encoder, facts)?;
        if let Some(status) = &facts.overview.hub {
            hub::encode(&mut encoder, facts, status)?;
        }
        if let Some((status, id)) = facts.overview.edge.as_ref().zip(facts.edges.first()) {
            edge::encode(&mut encoder, status, id)?;
        }
        Ok(())
    }
}
