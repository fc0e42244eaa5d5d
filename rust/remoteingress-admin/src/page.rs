//! The status page: HTML that is complete without script, rendered from the typed status, and the script and style
//! beside it. The sources of the script are in `page/`; `npm run generate` compiles them to `page/out/`.

pub mod advice;
mod edge;
mod facts;
mod format;
mod html;
mod hub;
mod pools;
mod problems;
mod shell;
mod table;

pub use facts::{EventLine, Page};

use html::Html;

/// The header `content-security-policy` of the page: nothing but its own script, style and server, and nothing inline.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page as a whole.
#[must_use]
pub fn render(page: &Page<'_>) -> String {
    let mut html = Html::default();
    shell::head(&mut html, page);
    match (&page.overview.hub, &page.overview.edge) {
        (Some(status), _) => hub::body(&mut html, page, status),
        (None, Some(status)) => edge::body(&mut html, page, status),
        (None, None) => {
            html.raw("<p>It starts or ends: there is no status now.</p>");
        }
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
        "pools.js" => (SCRIPT, include_str!("../page/out/pools.js")),
        "problems.js" => (SCRIPT, include_str!("../page/out/problems.js")),
        "ports.js" => (SCRIPT, include_str!("../page/out/ports.js")),
        "rates.js" => (SCRIPT, include_str!("../page/out/rates.js")),
        "refusals.js" => (SCRIPT, include_str!("../page/out/refusals.js")),
        "shares.js" => (SCRIPT, include_str!("../page/out/shares.js")),
        "sparkline.js" => (SCRIPT, include_str!("../page/out/sparkline.js")),
        "streams.js" => (SCRIPT, include_str!("../page/out/streams.js")),
        _ => return None,
    };
    Some(file)
}

#[cfg(test)]
mod tests;
