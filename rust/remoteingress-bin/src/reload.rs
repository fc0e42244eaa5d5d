//! What is said of a configuration that was read again.

use remoteingress_config::Reloaded;

/// Says what of a configuration that was read again applies, and what doesn't.
pub(crate) fn log_reload<C>(reloaded: &Reloaded<C>) {
    let applied = reloaded.applied.join(", ");
    if !applied.is_empty() {
        tracing::info!(applied, "changed settings apply from now on");
    }
    let fields = reloaded.needs_restart.join(", ");
    if !fields.is_empty() {
        tracing::warn!(
            fields,
            "these settings have changed in the file and keep their old values: restart the process to apply them"
        );
    }
}
