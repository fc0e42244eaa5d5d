//! Pools and their picks as a hub sees them, over thousands of picks in virtual time.

mod options;
mod pick;
mod reload;
mod restart;
mod scan;
mod world;
