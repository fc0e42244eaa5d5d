//! What the doctor concludes from what it has seen. Nothing here looks at anything itself.

pub mod machine;
pub mod peer;
pub mod target;
pub mod tunnel;
