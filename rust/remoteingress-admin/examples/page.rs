//! Prints the status page for a status on stdin, so that a browser's test needs no hub with a thousand edges.

use std::io::{Read as _, Write as _};

use remoteingress_admin::page::{Page, Subject, render};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let status: serde_json::Value = serde_json::from_str(&text)?;
    let hub = serde_json::from_value(status["hub"].clone());
    let edge = serde_json::from_value(status["edge"].clone());
    let subject = match (&hub, &edge) {
        (Ok(hub), _) => Subject::Hub(hub, &[]),
        (_, Ok(edge)) => Subject::Edge(edge),
        (Err(error), Err(_)) => return Err(error.to_string().into()),
    };
    let (started_at, now) = (
        status["startedAt"].as_u64().unwrap_or(0),
        status["now"].as_u64().unwrap_or(0),
    );
    let page = Page {
        version: "0.3.0",
        started_at,
        now,
        subject,
        events: &[],
    };
    std::io::stdout().write_all(render(&page).as_bytes())?;
    Ok(())
}
