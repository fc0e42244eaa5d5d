//! The frame of the page, which hub and edge share, and the tables that both have.

use std::{borrow::Cow, collections::BTreeMap};

use remoteingress_config::{
    overview::Role,
    port_status::PortStatus,
    reasons::{PortState, Protocol},
};
use serde_json::Value;

use super::{
    advice,
    facts::{EventLine, Page},
    format::{Count, Length, Utc},
    html::Html,
    table::{Column, Section, Tone, cell, empty, row_header, section, state, text_cell},
};

/// More lines than anybody reads without script.
const LINES_SHOWN: usize = 200;

/// Writes everything before the sections: head, icons, header.
pub(super) fn head(html: &mut Html, page: &Page<'_>) {
    let title = title(page);
    let has_status = page.overview.hub.is_some() || page.overview.edge.is_some();
    html.raw("<!doctype html><html lang=\"en\" data-role=\"")
        .text(page.overview.role.as_str());
    html.raw(
        "\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><meta name=\"referrer\" content=\"no-referrer\"><title>",
    );
    html.text(&title).raw(
        " · remoteingress</title>\
         <link rel=\"icon\" href=\"data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 32 32'%3E\
         %3Crect width='32' height='32' rx='8' fill='%230f766e'/%3E\
         %3Cpath d='M7 16h18M18 9l7 7-7 7' fill='none' stroke='%23fff' stroke-width='3'/%3E%3C/svg%3E\">\
         <link rel=\"stylesheet\" href=\"page/page.css\">",
    );
    html.raw(if has_status {
        "<script type=\"module\" src=\"page/page.js\"></script>\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript></head><body>"
    } else {
        "<meta http-equiv=\"refresh\" content=\"2\"></head><body>"
    });
    html.raw(ICONS);
    html.raw(
        "<a class=\"skip\" href=\"#main\">Skip to content</a><header class=\"bar\">\
         <span class=\"brand\"><svg class=\"mark\" viewBox=\"0 0 32 32\" aria-hidden=\"true\">\
         <rect width=\"32\" height=\"32\" rx=\"8\"/><path d=\"M7 16h18M18 9l7 7-7 7\"/></svg>remoteingress</span><h1>",
    );
    html.text(&title)
        .raw("</h1><span class=\"meta\">version <span id=\"version\">")
        .text(&page.overview.version);
    html.raw("</span></span><span class=\"meta\">up <span id=\"uptime\">");
    html.text(Length(page.now.saturating_sub(page.overview.started_at)));
    html.raw("</span></span><span class=\"live pill\" id=\"live\" data-tone=\"muted\">as of ")
        .text(Utc(page.now));
    html.raw(
        " UTC</span></header><p id=\"alert\" class=\"alert\" role=\"alert\" hidden></p>\
         <p id=\"announcements\" class=\"unseen\" role=\"status\" aria-live=\"polite\"></p>\
         <main id=\"main\" tabindex=\"-1\" data-advice=\"",
    );
    html.text(advice::all(page.overview)).raw("\">");
}

fn title(page: &Page<'_>) -> String {
    match (page.overview.role, &page.overview.edge) {
        (Role::Hub, _) => "Hub".to_owned(),
        (Role::Edge, Some(status)) => format!("Edge {}", status.edge_id),
        // It starts or ends.
        (Role::Edge, None) => "Edge".to_owned(),
    }
}

/// Writes everything after the sections.
pub(super) fn end(html: &mut Html) {
    html.raw(
        "</main><footer><nav aria-label=\"Data\"><a href=\"api/v1/status\">Status as JSON</a>\
         <a href=\"api/v1/events\">Events</a><a href=\"metrics\">Metrics</a>\
         <a href=\"api/v1/openapi.json\">API</a></nav></footer></body></html>",
    );
}

