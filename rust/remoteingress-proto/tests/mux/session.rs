//! The session's behaviour between two ends, in virtual time.

use remoteingress_proto::mux::stream::{AbortCode, StreamEnd};
use remoteingress_proto::mux::{Event, SessionError, Violation};
use remoteingress_testkit::pair::{Pair, edge, hub};
use std::time::Duration;

#[test]
fn payload_and_half_close_cross_in_both_directions() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"header");
    pair.send(edge(a), b"question");
    pair.finish(edge(a));
    pair.settle();
    assert_eq!(
        pair.read(hub(b)),
        (b"question".to_vec(), Some(StreamEnd::Finished))
    );
    pair.send(hub(b), b"answer");
    pair.settle();
    assert_eq!(pair.read(edge(a)), (b"answer".to_vec(), None));
    pair.finish(hub(b));
    pair.settle();
    assert_eq!(pair.read(edge(a)), (vec![], Some(StreamEnd::Finished)));
    pair.release(edge(a));
    pair.release(hub(b));
    pair.settle_until_flushed();
    assert_eq!(pair.committed(), 0);
}

#[test]
fn fin_never_overtakes_data_even_beside_a_stream_that_goes_first() {
    let mut pair = Pair::new();
    let (bulk, bulk_hub) = pair.open(b"bulk");
    pair.send(edge(bulk), &[1; 100_000]);
    pair.finish(edge(bulk));
    let small = pair.edge.open(pair.now, b"small").expect("open");
    pair.send(edge(small), b"keystroke");
    pair.finish(edge(small));
    let mut got = Vec::new();
    loop {
        pair.transfer(1_000);
        let (payload, end) = pair.read(hub(bulk_hub));
        got.extend(payload);
        if let Some(end) = end {
            assert_eq!((got.len(), end), (100_000, StreamEnd::Finished));
            break;
        }
        assert!(got.len() <= 100_000);
    }
}

#[test]
fn an_abort_comes_after_the_bytes_before_it() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    pair.send(hub(b), b"413");
    pair.hub.abort(b, AbortCode::Reset);
    pair.settle();
    assert_eq!(
        pair.read(edge(a)),
        (b"413".to_vec(), Some(StreamEnd::Aborted(AbortCode::Reset)))
    );
    pair.release(edge(a));
    pair.release(hub(b));
    pair.settle_until_flushed();
    assert_eq!(pair.committed(), 0);
}

#[test]
fn a_stream_that_ends_before_its_open_left_is_never_seen() {
    let mut pair = Pair::new();
    pair.cut();
    let key = pair.edge.open(pair.now, b"h").expect("open");
    pair.send(edge(key), b"lost");
    pair.edge.abort(key, AbortCode::Reset);
    pair.release(edge(key));
    pair.resume();
    pair.settle_until_flushed();
    assert_eq!(pair.opened, vec![]);
    assert_eq!(pair.committed(), 0);
}

#[test]
fn resume_brings_every_byte_once_wherever_the_connection_dies() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    let (mut sent, mut got) = (Vec::new(), Vec::new());
    for round in 0..200usize {
        let piece: Vec<u8> = (0..5_000).map(|i| (i * 7 + round) as u8).collect();
        pair.send(edge(a), &piece);
        sent.extend(piece);
        // Some of what is sent now arrives, then the connection dies, perhaps in mid-frame.
        pair.transfer(round * 137 % 6_000);
        pair.cut();
        pair.resume();
        pair.transfer(usize::MAX);
        got.extend(pair.read(hub(b)).0);
    }
    pair.settle();
    got.extend(pair.read(hub(b)).0);
    assert!(got == sent, "{} of {}", got.len(), sent.len());
}

#[test]
fn a_cancel_overtakes_and_stops_what_isnt_wanted() {
    let mut pair = Pair::new();
    let (a, b) = pair.open(b"h");
    pair.send(hub(b), &[1; 10_000]);
    pair.edge.cancel(a);
    pair.settle();
    assert!(pair.hub_events.contains(&Event::SendStopped(b)));
    pair.finish(edge(a));
    pair.settle();
    assert_eq!(pair.read(hub(b)).1, Some(StreamEnd::Finished));
    pair.release(edge(a));
    pair.release(hub(b));
    pair.settle_until_flushed();
    assert_eq!(pair.committed(), 0);
}

#[test]
fn silence_is_noticed_after_eight_seconds_and_the_session_lost_after_the_resume_timeout() {
    let mut pair = Pair::new();
    pair.now += Duration::from_secs(9);
    assert_eq!(
        pair.edge.handle_timeout(pair.now),
        Err(SessionError::PeerSilent)
    );
    pair.edge.detach(pair.now);
    pair.now += Duration::from_secs(29);
    assert_eq!(pair.edge.handle_timeout(pair.now), Ok(()));
    pair.now += Duration::from_secs(1);
    assert_eq!(
        pair.edge.handle_timeout(pair.now),
        Err(SessionError::ResumeExpired)
    );
}

#[test]
fn resume_offsets_that_dont_fit_are_refused() {
    let mut pair = Pair::new();
    let (a, _) = pair.open(b"h");
    pair.send(edge(a), b"x");
    pair.settle();
    assert!(!pair.edge.can_resume(99));
    assert_eq!(
        pair.edge.attach(pair.now, 99),
        Err(Violation::BadOffset(99))
    );
}
