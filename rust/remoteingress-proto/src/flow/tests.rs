//! The wire format by its golden bytes, fragments in any order, and the tables against plain models (P24).

mod fragments;
mod tables;
mod wire;
