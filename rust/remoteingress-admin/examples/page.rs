//! Prints the status page for an answer of `/api/v1/status` on stdin, so that a test needs no hub with a thousand edges.

use std::io::{Read as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use remoteingress_admin::page::{Page, render};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let overview = serde_json::from_str(&text)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let page = Page {
        overview: &overview,
        allowed: &[],
        events: &[],
        now: u64::try_from(now)?,
    };
    std::io::stdout().write_all(render(&page).as_bytes())?;
    Ok(())
}
