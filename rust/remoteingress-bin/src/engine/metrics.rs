//! The metrics of this process, whoever asks for them.

use super::Control;
use remoteingress_config::error::{CodedError, ErrorCode};
use remoteingress_observe::metrics::{Facts, Format, render};

/// The count of restarts, by the program that drives this process.
const RESTARTS: &str = "REMOTEINGRESS_RESTARTS";

/// The metrics as text. Streams are timed from the first call on.
pub(crate) async fn text(control: &Control, format: Format) -> Result<String, CodedError> {
    let times = control.times();
    times.turn_on();
    let facts = Facts {
        overview: control.overview().await,
        edges: control.edge_ids(),
        restarts: restarts(),
        dial: times.dial.counts(),
        first_byte: times.first_byte.counts(),
        pool_connects: control.pool_connects(),
        missing_pools: control.missing_pools(),
    };
    render(facts, format).map_err(|_| {
        let message = "failed to write the metrics; please report this";
        CodedError::new(ErrorCode::Internal, message)
    })
}

/// Without such a program there are none.
fn restarts() -> u64 {
    let told = std::env::var(RESTARTS).ok();
    told.and_then(|told| told.parse().ok()).unwrap_or_default()
}
