use super::*;
use serde_json::json;

fn target(id: &str, state: &str, total: u64) -> Value {
    json!({
        "id": id, "state": state, "activeStreams": 2, "totalStreams": total, "failedStreams": 1, "connectMs": 1.25,
        "weight": 4,
    })
}

#[test]
fn pools_are_a_table_and_each_state_has_its_sentence() {
    let web = json!({"name": "web", "strategy": "geo", "targets": [target("a\n", "up", 3), target("b", "dead", 1)]});
    let empty = json!({"name": "none", "strategy": "random", "targets": []});
    let shown = view(None, &json!({"pools": [web, empty]}));
    let expected = "\
POOL  STRATEGY  TARGET  STATE  STREAMS  TOTAL  SHARE  FAILED  CONNECT  WEIGHT
web   geo       a\\u{a}  up           2      3    75%       1    1.2ms       4
web   geo       b       dead         2      1    25%       1    1.2ms       4
none  random    -       -            -      -      -       -        -       -

dead: web/b. ";
    assert_eq!(shown, format!("{expected}{}\n", of_target("dead")));
    assert_eq!(view(None, &json!({"pools": []})), "no pool\n");
}

#[test]
fn of_targets_that_are_out_the_last_check_is_told() {
    let checked = |id: &str, state: &str, error: &str| {
        let mut target = target(id, state, 0);
        target["checkError"] = json!(error);
        target
    };
    // One that is up may have failed once.
    let targets = [
        checked("a", "up", "refused"),
        checked("b", "down", "refused"),
        checked("c", "down", "status 500, not 200-399"),
        checked("d", "ejected", "refused"),
        target("e", "dead", 0),
    ];
    let shown = view(
        None,
        &json!({"pools": [{"name": "web", "targets": targets}]}),
    );
    let told: Vec<&str> = shown
        .lines()
        .filter(|line| line.starts_with("check:"))
        .map(|line| line.trim_start_matches("check:").trim())
        .collect();
    let expected = ["web/b, web/d: refused", "web/c: status 500, not 200-399"];
    assert_eq!(told, expected, "{shown}");
}

#[test]
fn a_pool_that_dns_doesnt_answer_has_its_sentence_below_the_table() {
    let discovery = json!({"state": "held", "error": "no answer"});
    let dns = json!({"name": "dns", "strategy": "geo", "targets": [target("a", "up", 3)], "discovery": discovery});
    let shown = view(None, &json!({"pools": [dns]}));
    assert!(
        shown.ends_with("\n\ndns: dns: no answer (held)\n"),
        "{shown}"
    );
}

#[test]
fn the_status_names_pools_with_targets_that_are_out() {
    let web = json!({"name": "web", "targets": [target("a", "up", 0), target("b", "dead", 0), target("c", "ejected", 0)]});
    let well = json!({"name": "well", "targets": [target("a", "up", 0)]});
    let shown = of_status(&json!({"pools": [web, well]}));
    assert_eq!(
        shown[0],
        (
            "pools",
            "2 of 3 targets of web out (b dead, c ejected) (see ctl pools)".to_owned()
        )
    );
    assert_eq!(shown[1], ("to do", format!("dead: {}", of_target("dead"))));
    assert_eq!(shown.len(), 3);
    assert_eq!(of_status(&json!({"pools": [well]})), []);
    let empty = json!({"name": "none", "targets": []});
    let told = "none has no target (see ctl pools)".to_owned();
    assert_eq!(of_status(&json!({"pools": [empty]})), [("pools", told)]);
    assert_eq!(of_status(&json!({})), []);
}

/// The sentences about these targets, of which each is its id, state, priority and score.
fn whys(strategy: &str, bound: Value, targets: &[(&str, &str, u8, f64)]) -> Vec<String> {
    let target = |(id, state, priority, score): &(&str, &str, u8, f64)| json!({"id": id, "state": state, "priority": priority, "tier": 0, "load": score, "score": score, "activeStreams": 0});
    let targets: Vec<Value> = targets.iter().map(target).collect();
    let answer = json!({"pool": "p", "strategy": strategy, "client": "192.0.2.1", "bound": bound, "targets": targets});
    let shown = explained(&answer);
    let rows = shown.lines().skip_while(|line| !line.starts_with("TARGET"));
    let at = shown.lines().find_map(|line| line.find("WHY")).unwrap();
    rows.skip(1).map(|row| row[at..].to_owned()).collect()
}

#[test]
fn each_target_says_why_it_would_get_a_client_or_not() {
    let targets = [
        ("a", "up", 0, 0.5),
        ("b", "up", 0, 0.7),
        ("c", "up", 1, 0.1),
        ("d", "drain", 0, 0.0),
    ];
    assert_eq!(
        whys("geo", Value::Null, &targets),
        [
            "It gets the stream: it is the best.",
            "Another one has a lower score.",
            "It is a reserve: used where all of a lower priority number are out.",
            of_target("drain"),
        ]
    );
    assert_eq!(
        whys("leastConnections", json!("b"), &targets),
        [
            "The client has another target.",
            "The client has it, and comes back to it.",
            "The client has another target.",
            of_target("drain"),
        ]
    );
    let shown = whys("leastConnections", json!("d"), &targets);
    assert_eq!(shown[0], "It gets the stream: it is the best.");
    let equal = [
        ("a", "up", 0, 0.0),
        ("b", "up", 0, 0.0),
        ("c", "dead", 0, 0.0),
    ];
    let shown = whys("geo", json!("c"), &equal);
    assert_eq!(shown[1], "It is one of the best, which take turns.");
    assert_eq!(shown[2], of_target("dead"));
    let shown = whys("random", Value::Null, &equal);
    assert_eq!(
        shown[0],
        "It is one of those that the strategy chooses from."
    );
}

#[test]
fn a_state_that_was_said_is_told_with_how_long_it_counts() {
    let answer = json!({"pool": "p", "target": {"id": "t", "admin": "drain", "state": "drain"}, "truth": "in force"});
    assert_eq!(
        told(&answer),
        "p/t is drain from now on. This is in force.\n"
    );
    let answer = json!({"pool": "p", "target": {"id": "t", "admin": "active", "state": "down"}, "truth": "in force"});
    let still = format!(
        "p/t is active from now on, and is still down: {} This is in force.\n",
        of_target("down")
    );
    assert_eq!(told(&answer), still);
}

#[test]
fn names_are_escaped_in_paths() {
    let target = || TargetArgs {
        pool: "a/b".to_owned(),
        target: "ä".to_owned(),
    };
    let path = "/api/v1/pools/a%2Fb/targets/%C3%A4";
    let dead = PoolsCommand::Dead {
        target: target(),
        cut: true,
    };
    assert_eq!(
        request(Some(&dead)),
        ("POST", format!("{path}/dead?cut=true"))
    );
    assert_eq!(
        request(Some(&PoolsCommand::Activate(target()))),
        ("POST", format!("{path}/active"))
    );
    let explain = PoolsCommand::Explain {
        pool: "*".to_owned(),
        client: "2001:db8::1".parse().unwrap(),
        edge: Some("e 1".to_owned()),
    };
    let path = "/api/v1/pools/%2A/explain?client=2001%3Adb8%3A%3A1&edge=e%201";
    assert_eq!(request(Some(&explain)), ("GET", path.to_owned()));
}
