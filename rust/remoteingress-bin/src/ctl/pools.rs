//! `ctl pools`: the pools of a hub and their targets, why a client would get which, and what operators say of them.

use super::query::{escaped, with_query};
use super::table::{Side, table};
use super::views::{lines, list, text};
use crate::terminal::plain;
use clap::{Args, Subcommand};
use remoteingress_admin::page::advice::{counted, names, of_target};
use serde_json::Value;
use std::net::IpAddr;

const LEFT: Side = Side::Left;
const RIGHT: Side = Side::Right;
const UP: &str = "up";

#[derive(Subcommand)]
pub(super) enum PoolsCommand {
    /// Which target a client would get, and of each one why or why not
    Explain {
        #[arg(long)]
        pool: String,
        /// IP address of the client
        #[arg(long)]
        client: IpAddr,
        /// Edge that the client comes to
        #[arg(long)]
        edge: Option<String>,
    },
    /// Give a target no new clients; those that it has may come back while their affinity lasts; the token is needed
    Drain(TargetArgs),
    /// Give a target nothing any more; the token is needed
    Dead {
        #[command(flatten)]
        target: TargetArgs,
        /// Reset the streams and end the flows that it has, too
        #[arg(long)]
        cut: bool,
    },
    /// Let a target take streams again; the token is needed
    Activate(TargetArgs),
}

#[derive(Args)]
pub(super) struct TargetArgs {
    #[arg(long)]
    pool: String,
    /// Id of the target, as `ctl pools` shows it
    #[arg(long)]
    target: String,
}

impl TargetArgs {
    fn path(&self, state: &str) -> String {
        let (pool, target) = (escaped(&self.pool), escaped(&self.target));
        format!("/api/v1/pools/{pool}/targets/{target}/{state}")
    }
}

/// Method and path.
pub(super) fn request(command: Option<&PoolsCommand>) -> (&'static str, String) {
    match command {
        None => ("GET", "/api/v1/pools".to_owned()),
        Some(PoolsCommand::Explain { pool, client, edge }) => {
            let client = Some(("client", escaped(&client.to_string())));
            let edge = edge.as_ref().map(|edge| ("edge", escaped(edge)));
            let path = format!("/api/v1/pools/{}/explain", escaped(pool));
            ("GET", with_query(&path, [client, edge]))
        }
        Some(PoolsCommand::Drain(target)) => ("POST", target.path("drain")),
        Some(PoolsCommand::Dead { target, cut }) => {
            let cut = cut.then(|| ("cut", "true".to_owned()));
            ("POST", with_query(&target.path("dead"), [cut, None]))
        }
        Some(PoolsCommand::Activate(target)) => ("POST", target.path("active")),
    }
}

/// The answer for people.
pub(super) fn view(command: Option<&PoolsCommand>, answer: &Value) -> String {
    match command {
        None => pools(list(&answer["pools"])),
        Some(PoolsCommand::Explain { .. }) => explained(answer),
        Some(PoolsCommand::Drain(_) | PoolsCommand::Dead { .. } | PoolsCommand::Activate(_)) => {
            told(answer)
        }
    }
}

fn connect_time(value: &Value) -> String {
    let millis = value.as_f64();
    millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.1}ms"))
}

/// A target's part of all streams that the pool has given, in percent.
fn share(target: &Value, all: u64) -> String {
    match target["totalStreams"].as_u64() {
        Some(own) if all > 0 => format!("{}%", own.saturating_mul(100) / all),
        _ => "-".to_owned(),
    }
}

/// A target with its pool, as the sentences below the table name it.
fn named(pool: &Value, target: &Value) -> String {
    format!("{}/{}", text(&pool["name"]), text(&target["id"]))
}

