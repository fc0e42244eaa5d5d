//! The store against files as others write them: SQLite through other connections and other programs, databases of
//! countries through an encoder of our own and `mmdblookup`.

mod damage;
mod folder;
mod geo;
mod geo_damage;
mod mmdb;
mod rows;
mod watch;