/// One shape for each tone, so that colour is never the only difference.
const ICONS: &str = "<svg class=\"sprite\" aria-hidden=\"true\">\
     <symbol id=\"icon-good\" viewBox=\"0 0 16 16\"><circle cx=\"8\" cy=\"8\" r=\"6\"/></symbol>\
     <symbol id=\"icon-warning\" viewBox=\"0 0 16 16\"><path d=\"M8 1.5 15 14H1z\"/></symbol>\
     <symbol id=\"icon-bad\" viewBox=\"0 0 16 16\">\
     <path d=\"m3.4 1.3 4.6 4.6 4.6-4.6 2.1 2.1L10.1 8l4.6 4.6-2.1 2.1L8 10.1l-4.6 4.6-2.1-2.1L5.9 8 1.3 3.4z\"/>\
     </symbol><symbol id=\"icon-muted\" viewBox=\"0 0 16 16\"><rect x=\"2\" y=\"6\" width=\"12\" height=\"4\"/></symbol></svg>";

/// Opens the row of figures.
pub(super) fn tiles(html: &mut Html, fill: impl FnOnce(&mut Html)) {
    html.raw("<section class=\"tiles\" aria-label=\"Overview\">");
    fill(html);
    html.raw("</section>");
}

/// Writes one figure; `id` is that of its value.
pub(super) fn tile(
    html: &mut Html,
    id: &'static str,
    label: &'static str,
    value: &str,
    note: &str,
) {
    html.raw("<div class=\"tile\" id=\"")
        .text(id)
        .raw("-box\"><div class=\"label\">")
        .text(label);
    html.raw("</div><div class=\"value\" id=\"")
        .text(id)
        .raw("\">")
        .text(value);
    html.raw("</div><div class=\"note\" id=\"")
        .text(id)
        .raw("-note\">")
        .text(note)
        .raw("</div></div>");
}

/// Writes the table of ports, failed ones first.
pub(super) fn ports(html: &mut Html, edges: &[(&str, &[PortStatus])], is_hub: bool) {
    let columns: &[Column] = if is_hub {
        &[
            ("Port", "mono"),
            ("Edge", "mono"),
            ("State", "state"),
            ("Error", "wrap"),
        ]
    } else {
        &[("Port", "mono"), ("State", "state"), ("Error", "wrap")]
    };
    let about = Section {
        id: "ports",
        title: "Ports",
        caption: "Ports with their states, failed ones first",
    };
    let all = || {
        edges
            .iter()
            .flat_map(|(id, ports)| ports.iter().map(move |port| (*id, port)))
    };
    let rank = |port: &PortStatus| match port.state {
        PortState::Failed => 0,
        PortState::Draining => 1,
        PortState::Bound => 2,
    };
    section(html, &about, "", columns, |html| {
        let mut lines: Vec<_> = all().collect();
        lines.sort_by_key(|(_, port)| rank(port));
        if lines.is_empty() {
            empty(html, columns, "No port is assigned.");
        }
        for (id, port) in lines.into_iter().take(LINES_SHOWN) {
            html.raw("<tr role=\"row\">");
            row_header(html, ("Port", "mono"), |html| {
                html.text(port.protocol.as_str()).raw(" ").text(port.port);
                if let Some(address) = port.bind_address {
                    html.raw(" on ").text(address);
                }
            });
            if is_hub {
                text_cell(html, ("Edge", "mono"), id);
            }
            cell(html, ("State", "state"), |html| match port.state {
                PortState::Failed => state(html, Tone::Bad, "Failed"),
                PortState::Draining => state(html, Tone::Warning, "Draining"),
                PortState::Bound => state(html, Tone::Good, "Bound"),
            });
            cell(html, ("Error", "wrap"), |html| match &port.error {
                Some(error) => {
                    html.text(error.code.as_str())
                        .raw(": ")
                        .text(&error.message);
                }
                None => {
                    html.raw("–");
                }
            });
            html.raw("</tr>");
        }
    });
}

