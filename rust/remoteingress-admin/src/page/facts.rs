//! What the page is rendered from.

use remoteingress_config::overview::Overview;
use serde::Deserialize;
use serde_json::Value;

/// Facts that the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// What runs here, and its status.
    pub overview: &'a Overview,
    /// Ids of the edges that a hub allows.
    pub allowed: &'a [String],
    /// Events, oldest first.
    pub events: &'a [EventLine],
    /// The time now, in ms since 1970.
    pub now: u64,
}

/// An event, as the page shows it without script.
#[derive(Clone, Debug, Deserialize)]
pub struct EventLine {
    /// Time of the event, in ms since 1970.
    pub at: u64,
    /// Name of the event.
    #[serde(rename = "event")]
    pub name: String,
    /// Data of the event.
    pub data: Value,
}