fn pools(pools: &[Value]) -> String {
    let columns = [
        ("POOL", LEFT),
        ("STRATEGY", LEFT),
        ("TARGET", LEFT),
        ("STATE", LEFT),
        ("STREAMS", RIGHT),
        ("TOTAL", RIGHT),
        ("SHARE", RIGHT),
        ("FAILED", RIGHT),
        ("CONNECT", RIGHT),
        ("WEIGHT", RIGHT),
    ];
    let mut rows = Vec::new();
    for pool in pools {
        let targets = list(&pool["targets"]);
        let totals = targets
            .iter()
            .filter_map(|target| target["totalStreams"].as_u64());
        let all = totals.fold(0, u64::saturating_add);
        let row = |target: &Value| {
            vec![
                text(&pool["name"]),
                text(&pool["strategy"]),
                text(&target["id"]),
                text(&target["state"]),
                text(&target["activeStreams"]),
                text(&target["totalStreams"]),
                share(target, all),
                text(&target["failedStreams"]),
                connect_time(&target["connectMs"]),
                text(&target["weight"]),
            ]
        };
        if targets.is_empty() {
            rows.push(row(&Value::Null));
        }
        rows.extend(targets.iter().map(row));
    }
    let mut shown = table(&columns, rows, "no pool");
    let unanswered: Vec<_> = pools.iter().filter_map(without_answer).collect();
    let out = lines(&by_state(pools)) + &lines(&by_check_error(pools)) + &lines(&unanswered);
    if !out.is_empty() {
        shown += "\n";
        shown += &out;
    }
    shown
}

/// A line for each state but `up`: the targets in it, and what to do.
fn by_state(pools: &[Value]) -> Vec<(&str, String)> {
    let line = |(state, targets): (_, Vec<String>)| {
        let advice = of_target(state);
        let line = format!("{}. {advice}", names(targets.into_iter()));
        (state, line.trim_end().to_owned())
    };
    let states = out_by(pools, |target| target["state"].as_str());
    states.into_iter().map(line).collect()
}

/// A line for each reason why checks of targets that are out have failed.
fn by_check_error(pools: &[Value]) -> Vec<(&'static str, String)> {
    let line = |(error, targets): (&str, Vec<String>)| {
        let line = format!("{}: {error}", names(targets.into_iter()));
        ("check", line)
    };
    let errors = out_by(pools, |target| target["checkError"].as_str());
    errors.into_iter().map(line).collect()
}

/// The names of targets that aren't `up`, by this text of theirs.
fn out_by<'a>(
    pools: &'a [Value],
    text: impl Fn(&'a Value) -> Option<&'a str>,
) -> Vec<(&'a str, Vec<String>)> {
    let mut found: Vec<(&str, Vec<String>)> = Vec::new();
    for pool in pools {
        for target in list(&pool["targets"]) {
            let is_out = target["state"].as_str().is_some_and(|state| state != UP);
            let Some(text) = text(target).filter(|_| is_out) else {
                continue;
            };
            match found.iter_mut().find(|(known, _)| *known == text) {
                Some((_, targets)) => targets.push(named(pool, target)),
                None => found.push((text, vec![named(pool, target)])),
            }
        }
    }
    found
}

/// Lines of `ctl status`: which pools have no target, or some that are out, and what to do about it.
pub(super) fn of_status(hub: &Value) -> Vec<(&'static str, String)> {
    let pools = list(&hub["pools"]);
    let is_out = |target: &&Value| target["state"].as_str().is_some_and(|state| state != UP);
    let out = pools.iter().filter_map(|pool| {
        let targets = list(&pool["targets"]);
        let out: Vec<&Value> = targets.iter().filter(is_out).collect();
        let states = out
            .iter()
            .map(|target| format!("{} {}", text(&target["id"]), text(&target["state"])));
        let all = counted(targets.len(), "target");
        let (name, count) = (text(&pool["name"]), out.len());
        if targets.is_empty() {
            return Some(format!("{name} has no target"));
        }
        let told = format!("{count} of {all} of {name} out ({})", names(states));
        (count > 0).then_some(told)
    });
    let out: Vec<String> = out.collect();
    let mut lines = sources(hub);
    if out.is_empty() {
        return lines;
    }
    let told = format!("{} (see ctl pools)", names(out.into_iter()));
    lines.push(("pools", told));
    let mut states: Vec<&str> = pools
        .iter()
        .flat_map(|pool| list(&pool["targets"]))
        .filter(is_out)
        .filter_map(|target| target["state"].as_str())
        .collect();
    states.sort_unstable();
    states.dedup();
    let advice = states.into_iter().map(|state| (state, of_target(state)));
    let advice = advice.filter(|(_, advice)| !advice.is_empty());
    lines.extend(advice.map(|(state, advice)| ("to do", format!("{state}: {advice}"))));
    lines
}

/// Sources of targets and countries that can't be read.
fn sources(hub: &Value) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let (db, geo) = (&hub["routingDb"], &hub["geo"]);
    if let Some(error) = db["error"].as_str() {
        lines.push((
            "routing.db",
            format!("not read, so its rows of before count: {error}"),
        ));
    }
    for row in list(&db["refused"]) {
        let (id, reason) = (text(&row["id"]), text(&row["reason"]));
        let told = format!("row {} ({id}) is refused: {reason}", text(&row["row"]));
        lines.push(("routing.db", told));
    }
    if let Some(error) = geo["error"].as_str() {
        lines.push((
            "countries",
            format!("not read, so the data of before count: {error}"),
        ));
    }
    lines.extend(list(&hub["pools"]).iter().filter_map(without_answer));
    lines
}

