use super::*;
use proptest::prelude::*;
use remoteingress_config::DialProxy;
use remoteingress_config::error::ErrorCode;
use remoteingress_proto::token::host::Host;
use remoteingress_proto::token::secret::Secret;

fn peer(host: &str) -> Destination {
    Destination {
        host: Host::new(host).unwrap(),
        port: 8443,
    }
}

fn login() -> Login {
    Login {
        user: Secret::new("canary-user".to_owned()),
        password: Secret::new("canary:pass".to_owned()),
    }
}

fn begin(kind: ProxyKind, host: &str, has_login: bool) -> (Opening, Vec<u8>) {
    let (opening, first) = Opening::begin(kind, peer(host), has_login.then(login));
    (opening, first.to_vec())
}

/// The end of an exchange in which the proxy sends these parts, and what was sent to it after the first bytes.
fn ended(opening: &mut Opening, parts: &[&[u8]]) -> (Result<&'static str, Fault>, Vec<Vec<u8>>) {
    let (mut sent, mut state) = (Vec::new(), "waits");
    for part in parts {
        match opening.handle(part) {
            Ok(Progress::NeedMore) => state = "waits",
            Ok(Progress::Send(bytes)) => {
                sent.push(bytes.to_vec());
                state = "sent";
            }
            Ok(Progress::Open) => return (Ok("open"), sent),
            Err(fault) => return (Err(fault), sent),
        }
    }
    (Ok(state), sent)
}

#[test]
fn http_asks_for_the_peer_and_takes_any_success() {
    let (_, first) = begin(ProxyKind::Http, "hub.test", false);
    let expected = "CONNECT hub.test:8443 HTTP/1.1\r\nHost: hub.test:8443\r\n\r\n";
    assert_eq!(String::from_utf8(first).unwrap(), expected);
    let (_, first) = begin(ProxyKind::Http, "::1", true);
    let expected = "CONNECT [::1]:8443 HTTP/1.1\r\nHost: [::1]:8443\r\n\
        Proxy-Authorization: Basic Y2FuYXJ5LXVzZXI6Y2FuYXJ5OnBhc3M=\r\n\r\n";
    assert_eq!(String::from_utf8(first).unwrap(), expected);
    for answer in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nVia: 1.1 canary\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
        "HTTP/1.1 204 \n\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let (mut opening, _) = begin(ProxyKind::Http, "hub.test", false);
        let (end, sent) = ended(&mut opening, &[answer.as_bytes()]);
        assert_eq!((end, sent.len()), (Ok("open"), 0), "{answer:?}");
    }
}

#[test]
fn http_says_why_not() {
    let refused = |text: &str| Fault::Refused(text.to_owned());
    for (answer, has_login, expected) in [
        (
            "HTTP/1.1 502 Bad Gateway\r\n\r\n",
            false,
            refused("502 Bad Gateway"),
        ),
        ("HTTP/1.1 403\r\n\r\nbody", false, refused("403")),
        (
            "HTTP/1.1 101 Switching\r\n\r\n",
            false,
            refused("101 Switching"),
        ),
        (
            "HTTP/1.1 500 a\x1b[31m\u{e4}b\r\n\r\n",
            false,
            refused("500 a[31mb"),
        ),
        ("HTTP/1.1 403 no, canary:pass\r\n\r\n", true, refused("403")),
        (
            "HTTP/1.1 403 no, Y2FuYXJ5LXVzZXI6Y2FuYXJ5OnBhc3M=\r\n\r\n",
            true,
            refused("403"),
        ),
        (
            "HTTP/1.1 407 x\r\nProxy-Authenticate: Basic realm=\"x\"\r\n\r\n",
            false,
            Fault::LoginMissing(vec!["Basic"]),
        ),
        (
            "HTTP/1.1 407 x\r\nproxy-authenticate: Negotiate\r\nProxy-Authenticate: NTLM\r\n\r\n",
            true,
            Fault::LoginRefused(vec!["Negotiate", "NTLM"]),
        ),
        (
            "HTTP/1.0 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"Tinyproxy\"\r\n\r\n",
            true,
            Fault::LoginRefused(vec!["Basic"]),
        ),
        (
            "HTTP/1.1 407 x\r\nProxy-Authenticate: canary-user\r\n\r\n",
            true,
            Fault::LoginRefused(Vec::new()),
        ),
        ("HTTP/1.1 2000 OK\r\n\r\n", false, Fault::Unintelligible),
        ("HTTP/1.1 \r\n\r\n", false, Fault::Unintelligible),
        ("HTTP/2 200\r\n", false, Fault::Unintelligible),
        ("SSH-2.0-canary", false, Fault::Unintelligible),
        ("HTTP/1.1 200 OK\r\n\r\nx", false, Fault::Surplus),
    ] {
        let (mut opening, _) = begin(ProxyKind::Http, "hub.test", has_login);
        let (end, _) = ended(&mut opening, &[answer.as_bytes()]);
        assert_eq!(end, Err(expected), "{answer:?}");
    }
}

