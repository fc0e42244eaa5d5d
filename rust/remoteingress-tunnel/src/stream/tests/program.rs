//! The things that only programs can do with a stream.

use super::rig::{
    End, Face, Rig, Scene, Side, assert_reset, pattern, play, run, say, small_sockets, sockets,
};
use crate::session::delivery::deliver;
use crate::stream::splice::Outcome;
use crate::stream::tunnel_stream::TunnelStream;
use bytes::Bytes;
use remoteingress_proto::mux::stream::AbortCode;
use remoteingress_proto::mux::{Carrier, Role};
use remoteingress_proto::wire::frame::DataBuffer;
use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Two programs with a stream between them: the client's end and the target's.
async fn programs() -> (Rig, TunnelStream, TunnelStream) {
    let rig = Rig::new(Carrier::Ordered);
    let (edge, hub) = rig.open().await;
    let client = TunnelStream::new(&rig.edge.local, edge);
    let target = TunnelStream::new(&rig.hub.local, hub);
    (rig, client, target)
}

/// Takes `bytes` in pieces, as whoever detects a protocol does.
async fn preface(stream: &mut TunnelStream, bytes: usize) -> Vec<Bytes> {
    let mut pieces: Vec<Bytes> = Vec::new();
    let taken = |pieces: &[Bytes]| pieces.iter().map(Bytes::len).sum::<usize>();
    while taken(&pieces) < bytes {
        let most = bytes - taken(&pieces);
        pieces.push(stream.read_chunk(most).await.unwrap());
    }
    pieces
}

fn give_back(stream: &mut TunnelStream, pieces: &[Bytes]) {
    for piece in pieces.iter().rev() {
        stream.unread(piece.clone());
    }
}

#[test]
fn pieces_are_read_by_reference_and_an_end_is_an_empty_one() {
    play(|| async {
        let (_rig, mut client, mut target) = programs().await;
        say_as_program(&mut client, &pattern(30_000)).await;
        let pieces = preface(&mut target, 30_000).await;
        assert!(pieces.concat() == pattern(30_000));
        let first = pieces[0].clone();
        target.unread(pieces[0].clone());
        let again = target.read_chunk(usize::MAX).await.unwrap();
        assert_eq!(again.as_ptr(), first.as_ptr(), "it was copied");
        assert_eq!(target.read_chunk(9).await.unwrap(), Bytes::new());
        assert_eq!(target.read_chunk(9).await.unwrap(), Bytes::new());
    });
}

#[test]
fn bytes_given_back_are_read_again_and_counted_once() {
    play(|| async {
        let (_rig, mut client, mut target) = programs().await;
        say_as_program(&mut client, &pattern(100_000)).await;
        let pieces = preface(&mut target, 64 * 1_024).await;
        assert_eq!(target.moved(), (0, 64 * 1_024));
        give_back(&mut target, &pieces);
        assert_eq!(target.moved(), (0, 0));
        let mut read = Vec::new();
        target.read_to_end(&mut read).await.unwrap();
        assert!(read == pattern(100_000));
        assert_eq!(target.moved(), (0, 100_000));
        assert_eq!(client.moved(), (100_000, 0));
    });
}

#[test]
fn an_end_that_was_read_is_read_again_after_bytes_that_come_back() {
    play(|| async {
        let (_rig, mut client, mut target) = programs().await;
        say_as_program(&mut client, b"all").await;
        let all = target.read_chunk(9).await.unwrap();
        assert!(target.read_chunk(9).await.unwrap().is_empty());
        target.unread(all);
        let mut read = Vec::new();
        target.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"all");
    });
}

#[test]
fn a_preface_goes_to_the_socket_between_its_header_and_the_rest() {
    play(|| async {
        let (rig, mut client, mut target) = programs().await;
        let bytes = pattern(150_000);
        client.write_all(&bytes).await.unwrap();
        let pieces = preface(&mut target, 64 * 1_024).await;
        give_back(&mut target, &pieces);
        let (near, far) = sockets().await;
        let serial = target.serial();
        let pipe = target.into_pipe(near, Bytes::from_static(b"PROXY header"));
        assert_eq!(pipe.serial(), serial);
        let running = run(&rig.hub.local, pipe.clone());
        let mut far = End::Socket(far);
        let mut header = [0; 12];
        far.read_exact(&mut header).await.unwrap();
        assert_eq!(&header, b"PROXY header");
        far.expect(bytes.len()).await;
        say(&mut far, b"answer").await;
        say_as_program(&mut client, b"").await;
        let (read, ended) = End::Program(client).rest().await;
        ended.unwrap();
        assert_eq!(read, b"answer");
        assert_eq!(running.await.unwrap(), Outcome::Finished);
        assert_eq!(pipe.moved(), (6, 150_000), "the header is no payload");
    });
}

