use proptest::prelude::*;

use super::*;

const OK: &str = "HTTP/1.1 200 OK\r\n";

/// The verdict over `answer` in pieces of this size, after which the connection ends.
fn judge_in(size: usize, statuses: &RangeInclusive<u16>, text: &str, answer: &[u8]) -> Verdict {
    let mut judge = HttpAnswer::new(statuses, text.as_bytes());
    for piece in answer.chunks(size) {
        if let Some(verdict) = judge.take(piece) {
            return verdict;
        }
    }
    judge.end()
}

/// The same in pieces of any size.
fn judge(text: &str, answer: &str) -> Verdict {
    let in_pieces = |size| judge_in(size, &(200..=399), text, answer.as_bytes());
    let verdict = in_pieces(usize::MAX);
    for size in [1, 2, 3, 7, 100] {
        assert_eq!(in_pieces(size), verdict, "in pieces of {size}");
    }
    verdict
}

fn of_status(status: u16) -> Verdict {
    let answer = format!("HTTP/1.0 {status} Word\r\nContent-Length: 0\r\n\r\n");
    judge_in(usize::MAX, &(200..=399), "", answer.as_bytes())
}

#[test]
fn statuses_are_those_that_are_accepted() {
    for status in [200, 201, 302, 399] {
        assert_eq!(of_status(status), Ok(()));
    }
    for status in [101, 400, 500, 999] {
        assert_eq!(of_status(status), Err(Flaw::Status(status)));
    }
    // It needs nothing after the line.
    assert_eq!(judge("", "HTTP/1.1 503\r\n"), Err(Flaw::Status(503)));
    assert_eq!(
        judge("", "HTTP/1.1 307 \nLocation: /"),
        Err(Flaw::Closed { received: 25 })
    );
}

#[test]
fn an_answer_is_good_at_its_end_only() {
    let received = |answer: &str| {
        Err(Flaw::Closed {
            received: answer.len(),
        })
    };
    let whole = format!("{OK}Content-length:  5 \r\n\r\nhello");
    assert_eq!(judge("", &whole), Ok(()));
    let mut judging = HttpAnswer::new(&(200..=200), b"");
    assert_eq!(judging.take(&whole.as_bytes()[..whole.len() - 1]), None);
    assert_eq!(judging.take(b"o"), Some(Ok(())));
    for end in 0..whole.len() {
        assert_eq!(judge("", &whole[..end]), received(&whole[..end]), "{end}");
    }
    // One without a length ends with its connection, and so does one in chunks before its last.
    assert_eq!(judge("", &format!("{OK}\r\nhello")), Ok(()));
    let chunked = format!(
        "{OK}Transfer-Encoding: gzip, Chunked\r\nContent-Length: 3\r\n\r\n5;a=b\r\nhello\r\n"
    );
    assert_eq!(judge("", &chunked), received(&chunked));
    assert_eq!(judge("", &format!("{chunked}0\r\n")), Ok(()));
    for status in [204, 304] {
        let answer = format!("HTTP/1.1 {status} No\r\nContent-Length: 7\r\n\r\n");
        assert_eq!(judge("", &answer), Ok(()));
        assert_eq!(judge("a", &answer), Err(Flaw::Text));
    }
}

#[test]
fn a_text_is_found_wherever_it_stands_in_the_first_16_kib() {
    assert_eq!(judge("ok", &format!("{OK}\r\nall ok")), Ok(()));
    assert_eq!(
        judge("ok", &format!("{OK}Ok: ok\r\n\r\nall good")),
        Err(Flaw::Text)
    );
    assert_eq!(
        judge("aab", &format!("{OK}Content-Length: 4\r\n\r\naaab")),
        Ok(())
    );
    // What comes after the body is none of it.
    assert_eq!(
        judge("ok", &format!("{OK}Content-Length: 3\r\n\r\nnotok")),
        Err(Flaw::Text)
    );
    let chunked = format!("{OK}Transfer-Encoding: chunked\r\n\r\n3\r\nheal\r\n");
    assert!(matches!(judge("", &chunked), Err(Flaw::Reply(_))));
    let chunked =
        format!("{OK}Transfer-Encoding: chunked\r\n\r\n3\r\nhea\r\n0004\r\nlthy\r\n0\r\n\r\n");
    assert_eq!(judge("healthy", &chunked), Ok(()));
    assert_eq!(judge("4\r\nl", &chunked), Err(Flaw::Text));
    let long = |before: usize| format!("{OK}\r\n{}healthy{}", "a".repeat(before), "b".repeat(99));
    assert_eq!(judge("healthy", &long(MAX_BODY - 7)), Ok(()));
    assert_eq!(judge("healthy", &long(MAX_BODY - 6)), Err(Flaw::Text));
    // Nothing more is waited for.
    let mut judging = HttpAnswer::new(&(200..=200), b"healthy");
    assert_eq!(
        judging.take(format!("{OK}\r\nhealthy").as_bytes()),
        Some(Ok(()))
    );
    let mut judging = HttpAnswer::new(&(200..=200), b"");
    assert_eq!(judging.take(long(MAX_BODY).as_bytes()), Some(Ok(())));
    assert_eq!(judging.received(), OK.len() + 2 + MAX_BODY);
}