#[test]
fn socks5_names_the_peer_and_leaves_the_lookup_to_the_proxy() {
    let open = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for (host, address) in [
        ("hub.test", [&[3, 8][..], b"hub.test"].concat()),
        ("192.0.2.1", vec![1, 192, 0, 2, 1]),
        ("[::1]", [&[4][..], &[0; 15], &[1]].concat()),
    ] {
        let (mut opening, first) = begin(ProxyKind::Socks5, host, false);
        assert_eq!(first, [5, 1, 0]);
        let (end, sent) = ended(&mut opening, &[&[5, 0], &open]);
        let request = [&[5, 1, 0][..], &address, &8443_u16.to_be_bytes()].concat();
        assert_eq!((end, sent), (Ok("open"), vec![request]));
    }
    for reply in [
        [&[5, 0, 0, 3, 4][..], b"host", &[0, 1]].concat(),
        [&[5, 0, 0, 4][..], &[0; 18]].concat(),
    ] {
        let (mut opening, _) = begin(ProxyKind::Socks5, "hub.test", false);
        let (end, _) = ended(&mut opening, &[&[5, 0], &reply]);
        assert_eq!(end, Ok("open"));
    }
}

#[test]
fn socks5_logs_in_where_the_proxy_wants_it() {
    let (mut opening, first) = begin(ProxyKind::Socks5, "hub.test", true);
    assert_eq!(first, [5, 2, 0, 2]);
    let (end, sent) = ended(&mut opening, &[&[5, 2], &[1, 0]]);
    let message = [&[1, 11][..], b"canary-user", &[11], b"canary:pass"].concat();
    assert_eq!((end, sent.first()), (Ok("sent"), Some(&message)));
    assert_eq!(sent.len(), 2);
    let (mut opening, _) = begin(ProxyKind::Socks5, "hub.test", true);
    let (end, sent) = ended(&mut opening, &[&[5, 0]]);
    assert_eq!((end, sent.len()), (Ok("sent"), 1), "it wants none");
}

#[test]
fn socks5_says_why_not() {
    let refused = |text: &str| Fault::Refused(text.to_owned());
    for (parts, has_login, expected) in [
        (
            &[&[5, 0xff][..]][..],
            false,
            Fault::LoginMissing(Vec::new()),
        ),
        (&[&[5, 0xff]], true, Fault::LoginRefused(Vec::new())),
        (&[&[5, 2], &[1, 9]], true, Fault::LoginRefused(Vec::new())),
        (&[&[5, 2], &[5]], true, Fault::Unintelligible),
        (&[&[5, 2]], false, Fault::Unintelligible),
        (&[&[5, 1]], true, Fault::Unintelligible),
        (&[b"HTTP/1.1 400"], false, Fault::Unintelligible),
        (&[&[5, 0], &[4]], false, Fault::Unintelligible),
        (&[&[5, 0], &[5, 0, 0, 2]], false, Fault::Unintelligible),
        (&[&[5, 0], &[5, 5]], false, refused("connection refused")),
        (
            &[&[5, 0], &[5, 2, 0, 1]],
            false,
            refused("not allowed by the rules"),
        ),
        (&[&[5, 0], &[5, 99]], false, refused("reply 99")),
        (&[&[5, 0, 5]], false, Fault::Surplus),
        (
            &[&[5, 0], &[5, 0, 0, 1, 0, 0, 0, 0, 0, 0, 22]],
            false,
            Fault::Surplus,
        ),
    ] {
        let (mut opening, _) = begin(ProxyKind::Socks5, "hub.test", has_login);
        assert_eq!(ended(&mut opening, parts).0, Err(expected), "{parts:?}");
    }
}

#[test]
fn an_answer_without_an_end_is_cut_off() {
    let (mut opening, _) = begin(ProxyKind::Http, "hub.test", false);
    opening.handle(b"HTTP/1.1 200 ").unwrap();
    let mut read = 13;
    let fault = loop {
        match opening.handle(b"x") {
            Ok(_) => read += 1,
            Err(fault) => break fault,
        }
    };
    assert_eq!((fault, read + 1), (Fault::TooLong, MAX_ANSWER));
    let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(400);
    let (mut opening, _) = begin(ProxyKind::Http, "hub.test", false);
    assert_eq!(opening.handle(&interim).unwrap_err(), Fault::TooLong);
}

