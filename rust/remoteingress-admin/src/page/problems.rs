//! What is wrong now and what to do about it. `page/problems.ts` has the same for the page that is live.

use std::collections::BTreeMap;

use remoteingress_config::{
    pool_status::{PoolStatus, TargetState, TargetStatus},
    port_status::PortStatus,
    reasons::PortState,
    status::{EdgeStatus, HubStatus},
};

use super::{
    advice::{self, HubAway, counted, names},
    facts::EventLine,
    html::Html,
    table::{Tone, state},
};

/// One line of the list.
pub(super) struct Problem {
    tone: Tone,
    title: String,
    seen: String,
    advice: String,
}

/// Problems of a hub; `away` are allowed edges that neither are connected nor dialled in vain.
pub(super) fn of_hub(status: &HubStatus, away: &[&str]) -> Vec<Problem> {
    let mut problems: Vec<_> = status.draining.then(|| drains("hub")).into_iter().collect();
    if !away.is_empty() {
        problems.push(Problem {
            tone: Tone::Bad,
            title: format!("{} away", counted(away.len(), "edge")),
            seen: names(away.iter().map(|id| (*id).to_owned())),
            advice: advice::of_away_edges(status.tunnel_port.into()),
        });
    }
    let mut unreachable = BTreeMap::<_, Vec<_>>::new();
    for edge in &status.unreachable_edges {
        let known = unreachable.entry(edge.code.as_str()).or_default();
        known.push(edge);
    }
    for (code, edges) in unreachable {
        let ids = names(edges.iter().map(|edge| edge.edge_id.as_str().to_owned()));
        problems.push(Problem {
            tone: Tone::Bad,
            title: format!("{} unreachable", counted(edges.len(), "edge")),
            seen: format!("{ids}: {code}, {}", edges[0].reason),
            advice: advice::of_code(code).to_owned(),
        });
    }
    let ports = status.connected_edges.iter().flat_map(|edge| {
        let ports = edge.ports.iter();
        ports.map(|port| (Some(edge.edge_id.as_str()), port))
    });
    problems.extend(of_ports(ports));
    problems.extend(of_sources(status));
    problems.extend(of_pools(&status.pools));
    problems
}

/// Sources of targets and countries that can't be read, so that earlier data count.
fn of_sources(status: &HubStatus) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut add = |tone, title: String, seen, advice: &str| {
        problems.push(Problem {
            tone,
            title,
            seen,
            advice: advice.to_owned(),
        });
    };
    if let Some(db) = &status.routing_db {
        if let Some(error) = &db.error {
            let title = "routing.db not read".to_owned();
            add(Tone::Bad, title, error.clone(), advice::STAYS);
        }
        if db.refused_rows > 0 {
            let rows = db.refused.iter().map(|row| match &row.id {
                Some(id) => format!("{id} ({})", row.reason),
                None => format!("row {} ({})", row.row, row.reason),
            });
            let title = format!("{} refused", counted(db.refused.len(), "row"));
            add(Tone::Warning, title, names(rows), advice::OF_ROWS);
        }
    }
    if let Some(error) = status.geo.as_ref().and_then(|geo| geo.error.as_ref()) {
        let title = "Countries not read".to_owned();
        add(Tone::Bad, title, error.clone(), advice::STAYS);
    }
    for pool in &status.pools {
        let failed = pool.discovery.as_ref();
        if let Some(error) = failed.and_then(|discovery| discovery.error.as_ref()) {
            let title = "DNS failed".to_owned();
            let seen = format!("{}: {error}", pool.name);
            add(Tone::Warning, title, seen, advice::OF_DISCOVERY);
        }
    }
    problems
}

