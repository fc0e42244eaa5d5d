use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{parse_edge, parse_hub};

fn hub(config: &Value) -> Value {
    let config = parse_hub(config).unwrap();
    json!(HubShown::new(&config, config.edges.iter()))
}

fn edge(config: &Value) -> Value {
    json!(EdgeConfigShown::from(&parse_edge(config).unwrap()))
}

/// Every secret that a hub or an edge may be given is this one. Each file of a secret has a name of its own.
fn configs(secret: &str) -> [Value; 5] {
    let admin = json!({"listen": "/run/a.sock", "token": secret});
    let proxy = format!("http://{secret}:{secret}@proxy.test:3128");
    let dial = json!({"host": "e.test", "proxy": proxy});
    let allowed = json!({"id": "a", "secret": secret, "nextSecret": secret, "listenPorts": [443], "dial": dial});
    let tls = json!({"certPem": secret, "keyPem": secret});
    let by_parts = json!({
        "hubHost": "h.test", "edgeId": "e", "secret": secret, "hubProxy": proxy, "admin": admin,
    });
    let listens = json!({"listenTunnel": {"port": 1}, "edgeId": "e", "secret": secret});
    [
        json!({"admin": admin, "tls": tls, "edges": [allowed]}),
        json!({"listen": false, "tls": {"certFile": "c", "keyFile": "k"}, "admin": {"listen": "1.2.3.4:5", "tokenFile": "t"}}),
        by_parts,
        listens,
        json!({"hubHost": "h.test", "edgeId": "e", "secret": secret, "hubProxy": "socks5://u@p.test:1", "hubProxyPasswordFile": "f"}),
    ]
}

fn shown(secret: &str) -> [Value; 5] {
    let [one, other, dials, listens, by_file] = configs(secret);
    [
        hub(&one),
        hub(&other),
        edge(&dials),
        edge(&listens),
        edge(&by_file),
    ]
}

proptest! {
    #[test]
    fn no_secret_that_is_given_is_shown(secret in "[A-Za-z0-9_-]{16,60}") {
        for config in shown(&secret) {
            let text = config.to_string();
            prop_assert!(!text.contains(&secret), "{secret} is in {text}");
        }
    }
}

#[test]
fn secrets_are_shown_as_given_and_files_by_name() {
    let [one, other, dials, listens, by_file] = shown("canary-0123456789");
    assert_eq!(one["admin"]["token"], HIDDEN);
    assert_eq!(
        one["tls"],
        json!({"certPem": HIDDEN, "keyPem": HIDDEN, "pin": false})
    );
    assert_eq!(one["edges"][0]["listenPorts"][0]["port"], "443");
    assert_eq!(
        (&one["tunnelPort"], &other["tunnelPort"]),
        (&json!(8443), &Value::Null)
    );
    assert_eq!(other["admin"]["tokenFile"], "t");
    assert_eq!(
        other["tls"],
        json!({"certFile": "c", "keyFile": "k", "pin": false})
    );
    assert_eq!(
        (&dials["secret"], &listens["secret"]),
        (&json!(HIDDEN), &json!(HIDDEN))
    );
    assert_eq!(
        dials["hubProxy"],
        format!("http://{HIDDEN}@proxy.test:3128")
    );
    assert_eq!(by_file["hubProxyPasswordFile"], "f");
}

#[test]
fn what_is_shown_may_be_written_again() {
    let hub = hub(&json!({
        "limits": {"handshakeTimeoutSecs": 0, "exempt": ["192.0.2.0/24", "2001:db8::/32", "::1"]}, "idleTimeoutSecs": 7,
    }));
    assert_eq!(
        hub["limits"]["exempt"],
        json!(["192.0.2.0/24", "2001:db8::/32", "::1/128"])
    );
    let again = parse_hub(&hub).unwrap();
    assert_eq!(json!(HubShown::new(&again, again.edges.iter())), hub);
    let edge = edge(&json!({
        "hubHost": "h.test", "edgeId": "e", "secret": "0123456789abcdef", "allowedPorts": {"tcp": [80, "90-99"]},
    }));
    assert_eq!(
        edge["allowedPorts"],
        json!({"tcp": ["80", "90-99"], "udp": []})
    );
    assert_eq!(
        json!(EdgeConfigShown::from(&parse_edge(&edge).unwrap())),
        edge
    );
}
