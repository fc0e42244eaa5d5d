//! The pools of a hub, and their targets. `page/pools.ts` has the same for the page that is live.

use remoteingress_config::{
    pool_status::{PoolStatus, TargetState, TargetStatus},
    status::HubStatus,
};

use super::{
    advice,
    format::{Count, RoundTrip},
    html::Html,
    table::{Column, Section, Tone, cell, empty, row_header, section, state, text_cell},
};

const ROWS_SHOWN: usize = 200;

const COLUMNS: &[Column] = &[
    ("Target", "name"),
    ("Pool", "mono"),
    ("State", "state"),
    ("Streams", "number"),
    ("New streams", "share"),
    ("Failed", "number"),
    ("Connect", "number"),
    ("Region", ""),
];

/// Writes the section, which is hidden where there is no pool.
pub(super) fn body(html: &mut Html, status: &HubStatus) {
    html.raw("<div id=\"pools-box\"");
    if status.pools.is_empty() {
        html.raw(" hidden");
    }
    html.raw(">");
    let about = Section {
        id: "pools",
        title: "Pools",
        caption: "Targets of pools with their states, those that take no streams first",
    };
    let mut rows: Vec<(&PoolStatus, &TargetStatus)> = status
        .pools
        .iter()
        .flat_map(|pool| pool.targets.iter().map(move |target| (pool, target)))
        .collect();
    rows.sort_by_key(|(_, target)| rank(target.state));
    section(html, &about, "", COLUMNS, |html| {
        if rows.is_empty() {
            empty(html, COLUMNS, "No pool has a target.");
        }
        for (pool, target) in rows.iter().take(ROWS_SHOWN) {
            html.raw("<tr role=\"row\">");
            row(html, pool, target);
            html.raw("</tr>");
        }
        if rows.len() > ROWS_SHOWN {
            empty(
                html,
                COLUMNS,
                "More targets are in <a href=\"api/v1/pools\">the pools as JSON</a>.",
            );
        }
    });
    html.raw("</div>");
}

fn row(html: &mut Html, pool: &PoolStatus, target: &TargetStatus) {
    row_header(html, COLUMNS[0], |html| {
        html.text(&target.id);
    });
    text_cell(html, COLUMNS[1], &pool.name);
    cell(html, COLUMNS[2], |html| {
        let (tone, word) = shown(target.state);
        state(html, tone, word);
        let advice = advice::of_target(target.state.as_str());
        html.raw("<span class=\"note\">");
        if let (false, Some(error)) = (target.state == TargetState::Up, &target.check_error) {
            html.raw("Last check: ").text(error).raw(". ");
        }
        html.text(advice).raw("</span>");
    });
    text_cell(html, COLUMNS[3], Count(target.active_streams.into()));
    let all = pool.targets.iter().map(|target| target.total_streams).sum();
    cell(html, COLUMNS[4], |html| {
        share(html, target.total_streams, all);
    });
    text_cell(html, COLUMNS[5], Count(target.failed_streams));
    text_cell(html, COLUMNS[6], RoundTrip(target.connect_ms));
    text_cell(html, COLUMNS[7], target.region.as_deref().unwrap_or("–"));
}

/// Writes a part of all, as a figure and a bar. Without script it is that since the start.
fn share(html: &mut Html, own: u64, all: u64) {
    if all == 0 {
        html.raw("–");
        return;
    }
    let percent = u128::from(own) * 100 / u128::from(all);
    html.raw("<span class=\"figure\">").text(percent);
    html.raw(
        " %</span><svg class=\"bar-of\" viewBox=\"0 0 100 6\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"whole\" width=\"100\" height=\"6\"/><rect class=\"part\" height=\"6\" width=\"",
    );
    html.text(percent).raw("\"/></svg>");
}

/// Those that need attention first.
fn rank(state: TargetState) -> u8 {
    match shown(state).0 {
        Tone::Bad => 0,
        Tone::Warning => 1,
        Tone::Good => 2,
    }
}

/// How a state is meant, and its word.
pub(super) fn shown(state: TargetState) -> (Tone, &'static str) {
    match state {
        TargetState::Up => (Tone::Good, "Up"),
        TargetState::Full => (Tone::Warning, "Full"),
        TargetState::Weightless => (Tone::Warning, "No weight"),
        TargetState::Drain => (Tone::Warning, "Draining"),
        TargetState::Leaving => (Tone::Warning, "Leaving"),
        TargetState::Dead => (Tone::Bad, "Dead"),
        TargetState::Down => (Tone::Bad, "Down"),
        TargetState::Ejected => (Tone::Bad, "Ejected"),
        TargetState::Trial => (Tone::Warning, "On trial"),
    }
}