/// Pools that take no streams, and targets that are out of the others.
fn of_pools(pools: &[PoolStatus]) -> Vec<Problem> {
    let is_up = |target: &TargetStatus| target.state == TargetState::Up;
    let closed = pools.iter().filter(|pool| !pool.targets.iter().any(is_up));
    let closed: Vec<String> = closed.map(|pool| pool.name.to_string()).collect();
    let mut problems = Vec::new();
    if !closed.is_empty() {
        problems.push(Problem {
            tone: Tone::Bad,
            title: format!("{} closed", counted(closed.len(), "pool")),
            seen: format!("{}: no target takes streams", names(closed.into_iter())),
            advice: advice::of_reason("noHealthyTarget").to_owned(),
        });
    }
    let mut out = BTreeMap::<_, Vec<String>>::new();
    for pool in pools {
        for target in pool.targets.iter().filter(|target| !is_up(target)) {
            let name = format!("{}/{}", pool.name, target.id);
            out.entry(target.state.as_str()).or_default().push(name);
        }
    }
    problems.extend(out.into_iter().map(|(state, targets)| Problem {
        tone: Tone::Warning,
        title: format!("{} out", counted(targets.len(), "target")),
        seen: format!("{}: {state}", names(targets.into_iter())),
        advice: advice::of_target(state).to_owned(),
    }));
    problems
}

/// Problems of an edge.
pub(super) fn of_edge(status: &EdgeStatus, events: &[EventLine]) -> Vec<Problem> {
    let mut problems: Vec<_> = status
        .draining
        .then(|| drains("edge"))
        .into_iter()
        .collect();
    if !status.connected && !status.draining {
        let last = events
            .iter()
            .rev()
            .find(|event| event.name == "tunnelDisconnected");
        let HubAway { seen, advice } = HubAway::new(last.map(|event| &event.data));
        problems.push(Problem {
            tone: Tone::Bad,
            title: "Hub away".to_owned(),
            seen,
            advice: advice.to_owned(),
        });
    }
    if status.held_clients > 0 {
        problems.push(Problem {
            tone: Tone::Warning,
            title: format!("{} held", counted(status.held_clients, "client")),
            seen: "they wait for the hub".to_owned(),
            advice: "They are served if it is back within holdTimeoutSecs, else refused."
                .to_owned(),
        });
    }
    problems.extend(of_ports(status.ports.iter().map(|port| (None, port))));
    problems
}

fn drains(end: &str) -> Problem {
    Problem {
        tone: Tone::Warning,
        title: "Draining".to_owned(),
        seen: format!("this {end} is about to stop, and takes no new clients"),
        advice: "It ends with its last stream, or after drainTimeoutSecs.".to_owned(),
    }
}

fn of_ports<'a>(ports: impl Iterator<Item = (Option<&'a str>, &'a PortStatus)>) -> Vec<Problem> {
    let mut failed = BTreeMap::<_, Vec<_>>::new();
    for (edge, port) in ports.filter(|(_, port)| port.state == PortState::Failed) {
        let code = port.error.as_ref().map(|error| error.code.as_str());
        failed
            .entry(code.unwrap_or_default())
            .or_default()
            .push((edge, port));
    }
    let problem = |(code, ports): (&str, Vec<(Option<&str>, &PortStatus)>)| {
        let name = |(edge, port): &(Option<&str>, &PortStatus)| {
            let port = format!("{} {}", port.protocol.as_str(), port.port);
            edge.map_or_else(|| port.clone(), |edge| format!("{port} of {edge}"))
        };
        let error = ports[0].1.error.as_ref();
        let message = error.map_or("", |error| &error.message);
        Problem {
            tone: Tone::Warning,
            title: format!("{} failed", counted(ports.len(), "port")),
            seen: format!("{}: {code}, {message}", names(ports.iter().map(name))),
            advice: advice::of_code(code).to_owned(),
        }
    };
    failed.into_iter().map(problem).collect()
}

/// Writes the list, or that there is nothing in it.
pub(super) fn list(html: &mut Html, problems: &[Problem], calm: &'static str) {
    html.raw(
        "<section class=\"attention\" aria-labelledby=\"heading-attention\">\
         <h2 id=\"heading-attention\" class=\"unseen\">Needs attention</h2><ul id=\"problems\">",
    );
    let all_well = Problem {
        tone: Tone::Good,
        title: "All well".to_owned(),
        seen: calm.to_owned(),
        advice: String::new(),
    };
    let shown = if problems.is_empty() {
        std::slice::from_ref(&all_well)
    } else {
        problems
    };
    for Problem {
        tone,
        title,
        seen,
        advice,
    } in shown
    {
        html.raw("<li data-tone=\"").text(tone.as_str()).raw("\">");
        state(html, *tone, title);
        html.raw("<span class=\"seen\">").text(seen);
        html.raw("</span><span class=\"advice\">").text(advice);
        html.raw("</span></li>");
    }
    html.raw("</ul></section>");
}