#[test]
fn a_preface_that_is_all_ends_the_sockets_direction() {
    play(|| async {
        let (rig, mut client, mut target) = programs().await;
        say_as_program(&mut client, b"question").await;
        let question = target.read_chunk(99).await.unwrap();
        assert!(target.read_chunk(99).await.unwrap().is_empty());
        target.unread(question);
        let (near, far) = sockets().await;
        let running = run(&rig.hub.local, target.into_pipe(near, Bytes::new()));
        let mut far = End::Socket(far);
        assert_eq!(far.rest().await.0, b"question");
        say(&mut far, b"answer").await;
        assert_eq!(End::Program(client).rest().await.0, b"answer");
        assert_eq!(running.await.unwrap(), Outcome::Finished);
    });
}

/// Credit for a preface is given once, although it is taken twice: else a target that stops would let more in each time.
#[test]
fn a_preface_opens_the_window_once() {
    play(|| async {
        let (rig, client, mut target) = programs().await;
        let mut client = End::Program(client);
        let window = client.fill(&rig).await;
        let half = window / 2;
        let pieces = preface(&mut target, half).await;
        let more = client.fill(&rig).await;
        assert!(more >= half / 2, "what is taken is credit");
        give_back(&mut target, &pieces);
        assert!(preface(&mut target, half).await == pieces);
        assert_eq!(client.fill(&rig).await, 0, "and that once");
    });
}

/// The same when a socket gets it that takes less than the preface, and yet more than a step of credit.
#[test]
fn a_preface_that_a_socket_takes_is_no_credit() {
    play(|| async {
        let (rig, client, mut target) = programs().await;
        let mut client = End::Program(client);
        let step = client.fill(&rig).await / 2;
        let pieces = preface(&mut target, step + step / 2).await;
        client.fill(&rig).await;
        give_back(&mut target, &pieces);
        let (near, far) = small_sockets(4 * 1_024).await;
        let pipe = target.into_pipe(near, Bytes::new());
        let running = run(&rig.hub.local, pipe.clone());
        let mut far = End::Socket(far);
        far.expect(step).await;
        assert_eq!(client.fill(&rig).await, 0);
        let (_, taken) = pipe.moved();
        assert!(taken < (step + step / 2) as u64, "{taken}");
        running.abort();
    });
}

#[test]
fn a_stream_that_fails_ends_the_dial_for_it() {
    play(|| async {
        let (rig, client, mut target) = programs().await;
        assert_eq!(target.unless_ended(async { 7 }).await, Some(7));
        rig.quiet().await;
        client.reset(AbortCode::ClientRefused);
        let dial = std::future::pending::<()>();
        assert_eq!(target.unless_ended(dial).await, None);
        let (near, far) = sockets().await;
        let running = run(&rig.hub.local, target.into_pipe(near, Bytes::new()));
        let refused = Outcome::Aborted(AbortCode::ClientRefused);
        assert_eq!(running.await.unwrap(), refused);
        let (_, ended) = End::Socket(far).rest().await;
        assert_reset(ended, false, AbortCode::Reset);
    });
}

#[test]
fn a_reset_carries_its_code() {
    play(|| async {
        let (_rig, client, target) = programs().await;
        target.reset(AbortCode::TargetRefused);
        let mut client = End::Program(client);
        let (_, ended) = client.rest().await;
        assert_reset(ended, true, AbortCode::TargetRefused);
        let error = client.write_all(b"more").await;
        assert_reset(error, true, AbortCode::TargetRefused);
        let error = client.shutdown().await;
        assert_reset(error, true, AbortCode::TargetRefused);
    });
}

#[test]
fn a_stream_dropped_without_shutdown_is_reset() {
    for face in [Face::Program, Face::Pipe] {
        play(|| async {
            let mut scene = Scene::new(Carrier::Ordered, face, Face::Program).await;
            scene.target.write_all(b"half an answer").await.unwrap();
            scene.rig.quiet().await;
            drop(scene.target);
            let is_program = scene.client.is_program();
            let (_, ended) = scene.client.rest().await;
            assert_reset(ended, is_program, AbortCode::Reset);
        });
    }
}

