//! The store against files as others write them: SQLite through other connections and other programs, databases of
//! countries through an encoder of our own and `mmdblookup`.

#![expect(
    clippy::unwrap_used,
    clippy::unwrap_in_result,
    clippy::print_stderr,
    reason = "helpers of tests panic and tell what they skip, as tests do"
)]

mod damage;
mod folder;
mod geo;
mod geo_damage;
mod rows;
mod state;
mod state_damage;
mod state_kill;
mod watch;
