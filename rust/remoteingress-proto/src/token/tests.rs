//! The token: the fixtures, round trips, and what a changed character does.

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

use super::*;

#[test]
fn fixtures_decode_or_fail_as_they_say() {
    for vector in vectors() {
        let result = ConnectionToken::decode(&vector.token);
        match (vector.decoded, vector.error) {
            (Some(expected), None) if vector.valid => {
                let token = result.unwrap_or_else(|error| panic!("{}: {error}", vector.name));
                assert_eq!(shown(&token), expected, "{}", vector.name);
                if vector.canonical {
                    assert_eq!(token.encode().unwrap(), vector.token, "{}", vector.name);
                }
                assert_eq!(
                    ConnectionToken::decode(&token.encode().unwrap()),
                    Ok(token),
                    "{}",
                    vector.name
                );
            }
            (None, Some(part)) if !vector.valid => {
                let error = result.expect_err(&vector.name).to_string();
                assert!(error.contains(&part), "{}: {error}", vector.name);
                assert!(!error.contains("canary"), "{}: {error}", vector.name);
            }
            _ => panic!(
                "{}: a valid vector has `decoded`, another one `error`",
                vector.name
            ),
        }
    }
}

#[test]
fn any_one_character_change_is_rejected_or_gives_another_token() {
    let alphabet: Vec<char> =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \0é"
            .chars()
            .collect();
    for vector in vectors()
        .into_iter()
        .filter(|vector| vector.canonical && vector.token.len() < 600)
    {
        let original = ConnectionToken::decode(&vector.token).unwrap();
        for at in 0..vector.token.len() {
            let (before, after) = (&vector.token[..at], &vector.token[at + 1..]);
            for new in alphabet
                .iter()
                .filter(|new| !vector.token[at..].starts_with(**new))
            {
                // White space at either end is only trimmed: that is the change "one character less".
                let changed = format!("{before}{new}{after}");
                assert_ne!(
                    ConnectionToken::decode(&changed).as_ref(),
                    Ok(&original),
                    "{}: {changed}",
                    vector.name
                );
            }
            assert_ne!(
                ConnectionToken::decode(&format!("{before}{after}")).as_ref(),
                Ok(&original)
            );
        }
    }
}

#[test]
fn debug_shows_neither_secret_nor_extra_values() {
    let mut token = sample();
    token
        .extra
        .insert("laterSecret".into(), json!("canary-of-later"));
    let text = format!("{token:?}");
    assert!(
        text.contains("laterSecret") && text.contains("[redacted]"),
        "{text}"
    );
    assert!(!text.contains("canary"), "{text}");
}

#[test]
fn encode_refuses_what_decode_would() {
    let port = ConnectionToken {
        access: dial(0, Vec::new()),
        ..sample()
    };
    let listener = ConnectionToken {
        access: Access::Listen(ListenTunnel {
            port: 0,
            bind_address: None,
        }),
        ..sample()
    };
    let secret = ConnectionToken {
        secret: Secret::new(String::new()),
        ..sample()
    };
    let pins = ConnectionToken {
        access: dial(8443, vec![Pin([7; 32]); 5]),
        ..sample()
    };
    let mut extra = sample();
    extra.extra.insert("secret".into(), json!("x"));
    for (token, field) in [
        (port, "hubPort"),
        (listener, "listenTunnel.port"),
        (secret, "secret"),
        (pins, "hubPins"),
        (extra, "secret"),
    ] {
        assert!(
            token.encode().unwrap_err().to_string().contains(field),
            "{field}"
        );
    }
}

#[test]
fn the_longest_token_has_2048_characters() {
    let fixed = ConnectionToken {
        secret: Secret::new("s".into()),
        ..sample()
    };
    let room = 1_536
        - URL_SAFE_NO_PAD
            .decode(fixed.encode().unwrap())
            .unwrap()
            .len()
        + 1;
    let longest = ConnectionToken {
        secret: Secret::new("s".repeat(room)),
        ..sample()
    };
    let text = longest.encode().unwrap();
    assert_eq!(text.len(), ConnectionToken::MAX_LENGTH);
    assert_eq!(ConnectionToken::decode(&text), Ok(longest));
    let beyond = ConnectionToken {
        secret: Secret::new("s".repeat(room + 1)),
        ..sample()
    };
    assert_eq!(beyond.encode(), Err(TokenError::TooLong));
}