#[test]
fn an_interim_answer_is_followed_by_another() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 9\r\n\r\n";
    assert_eq!(
        judge("", &format!("{hints}{hints}{OK}Content-Length: 0\r\n\r\n")),
        Ok(())
    );
    assert_eq!(
        judge("", &format!("{hints}HTTP/1.1 500 No\r\n")),
        Err(Flaw::Status(500))
    );
    let without_end = hints.repeat(MAX_HEADS / hints.len() + 1);
    assert_eq!(judge("", &without_end), Err(Flaw::TooLong));
    // All heads share their room, down to the line that would be the last.
    let end = format!("{OK}Content-Length: 0\r\n\r\n");
    let padded = |left: usize| {
        let frame = "HTTP/1.1 100 \r\nA: \r\n\r\n".len();
        let padding = "a".repeat(MAX_HEADS - left - frame);
        format!("HTTP/1.1 100 \r\nA: {padding}\r\n\r\n{end}")
    };
    assert_eq!(judge("", &padded(end.len())), Ok(()));
    for left in [end.len() - 1, OK.len(), OK.len() - 1, 1, 0] {
        assert_eq!(judge("", &padded(left)), Err(Flaw::TooLong), "{left}");
    }
}

#[test]
fn heads_are_bounded() {
    let reason = |length: usize| format!("{OK}{}", "a".repeat(length)).replace("\r\n", "");
    let answer = |line: String| format!("{line}\r\nContent-Length: 0\r\n\r\n");
    // With its end the line has 1 KiB.
    let fits = MAX_STATUS_LINE - OK.len();
    assert_eq!(judge("", &answer(reason(fits))), Ok(()));
    assert_eq!(judge("", &answer(reason(fits + 1))), Err(Flaw::TooLong));
    assert_eq!(judge("", &reason(9_999)), Err(Flaw::TooLong));
    let field = |length: usize| format!("{OK}A: {}\r\n\r\n", "a".repeat(length));
    let fits = MAX_HEADS - OK.len() - 7;
    assert_eq!(judge("", &field(fits)), Ok(()));
    assert_eq!(judge("", &field(fits + 1)), Err(Flaw::TooLong));
    assert_eq!(
        judge("", &format!("{OK}{}", "A: b\r\n".repeat(9_999))),
        Err(Flaw::TooLong)
    );
    // Whatever else comes in chunks is bounded as the body is, and a line that doesn't end isn't waited for.
    let chunks = format!(
        "{OK}Transfer-Encoding: chunked\r\n\r\n{}",
        "1\r\na\r\n".repeat(9_999)
    );
    assert_eq!(judge("", &chunks), Ok(()));
    assert_eq!(judge("b", &chunks), Err(Flaw::Text));
    let endless = format!(
        "{OK}Transfer-Encoding: chunked\r\n\r\n1;{}",
        "a".repeat(MAX_BODY)
    );
    assert_eq!(judge("b", &endless), Err(Flaw::Text));
}