#[test]
fn a_failure_names_the_proxy_the_peer_and_what_to_do_but_no_login() {
    let proxy = |kind| DialProxy {
        kind,
        host: Host::new("proxy.test").unwrap(),
        port: 3128,
        login: None,
    };
    for (fault, code, expected) in [
        (
            Fault::Refused("502 Bad Gateway".to_owned()),
            ErrorCode::ProxyRefused,
            "the proxy proxy.test:3128 answers \"502 Bad Gateway\" when it is asked for hub.test:8443",
        ),
        (
            Fault::LoginMissing(vec!["Basic"]),
            ErrorCode::ProxyAuthFailed,
            "the proxy proxy.test:3128 wants a login (Basic); write user:password@",
        ),
        (
            Fault::LoginRefused(vec!["NTLM"]),
            ErrorCode::ProxyAuthFailed,
            "the proxy proxy.test:3128 doesn't accept this user and password (NTLM); this end speaks only Basic",
        ),
        (
            Fault::Unintelligible,
            ErrorCode::ProxyRefused,
            "the proxy proxy.test:3128 doesn't answer in HTTP; check",
        ),
        (
            Fault::Closed,
            ErrorCode::ProxyRefused,
            "the proxy proxy.test:3128 closed the connection",
        ),
    ] {
        let failure = fault.failure(&proxy(ProxyKind::Http), &peer("hub.test"));
        assert_eq!(failure.error.code, code);
        assert!(failure.error.message.starts_with(expected), "{failure:?}");
        assert!(!failure.is_auth_failure, "the peer has said nothing");
        assert!(!failure.is_unreachable(), "QUIC would not get there");
        let is_patient = failure.retry_after.is_some();
        assert_eq!(is_patient, code == ErrorCode::ProxyAuthFailed);
    }
}

fn kinds() -> impl Strategy<Value = ProxyKind> {
    prop_oneof![Just(ProxyKind::Http), Just(ProxyKind::Socks5)]
}

/// Bytes of a proxy: anything, and what begins like an answer.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..64);
    let after = |start: &'static [u8]| bytes().prop_map(move |rest| [start, &rest].concat());
    prop_oneof![
        bytes(),
        after(b"HTTP/1.1 "),
        after(b"HTTP/1.1 407 x\r\nProxy-Authenticate: "),
        after(b"HTTP/1.1 200 OK\r\n\r\n"),
        after(&[5]),
        after(&[5, 0]),
        after(&[5, 2]),
    ]
}

proptest! {
    #[test]
    fn any_answer_ends_or_waits_whatever_its_parts(
        kind in kinds(),
        has_login: bool,
        turns in proptest::collection::vec(answers(), 1..6),
    ) {
        let (mut whole, _) = begin(kind, "hub.test", has_login);
        let (mut bytewise, _) = begin(kind, "hub.test", has_login);
        for turn in &turns {
            let expected = whole.handle(turn);
            let mut found = Ok(Progress::NeedMore);
            for (index, byte) in turn.iter().enumerate() {
                found = bytewise.handle(std::slice::from_ref(byte));
                if !matches!(found, Ok(Progress::NeedMore)) {
                    // Whole, what follows an answer is seen with it.
                    let is_last = index + 1 == turn.len();
                    prop_assert!(is_last || expected.is_err(), "{expected:?}");
                    break;
                }
            }
            prop_assert!(whole.room() <= MAX_ANSWER);
            match (expected, found) {
                (Ok(Progress::NeedMore), Ok(Progress::NeedMore)) => {}
                (Ok(Progress::Send(one)), Ok(Progress::Send(other))) => prop_assert_eq!(one, other),
                (Err(_), _) | (Ok(Progress::Open), Ok(Progress::Open)) => return Ok(()),
                (expected, found) => prop_assert!(false, "{expected:?} {found:?}"),
            }
        }
    }

    #[test]
    fn no_answer_makes_an_error_tell_the_login(kind in kinds(), turns in proptest::collection::vec(answers(), 1..4)) {
        let (mut opening, _) = begin(kind, "hub.test", true);
        for turn in turns.iter().chain([&b" canary-user canary:pass\r\n\r\n".to_vec()]) {
            if let Err(fault) = opening.handle(turn) {
                let text = format!("{fault:?} {opening:?}");
                prop_assert!(!text.contains("canary"), "{text}");
                return Ok(());
            }
        }
    }
}
