//! What the lists of one edge may still have.

use crate::error::CodedError;

/// One configuration message carries them all.
const MAX_ENTRIES_PER_EDGE: usize = 4_096;
/// As many ports as there are of either protocol, where none is on several addresses.
const MAX_PORTS_PER_EDGE: usize = 2 * u16::MAX as usize;

/// Entries and ports that the lists of an edge may still have, TCP and UDP together.
#[derive(Debug)]
pub(in super::super) struct Room {
    entries: usize,
    ports: usize,
}

impl Room {
    /// That of an edge without a port.
    pub(in super::super) const fn of_edge() -> Self {
        Self {
            entries: MAX_ENTRIES_PER_EDGE,
            ports: MAX_PORTS_PER_EDGE,
        }
    }

    /// Takes the room of the entry at `path`, which has so many ports.
    pub(super) fn take(&mut self, path: &str, ports: usize) -> Result<(), CodedError> {
        self.entries = self.entries.checked_sub(1).ok_or_else(|| {
            let problem = format!(
                "an edge has at most {MAX_ENTRIES_PER_EDGE} of these, TCP and UDP together; write neighbours as a range"
            );
            CodedError::invalid_config(path, problem)
        })?;
        self.ports = self.ports.checked_sub(ports).ok_or_else(|| {
            let problem = format!(
                "an edge has at most {MAX_PORTS_PER_EDGE} ports, TCP and UDP together; one on several addresses counts at each"
            );
            CodedError::invalid_config(path, problem)
        })?;
        Ok(())
    }
}