/// Writes the table of live streams, which only the script fills.
pub(super) fn streams(html: &mut Html, is_hub: bool) {
    let hub: &[Column] = &[
        ("Client", ""),
        ("Edge", ""),
        ("Port", ""),
        ("Target", ""),
        ("Transport", ""),
        ("Age", "number"),
        ("In", "number"),
        ("Out", "number"),
        ("Tier", ""),
        ("Waits for", ""),
    ];
    let edge: Vec<Column> = hub
        .iter()
        .copied()
        .filter(|(label, _)| !matches!(*label, "Edge" | "Target"))
        .collect();
    let columns = if is_hub { hub } else { &edge };
    let about = Section {
        id: "streams",
        title: "Live streams",
        caption: "Streams that are open now, oldest first",
    };
    section(html, &about, "", columns, |html| {
        let hint = "Without script: <a href=\"api/v1/streams?limit=50\">the oldest 50 as JSON</a>.";
        empty(html, columns, hint);
    });
}

/// Writes the table of refusals.
pub(super) fn refusals(html: &mut Html, rejected: &BTreeMap<&'static str, u64>) {
    let columns = &[
        ("Reason", "mono"),
        ("Times", "number"),
        ("Since opened", "number"),
    ];
    let about = Section {
        id: "refusals",
        title: "Refusals",
        caption: "Refusals by reason",
    };
    section(html, &about, "", columns, |html| {
        if rejected.is_empty() {
            empty(html, columns, "Nothing was refused.");
        }
        for (reason, times) in rejected {
            html.raw("<tr role=\"row\">");
            row_header(html, columns[0], |html| {
                html.raw("<code>")
                    .text(reason)
                    .raw("</code><span class=\"note\">");
                html.text(advice::of_reason(reason)).raw("</span>");
            });
            text_cell(html, columns[1], Count(*times));
            text_cell(html, columns[2], "–");
            html.raw("</tr>");
        }
    });
}

/// Writes the table of events, newest first.
pub(super) fn events(html: &mut Html, events: &[EventLine]) {
    let columns = &[("Time", "time"), ("Event", "wrap")];
    let about = Section {
        id: "events",
        title: "Events",
        caption: "Events, newest first",
    };
    section(html, &about, "", columns, |html| {
        if events.is_empty() {
            empty(html, columns, "Nothing has happened yet.");
        }
        for EventLine { at, name, data } in events.iter().rev().take(LINES_SHOWN) {
            html.raw("<tr role=\"row\">");
            text_cell(html, columns[0], Utc(*at));
            row_header(html, columns[1], |html| {
                html.raw("<code>")
                    .text(name)
                    .raw("</code><span class=\"note\">")
                    .text(plain(data))
                    .raw("</span>");
            });
            html.raw("</tr>");
        }
    });
}

/// Data of an event as `name value, …`, not longer than anybody reads.
fn plain(data: &Value) -> Cow<'_, str> {
    let Value::Object(fields) = data else {
        return Cow::Borrowed("");
    };
    let parts = fields.iter().map(|(name, value)| match value.as_str() {
        Some(text) => format!("{name} {text}"),
        None => format!("{name} {value}"),
    });
    Cow::Owned(
        parts
            .collect::<Vec<_>>()
            .join(", ")
            .chars()
            .take(300)
            .collect(),
    )
}

/// Number of ports in a state.
pub(super) fn ports_in(ports: &[PortStatus], state: PortState) -> usize {
    ports.iter().filter(|port| port.state == state).count()
}

/// The first ports that are open, as text.
pub(super) fn open_ports(ports: &[PortStatus]) -> String {
    let open = ports.iter().filter(|port| port.state != PortState::Failed);
    let names = open.take(12).map(|port| match port.protocol {
        Protocol::Tcp => format!("tcp {}", port.port),
        Protocol::Udp => format!("udp {}", port.port),
    });
    names.collect::<Vec<_>>().join(", ")
}
