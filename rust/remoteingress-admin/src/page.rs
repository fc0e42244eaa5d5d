//! The status page: HTML that is complete without script, rendered from the typed status, and the script and style
//! beside it. The sources of the script are in `page/`; `npm run generate` compiles them to `page/out/`.

mod edge;
mod format;
mod html;
mod hub;
mod shell;
mod table;

use remoteingress_config::status::{EdgeStatus, HubStatus};
use serde_json::Value;

use html::Html;

/// The header `content-security-policy` of the page: nothing but its own script, style and server, and nothing inline.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Facts that the page shows.
#[derive(Clone, Copy, Debug)]
pub struct Page<'a> {
    /// Version of the binary.
    pub version: &'a str,
    /// Start of hub or edge, in ms since 1970.
    pub started_at: u64,
    /// The time now, in ms since 1970.
    pub now: u64,
    /// Whose page it is, with its status.
    pub subject: Subject<'a>,
    /// Events, oldest first.
    pub events: &'a [EventLine],
}

/// Whose page it is.
#[derive(Clone, Copy, Debug)]
pub enum Subject<'a> {
    /// A hub, and the ids of the edges that it allows.
    Hub(&'a HubStatus, &'a [String]),
    /// An edge.
    Edge(&'a EdgeStatus),
}

/// An event, as the page shows it without script.
#[derive(Clone, Debug)]
pub struct EventLine {
    /// Time of the event, in ms since 1970.
    pub at: u64,
    /// Name of the event.
    pub name: String,
    /// Data of the event.
    pub data: Value,
}

/// The page as a whole.
#[must_use]
pub fn render(page: &Page<'_>) -> String {
    let mut html = Html::default();
    shell::head(&mut html, page);
    match page.subject {
        Subject::Hub(status, allowed) => hub::body(&mut html, page, status, allowed),
        Subject::Edge(status) => edge::body(&mut html, page, status),
    }
    shell::end(&mut html);
    html.finish()
}

/// A file that the page loads: its content type and its content.
#[must_use]
pub fn asset(name: &str) -> Option<(&'static str, &'static str)> {
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    let file = match name {
        "page.css" => ("text/css; charset=utf-8", include_str!("../page/page.css")),
        "dom.js" => (SCRIPT, include_str!("../page/out/dom.js")),
        "edges.js" => (SCRIPT, include_str!("../page/out/edges.js")),
        "events.js" => (SCRIPT, include_str!("../page/out/events.js")),
        "feed.js" => (SCRIPT, include_str!("../page/out/feed.js")),
        "format.js" => (SCRIPT, include_str!("../page/out/format.js")),
        "model.js" => (SCRIPT, include_str!("../page/out/model.js")),
        "overview.js" => (SCRIPT, include_str!("../page/out/overview.js")),
        "page.js" => (SCRIPT, include_str!("../page/out/page.js")),
        "ports.js" => (SCRIPT, include_str!("../page/out/ports.js")),
        "rates.js" => (SCRIPT, include_str!("../page/out/rates.js")),
        "refusals.js" => (SCRIPT, include_str!("../page/out/refusals.js")),
        "sparkline.js" => (SCRIPT, include_str!("../page/out/sparkline.js")),
        "streams.js" => (SCRIPT, include_str!("../page/out/streams.js")),
        _ => return None,
    };
    Some(file)
}

#[cfg(test)]
mod tests;