proptest! {
    #[test]
    fn decode_is_the_inverse_of_encode(token in tokens()) {
        let text = token.encode().unwrap();
        prop_assert!(text.len() <= ConnectionToken::MAX_LENGTH);
        prop_assert_eq!(ConnectionToken::decode(&text), Ok(token));
    }

    #[test]
    fn no_text_panics(text in ".{0,200}") {
        let _ = ConnectionToken::decode(&text);
    }

    #[test]
    fn no_json_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), json in "[\\[\\]{}\",:a-z0-9.-]{0,100}") {
        let _ = ConnectionToken::decode(&URL_SAFE_NO_PAD.encode(bytes));
        let _ = ConnectionToken::decode(&URL_SAFE_NO_PAD.encode(json));
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    token: String,
    valid: bool,
    /// Written as `encode` would write it.
    #[serde(default)]
    canonical: bool,
    decoded: Option<Value>,
    /// Text that the message has to contain.
    error: Option<String>,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("../../../../test/fixtures/tokens.json")).unwrap()
}

/// The form of `decoded` in the fixtures.
fn shown(token: &ConnectionToken) -> Value {
    let mut value = json!({
        "edgeId": token.edge_id,
        "secret": token.secret.expose(),
    });
    match &token.access {
        Access::Dial {
            hub_host,
            hub_port,
            hub_pins,
        } => {
            value["hubHost"] = json!(hub_host);
            value["hubPort"] = json!(hub_port);
            if !hub_pins.is_empty() {
                value["hubPins"] = json!(hub_pins);
            }
        }
        Access::Listen(listen) => value["listenTunnel"] = json!(listen),
    }
    if !token.extra.is_empty() {
        value["extra"] = Value::Object(token.extra.clone());
    }
    value
}

fn sample() -> ConnectionToken {
    ConnectionToken {
        access: dial(8443, vec![Pin([7; 32])]),
        edge_id: EdgeId::new("edge-nyc-01").unwrap(),
        secret: Secret::new("canary-secret-of-the-tests".into()),
        extra: Map::new(),
    }
}

fn dial(hub_port: u16, hub_pins: Vec<Pin>) -> Access {
    Access::Dial {
        hub_host: Host::new("hub.example.com").unwrap(),
        hub_port,
        hub_pins,
    }
}

fn tokens() -> impl Strategy<Value = ConnectionToken> {
    let hosts = prop_oneof![
        "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,20}){0,3}",
        any::<IpAddr>().prop_map(|ip| ip.to_string())
    ];
    let dial = (
        hosts,
        1..=u16::MAX,
        prop::collection::vec(any::<[u8; 32]>().prop_map(Pin), 0..=4),
    )
        .prop_map(|(host, hub_port, hub_pins)| Access::Dial {
            hub_host: Host::new(&host).unwrap(),
            hub_port,
            hub_pins,
        });
    let listen = (1..=u16::MAX, any::<Option<IpAddr>>());
    let listen =
        listen.prop_map(|(port, bind_address)| Access::Listen(ListenTunnel { port, bind_address }));
    let accesses = prop_oneof![dial, listen];
    let extra = prop::collection::btree_map(
        "x[a-zA-Z]{0,8}",
        prop_oneof![
            any::<u32>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from)
        ],
        0..3,
    );
    (accesses, "\\PC{1,32}", ".{1,100}", extra).prop_map(|(access, id, secret, extra)| {
        ConnectionToken {
            access,
            edge_id: EdgeId::new(&id).unwrap(),
            secret: Secret::new(secret),
            extra: extra.into_iter().collect(),
        }
    })
}