#[test]
fn what_is_no_http_1_is_refused_soon() {
    let lines = [
        "SSH-2.0-OpenSSH_9.2",
        "HTTP/2 200",
        "HTTP/1.1  200 OK",
        "HTTP/1.x 200 OK",
        "HTTP/1.1 20",
        "HTTP/1.1 2000",
        "HTTP/1.1 +20 OK",
        "HTTP/1.1 099 OK",
        "http/1.1 200 OK",
        "\u{7f}\u{1b}[31m",
        "",
    ];
    for line in lines {
        let verdict = judge_in(
            usize::MAX,
            &(0..=999),
            "",
            format!("{line}\r\n\r\n").as_bytes(),
        );
        assert_eq!(
            verdict,
            Err(unexpected(format!("{line}\r\n").trim_end().as_bytes())),
            "{line}"
        );
    }
    let mut judging = HttpAnswer::new(&(200..=200), b"");
    assert_eq!(
        judging.take(b"HTTQ"),
        Some(Err(Flaw::Reply("HTTQ".to_owned())))
    );
    assert_eq!(
        unexpected(b"\x16\x03\n\"").to_string(),
        r#"an answer that wasn't expected: "\x16\x03\n\"""#
    );
    assert_eq!(unexpected(&[b'a'; 99]), Flaw::Reply("a".repeat(MAX_TOLD)));
    for field in [
        "Content-Length: -1",
        "Content-Length: +1",
        "Content-Length:",
        "Content-Length: 1\r\nContent-Length: 2",
        "Content-Length: 18446744073709551616",
    ] {
        let verdict = judge("", &format!("{OK}{field}\r\n\r\na"));
        assert!(
            matches!(verdict, Err(Flaw::Reply(_))),
            "{field}: {verdict:?}"
        );
    }
    for size in ["", "g", "-1", "0x1", "10000000000000000"] {
        let verdict = judge(
            "",
            &format!("{OK}Transfer-Encoding: chunked\r\n\r\n{size}\r\n"),
        );
        assert!(
            matches!(verdict, Err(Flaw::Reply(_))),
            "{size}: {verdict:?}"
        );
    }
}

/// Answers that are nearly as they should be.
fn answers() -> impl Strategy<Value = Vec<u8>> {
    const WORDS: [&str; 16] = [
        "HTTP/1.1 200 OK",
        "HTTP/1.0 204",
        "HTTP/1.1 100 Continue",
        "Content-Length: 3",
        "Content-Length: 18446744073709551615",
        "Transfer-Encoding: chunked",
        "5",
        "ffffffffffffffff",
        "0",
        "hello",
        "text",
        "\r\n",
        "\n",
        "\r\n\r\n",
        "\r",
        "",
    ];
    let word = prop_oneof![
        9 => proptest::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
        3 => Just(b"\r\n".to_vec()),
        1 => proptest::collection::vec(any::<u8>(), 0..9),
        1 => (any::<u8>(), 0_usize..20_000).prop_map(|(byte, count)| vec![byte; count]),
    ];
    let rest = proptest::collection::vec(word, 0..20).prop_map(|words| words.concat());
    (
        proptest::sample::select(
            &[
                "",
                "HTTP/1.1 200 OK\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            ][..],
        ),
        rest,
    )
        .prop_map(|(begin, rest)| [begin.as_bytes(), &rest].concat())
}

proptest! {
    #[test]
    fn no_bytes_in_no_pieces_make_it_panic_or_change_its_mind(
        answer in answers(),
        text in proptest::sample::select(&["", "text", "ot", "l"][..]),
        sizes in proptest::collection::vec(1_usize..3_000, 1..9),
    ) {
        let whole = judge_in(usize::MAX, &(200..=299), text, &answer);
        let mut judging = HttpAnswer::new(&(200..=299), text.as_bytes());
        let mut rest = &answer[..];
        let mut verdict = None;
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at(rest.len().min(*size));
            rest = after;
            // It goes on after its verdict: that does no harm either.
            let taken = judging.take(piece);
            verdict = verdict.or(taken);
        }
        let end = judging.end();
        let verdict = verdict.unwrap_or(end);
        // The begin of a wrong first line is told as far as it came.
        match (&verdict, &whole) {
            (Err(Flaw::Reply(_)), Err(Flaw::Reply(_))) => {}
            _ => prop_assert_eq!(&verdict, &whole),
        }
        prop_assert!(judging.heads <= MAX_HEADS && judging.body <= MAX_BODY);
        prop_assert!(judging.line.len() <= MAX_HEADS && judging.looked_at.len() <= MAX_BODY);
    }
}