#[test]
fn a_stream_dropped_after_shutdown_ends_and_wants_no_more() {
    play(|| async {
        let (_rig, mut client, mut target) = programs().await;
        client.write_all(b"question").await.unwrap();
        say_as_program(&mut target, b"answer").await;
        drop(target);
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"answer");
        let error = loop {
            match client.write_all(b"more").await {
                Ok(()) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn nothing_can_be_written_after_shutdown() {
    play(|| async {
        let (_rig, mut client, _target) = programs().await;
        client.shutdown().await.unwrap();
        client.shutdown().await.unwrap();
        let error = client.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn slices_are_gathered_into_frames() {
    play(|| async {
        let (_rig, mut client, target) = programs().await;
        assert!(client.is_write_vectored());
        let bytes = pattern(50_000);
        let (small, rest) = bytes.split_at(3);
        let (medium, large) = rest.split_at(20_000);
        let slices = [&[], small, &[], medium, large].map(IoSlice::new);
        let written = poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &slices)).await;
        assert_eq!(written.unwrap(), 50_000);
        let tiny = [&b"ab"[..], b"cd"].map(IoSlice::new);
        let written = poll_fn(|cx| Pin::new(&mut client).poll_write_vectored(cx, &tiny)).await;
        assert_eq!(written.unwrap(), 4);
        let mut target = End::Program(target);
        target.expect(50_000).await;
        let mut read = [0; 4];
        target.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"abcd");
    });
}

#[test]
fn a_writer_without_room_is_woken_when_there_is_some() {
    play(|| async {
        let (rig, client, mut target) = programs().await;
        let mut client = End::Program(client);
        let window = client.fill(&rig).await;
        let writing = tokio::task::spawn_local(async move {
            client.write_all(b"more").await.unwrap();
            client
        });
        rig.quiet().await;
        assert!(!writing.is_finished());
        let mut read = vec![0; window];
        target.read_exact(&mut read).await.unwrap();
        drop(writing.await.unwrap());
    });
}

/// A slice would pin the whole buffer that the connection has read into.
#[test]
fn bytes_that_a_program_does_not_take_in_a_turn_are_copied() {
    play(|| async {
        let is_free = Arc::new(AtomicBool::new(false));
        let read = |frame| Bytes::from_owner(ReadBuffer(is_free.clone(), frame));
        let (hub, mut target) = in_the_turn_that_brought(10_000, read);
        assert!(!is_free.load(Ordering::Relaxed), "it is there by reference");
        hub.local.settle();
        assert!(is_free.load(Ordering::Relaxed), "the buffer is pinned");
        assert!(target.read_chunk(10_000).await.unwrap() == pattern(10_000));
    });
}

/// The same for those that came before the program had the stream.
#[test]
fn bytes_from_before_a_program_are_copied_in_the_next_turn() {
    let now = Instant::now();
    let [edge, hub] = [Role::Edge, Role::Hub].map(|role| Side::new(role, Carrier::Ordered));
    let key = edge.local.session().open(now, b"header").unwrap();
    let payload = DataBuffer::copy_from(&pattern(10_000));
    edge.local.session().send(key, payload).unwrap();
    let open = edge.local.session().poll_transmit(now).unwrap();
    hub.local.session().handle_input(now, open).unwrap();
    let is_free = Arc::new(AtomicBool::new(false));
    let frame = edge.local.session().poll_transmit(now).unwrap();
    let read = Bytes::from_owner(ReadBuffer(is_free.clone(), frame));
    hub.local.session().handle_input(now, read).unwrap();
    deliver(&hub.local, &*hub, now).unwrap();
    let _target = TunnelStream::new(&hub.local, hub.opened().unwrap());
    assert!(!is_free.load(Ordering::Relaxed), "it is there by reference");
    hub.local.settle();
    assert!(is_free.load(Ordering::Relaxed), "the buffer is pinned");
}

#[test]
fn bytes_that_came_in_this_turn_go_to_the_socket_too() {
    play(|| async {
        let (_hub, mut target) = in_the_turn_that_brought(10_000, |frame| frame);
        let head = target.read_chunk(3_000).await.unwrap();
        target.unread(head);
        let (near, far) = sockets().await;
        let pipe = target.into_pipe(near, Bytes::new());
        End::Socket(far).expect(10_000).await;
        assert_eq!(pipe.moved(), (0, 10_000));
    });
}

/// A stream to which its session has just given this many bytes, with the side that it is on.
fn in_the_turn_that_brought(
    bytes: usize,
    read: impl FnOnce(Bytes) -> Bytes,
) -> (Rc<Side>, TunnelStream) {
    let now = Instant::now();
    let [edge, hub] = [Role::Edge, Role::Hub].map(|role| Side::new(role, Carrier::Ordered));
    let key = edge.local.session().open(now, b"header").unwrap();
    edge.send_to(&hub, now);
    let target = TunnelStream::new(&hub.local, hub.opened().unwrap());
    let payload = DataBuffer::copy_from(&pattern(bytes));
    edge.local.session().send(key, payload).unwrap();
    let frame = edge.local.session().poll_transmit(now).unwrap();
    hub.local.session().handle_input(now, read(frame)).unwrap();
    deliver(&hub.local, &*hub, now).unwrap();
    (hub, target)
}

/// Tells when it is dropped.
struct ReadBuffer(Arc<AtomicBool>, Bytes);

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

impl Drop for ReadBuffer {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn say_as_program(stream: &mut TunnelStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.shutdown().await.unwrap();
}