/// A pool for which DNS gives no targets now.
fn without_answer(pool: &Value) -> Option<(&'static str, String)> {
    let discovery = &pool["discovery"];
    let error = discovery["error"].as_str()?;
    let (name, state) = (text(&pool["name"]), text(&discovery["state"]));
    Some(("dns", format!("{name}: {error} ({state})")))
}

/// Answer to `GET …/explain`.
fn explained(answer: &Value) -> String {
    let pairs = [
        ("pool", text(&answer["pool"])),
        ("strategy", text(&answer["strategy"])),
        ("client", text(&answer["client"])),
        ("country", text(&answer["country"])),
        ("region", text(&answer["region"])),
        ("edge", text(&answer["edgeId"])),
        ("its region", text(&answer["localRegion"])),
        ("has target", text(&answer["bound"])),
    ];
    let columns = [
        ("TARGET", LEFT),
        ("STATE", LEFT),
        ("PRIORITY", RIGHT),
        ("TIER", RIGHT),
        ("LOAD", RIGHT),
        ("SCORE", RIGHT),
        ("STREAMS", RIGHT),
        ("WHY", LEFT),
    ];
    let number = |value: &Value| {
        let value = value.as_f64();
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
    };
    let targets = list(&answer["targets"]);
    let row = |target: &Value| {
        vec![
            text(&target["id"]),
            text(&target["state"]),
            text(&target["priority"]),
            text(&target["tier"]),
            number(&target["load"]),
            number(&target["score"]),
            text(&target["activeStreams"]),
            why(answer, targets, target),
        ]
    };
    let rows = targets.iter().map(row).collect();
    lines(&pairs) + "\n" + &table(&columns, rows, "no target")
}

/// Why a target would get the stream or not, in a sentence.
fn why(answer: &Value, targets: &[Value], target: &Value) -> String {
    let bound = targets.iter().find(|one| one["id"] == answer["bound"]);
    // Its state says already that this client may come back while it drains.
    let bound = bound.filter(|one| one["state"] == UP);
    let state = target["state"].as_str().unwrap_or(UP);
    let told = match bound {
        Some(bound) if bound["id"] == target["id"] => "The client has it, and comes back to it.",
        _ if state != UP => of_target(state),
        Some(_) => "The client has another target.",
        None => of_free(answer, targets, target),
    };
    told.to_owned()
}

/// The same for a target that takes the stream of a client that has none.
fn of_free(answer: &Value, targets: &[Value], target: &Value) -> &'static str {
    let Some(best) = targets.iter().find(|one| one["state"] == UP) else {
        return "";
    };
    if best["priority"] != target["priority"] {
        return "It is a reserve: used where all of a lower priority number are out.";
    }
    let measure = match answer["strategy"].as_str() {
        Some("geo") => "score",
        Some("leastConnections") => "load",
        _ => return "It is one of those that the strategy chooses from.",
    };
    if target[measure] != best[measure] {
        return if measure == "score" {
            "Another one has a lower score."
        } else {
            "Another one has a lower load."
        };
    }
    let is_equal = |one: &&Value| {
        one["state"] == UP && one["priority"] == best["priority"] && one[measure] == best[measure]
    };
    if targets.iter().filter(is_equal).count() > 1 {
        "It is one of the best, which take turns."
    } else {
        "It gets the stream: it is the best."
    }
}

/// Answer to `POST` of a target's state.
fn told(answer: &Value) -> String {
    let target = &answer["target"];
    let pool = text(&answer["pool"]);
    let (id, admin, state) = (
        text(&target["id"]),
        text(&target["admin"]),
        &target["state"],
    );
    let mut shown = format!("{pool}/{id} is {admin} from now on");
    let is_other = admin == "active" && *state != UP;
    if is_other && let Some(state) = state.as_str() {
        shown += &format!(", and is still {state}: {}", of_target(state));
    } else {
        shown.push('.');
    }
    if let Some(truth) = answer["truth"].as_str() {
        shown += &format!(" This is {truth}.");
    }
    plain(&shown) + "\n"
}

#[cfg(test)]
mod tests;
