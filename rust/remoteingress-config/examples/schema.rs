//! Prints the interface as JSON Schema, for `scripts/generate.mjs`.

use std::io::{self, Write};

fn main() -> io::Result<()> {
    writeln!(io::stdout(), "{}", remoteingress_config::schema::document())
}
