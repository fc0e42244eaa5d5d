//! The page of an edge.

use std::collections::BTreeMap;

use remoteingress_config::status::EdgeStatus;

use super::{
    facts::Page,
    format::{Bytes, Count, RoundTrip, transport},
    html::Html,
    problems, shell,
    table::{Tone, facts, state},
};

/// Writes the sections of an edge.
pub(super) fn body(html: &mut Html, page: &Page<'_>, status: &EdgeStatus) {
    let calm = "The hub is connected, and every port is open.";
    problems::list(html, &problems::of_edge(status, page.events), calm);
    let over = status.transport.map_or_else(
        || "no session".to_owned(),
        |over| format!("over {}", transport(over)),
    );
    shell::tiles(html, |html| {
        shell::tile(
            html,
            "tile-rtt",
            "Round trip to the hub",
            &RoundTrip(status.rtt_ms).to_string(),
            &over,
        );
        let streams = Count(status.active_streams as u64).to_string();
        let flows = format!("and {} UDP flows", status.udp.active_flows);
        shell::tile(html, "tile-streams", "Streams open", &streams, &flows);
        shell::tile(
            html,
            "tile-in",
            "In",
            &Bytes(status.bytes_in).to_string(),
            "from clients to targets",
        );
        shell::tile(
            html,
            "tile-out",
            "Out",
            &Bytes(status.bytes_out).to_string(),
            "from targets to clients",
        );
        let held = Count(status.held_clients as u64).to_string();
        shell::tile(
            html,
            "tile-held",
            "Clients held",
            &held,
            "waiting for the hub",
        );
        let refused = Count(status.rejected.values().sum()).to_string();
        shell::tile(html, "tile-refused", "Refused", &refused, "since the start");
    });
    html.raw("<div class=\"columns\"><div class=\"wide\">");
    hub(html, status);
    shell::streams(html, false);
    shell::ports(html, &[("", &status.ports)], false);
    html.raw("</div><div class=\"narrow\">");
    shell::events(html, page.events);
    let rejected: BTreeMap<_, _> = status
        .rejected
        .iter()
        .map(|(reason, times)| (reason.as_str(), *times))
        .collect();
    shell::refusals(html, &rejected);
    html.raw("</div></div>");
}

fn hub(html: &mut Html, status: &EdgeStatus) {
    html.raw(
        "<section class=\"panel\" aria-labelledby=\"heading-hub\"><div class=\"head\"><h2 id=\"heading-hub\">Hub</h2>\
         <p class=\"count\"><span id=\"hub-state\" class=\"pill\">",
    );
    match status.connected {
        true => state(html, Tone::Good, "Connected"),
        false => state(html, Tone::Bad, "Away"),
    }
    html.raw("</span></p></div><dl class=\"facts broad\" id=\"hub-facts\">");
    let unknown = || "unknown".to_owned();
    let dials = || "none: the hub dials".to_owned();
    let mut lines = vec![
        ("Address", status.hub_address.clone().unwrap_or_else(dials)),
        (
            "Transport",
            status.transport.map_or("none", transport).to_owned(),
        ),
        ("Round trip", RoundTrip(status.rtt_ms).to_string()),
        ("Sessions", Count(status.sessions as u64).to_string()),
        (
            "Reconnects",
            format!(
                "{}, resumed {}",
                Count(status.reconnects),
                Count(status.resumed)
            ),
        ),
        ("Dialled by", status.dialled_by.as_str().to_owned()),
        (
            "Public address",
            status
                .public_address
                .map_or_else(unknown, |address| address.to_string()),
        ),
        ("Streams in all", Count(status.total_streams).to_string()),
    ];
    lines.extend(
        status
            .transport_reason
            .clone()
            .map(|reason| ("Last change of transport", reason)),
    );
    lines.extend(status.proxy.clone().map(|proxy| ("Proxy", proxy)));
    facts(html, &lines);
    html.raw("</dl></section>");
}
