//! The page of a hub.

use std::collections::BTreeMap;

use remoteingress_config::{
    reasons::PortState,
    status::{ConnectedEdge, HubStatus, UnreachableEdge},
};

use super::{
    facts::Page,
    format::{Bytes, Count, Length, RoundTrip, Utc, transport},
    html::Html,
    pools, problems, shell,
    table::{Column, Section, Tone, cell, empty, facts, row_header, section, state, text_cell},
};

const ROWS_SHOWN: usize = 200;

const COLUMNS: &[Column] = &[
    ("Edge", "name"),
    ("State", "state"),
    ("Transport", ""),
    ("Round trip", "number"),
    ("Streams", "number"),
    ("In", "throughput"),
    ("Out", "throughput"),
    ("Ports", "number"),
];

/// The filter, which needs the script.
const TOOLS: &str = "<div class=\"tools\" id=\"edge-tools\" hidden><label for=\"edge-filter\" class=\"unseen\">\
     Filter edges by id, state, address or failed port</label><input id=\"edge-filter\" type=\"search\" \
     placeholder=\"Filter edges\" autocomplete=\"off\" spellcheck=\"false\"></div>";

/// An edge of the table, in the order of the table: those that need attention first.
enum Row<'a> {
    Away(&'a str),
    Unreachable(&'a UnreachableEdge),
    Connected(&'a ConnectedEdge),
}

impl<'a> Row<'a> {
    /// The id of an edge that is away.
    fn away(&self) -> Option<&'a str> {
        match self {
            Self::Away(id) => Some(id),
            Self::Unreachable(_) | Self::Connected(_) => None,
        }
    }
}

/// Writes the sections of a hub.
pub(super) fn body(html: &mut Html, page: &Page<'_>, status: &HubStatus) {
    let rows = rows(status, page.allowed);
    let away: Vec<_> = rows.iter().map_while(Row::away).collect();
    let calm = "Every edge is connected, and every port is open.";
    problems::list(html, &problems::of_hub(status, &away), calm);
    tiles(html, status, rows.len());
    html.raw("<div class=\"columns\"><div class=\"wide\">");
    edges(html, page, &rows);
    pools::body(html, status);
    shell::streams(html, true);
    let connected = &status.connected_edges;
    let ports: Vec<_> = connected
        .iter()
        .map(|edge| (edge.edge_id.as_str(), &*edge.ports))
        .collect();
    shell::ports(html, &ports, true);
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

fn tiles(html: &mut Html, status: &HubStatus, edges: usize) {
    let connected = &status.connected_edges;
    let count = |value: usize| Count(value as u64).to_string();
    shell::tiles(html, |html| {
        let of = format!("of {} edges", Count(edges as u64));
        shell::tile(
            html,
            "tile-edges",
            "Edges connected",
            &count(connected.len()),
            &of,
        );
        let flows: usize = connected.iter().map(|edge| edge.udp.active_flows).sum();
        let streams = connected.iter().map(|edge| edge.active_streams).sum();
        shell::tile(
            html,
            "tile-streams",
            "Streams open",
            &count(streams),
            &format!("and {flows} UDP flows"),
        );
        let bytes =
            |of: fn(&ConnectedEdge) -> u64| Bytes(connected.iter().map(of).sum()).to_string();
        shell::tile(
            html,
            "tile-in",
            "In",
            &bytes(|edge| edge.bytes_in),
            "from clients to targets",
        );
        shell::tile(
            html,
            "tile-out",
            "Out",
            &bytes(|edge| edge.bytes_out),
            "from targets to clients",
        );
        let failed = connected
            .iter()
            .map(|edge| shell::ports_in(&edge.ports, PortState::Failed))
            .sum();
        shell::tile(
            html,
            "tile-failed",
            "Ports failed",
            &count(failed),
            "of connected edges",
        );
        let refused = Count(status.rejected.values().sum()).to_string();
        shell::tile(html, "tile-refused", "Refused", &refused, "since the start");
    });
}

fn rows<'a>(status: &'a HubStatus, allowed: &'a [String]) -> Vec<Row<'a>> {
    let unreachable: BTreeMap<_, _> = status
        .unreachable_edges
        .iter()
        .map(|edge| (edge.edge_id.as_str(), edge))
        .collect();
    let connected: BTreeMap<_, _> = status
        .connected_edges
        .iter()
        .map(|edge| (edge.edge_id.as_str(), edge))
        .collect();
    let is_away = |id: &&str| !unreachable.contains_key(id) && !connected.contains_key(id);
    let away = allowed
        .iter()
        .map(String::as_str)
        .filter(is_away)
        .map(Row::Away);
    let missing = unreachable
        .iter()
        .filter(|(id, _)| !connected.contains_key(*id));
    away.chain(missing.map(|(_, edge)| Row::Unreachable(edge)))
        .chain(connected.values().map(|edge| Row::Connected(edge)))
        .collect()
}

fn edges(html: &mut Html, page: &Page<'_>, rows: &[Row<'_>]) {
    let about = Section {
        id: "edges",
        title: "Edges",
        caption: "Edges with state and traffic, those that need attention first",
    };
    section(html, &about, TOOLS, COLUMNS, |html| {
        if rows.is_empty() {
            empty(html, COLUMNS, "No edge is allowed.");
        }
        for row in rows.iter().take(ROWS_SHOWN) {
            html.raw("<tr role=\"row\">");
            match row {
                Row::Connected(edge) => connected_row(html, page, edge),
                Row::Away(id) => absent_row(html, id, Tone::Bad, "Away", ""),
                Row::Unreachable(edge) => {
                    let note = format!(
                        "{}: {} since {} UTC",
                        edge.code,
                        edge.reason,
                        Utc(edge.since)
                    );
                    absent_row(
                        html,
                        edge.edge_id.as_str(),
                        Tone::Warning,
                        "Unreachable",
                        &note,
                    );
                }
            }
            html.raw("</tr>");
        }
        if rows.len() > ROWS_SHOWN {
            empty(
                html,
                COLUMNS,
                "More edges are in <a href=\"api/v1/status\">the status as JSON</a>.",
            );
        }
    });
}

fn absent_row(html: &mut Html, id: &str, tone: Tone, word: &'static str, note: &str) {
    row_header(html, COLUMNS[0], |html| {
        html.text(id);
    });
    cell(html, COLUMNS[1], |html| {
        state(html, tone, word);
        html.raw("<span class=\"note\">").text(note).raw("</span>");
    });
    for column in &COLUMNS[2..] {
        text_cell(html, *column, "–");
    }
}

fn connected_row(html: &mut Html, page: &Page<'_>, edge: &ConnectedEdge) {
    row_header(html, COLUMNS[0], |html| {
        html.raw("<details><summary>")
            .text(edge.edge_id.as_str())
            .raw("</summary><dl class=\"facts\">");
        facts(
            html,
            &[
                ("Address", edge.remote_address.to_string()),
                ("Version", edge.version.clone()),
                (
                    "Connected for",
                    Length(page.now.saturating_sub(edge.connected_at)).to_string(),
                ),
                ("Dialled by", edge.dialled_by.as_str().to_owned()),
                ("Streams in all", Count(edge.total_streams).to_string()),
                ("Ports", shell::open_ports(&edge.ports)),
            ],
        );
        html.raw("</dl></details>");
    });
    let failed = shell::ports_in(&edge.ports, PortState::Failed);
    cell(html, COLUMNS[1], |html| match failed {
        0 => state(html, Tone::Good, "Connected"),
        _ => state(html, Tone::Warning, "Port failed"),
    });
    text_cell(html, COLUMNS[2], transport(edge.transport));
    text_cell(html, COLUMNS[3], RoundTrip(edge.rtt_ms));
    text_cell(html, COLUMNS[4], Count(edge.active_streams as u64));
    text_cell(html, COLUMNS[5], Bytes(edge.bytes_in));
    text_cell(html, COLUMNS[6], Bytes(edge.bytes_out));
    let bound = shell::ports_in(&edge.ports, PortState::Bound);
    let ports = if failed > 0 {
        format!("{bound} bound, {failed} failed")
    } else {
        format!("{bound} bound")
    };
    text_cell(html, COLUMNS[7], ports);
}
