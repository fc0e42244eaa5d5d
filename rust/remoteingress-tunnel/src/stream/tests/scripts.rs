//! The view that either end of a stream has of the other, in one set of scripts for all faces.

use super::rig::{End, Face, Scene, assert_reset, pattern, play, say};
use crate::stream::splice::Outcome;
use remoteingress_core::stream::{LINGER, Timeouts};
use remoteingress_proto::mux::Carrier;
use remoteingress_proto::mux::stream::AbortCode;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;

/// Bytes that a reader who stops lets into the tunnel: its window.
const IN_THE_TUNNEL: usize = 256 * 1_024;
/// Bytes that the kernel holds beside that for each pair of sockets, generously.
const IN_THE_KERNEL: usize = 1_024 * 1_024;

macro_rules! on_all_faces {
    (mod $module:ident, $carrier:ident, $client:ident, $target:ident, $($script:ident,)*) => {
        mod $module {
            use super::*;

            $(
                #[test]
                fn $script() {
                    play(|| async {
                        let (client, target) = (Face::$client, Face::$target);
                        let scene = Scene::new(Carrier::$carrier, client, target).await;
                        super::$script(scene).await;
                    });
                }
            )*
        }
    };
    ($($script:ident,)*) => {
        on_all_faces!(mod pipe_to_pipe, Ordered, Pipe, Pipe, $($script,)*);
        on_all_faces!(mod pipe_to_program, Ordered, Pipe, Program, $($script,)*);
        on_all_faces!(mod program_to_pipe, Ordered, Program, Pipe, $($script,)*);
        on_all_faces!(mod program_to_program, Ordered, Program, Program, $($script,)*);
        on_all_faces!(mod pipe_to_handed_over, Ordered, Pipe, HandedOver, $($script,)*);
        on_all_faces!(mod program_to_program_on_lanes, Lanes, Program, Program, $($script,)*);
        on_all_faces!(mod pipe_to_handed_over_on_lanes, Lanes, Pipe, HandedOver, $($script,)*);
    };
}

on_all_faces! {
    bytes_arrive_as_written_both_ways,
    the_client_may_end_first,
    the_target_may_end_first,
    an_end_comes_after_all_bytes,
    an_empty_stream_ends_in_order,
    a_reset_by_the_client_reaches_the_target,
    a_reset_by_the_target_reaches_the_client,
    a_reset_after_the_clients_end_still_reaches_it,
    a_lost_session_resets_a_client_that_still_writes_after_the_targets_end,
    bytes_before_a_reset_are_not_lost,
    a_reset_waits_five_seconds_for_a_reader_that_stops,
    a_reader_that_stops_bounds_the_writer,
    a_stream_is_aborted_with_its_code,
    an_idle_stream_ends,
    a_half_closed_stream_ends_sooner,
}

async fn bytes_arrive_as_written_both_ways(mut scene: Scene) {
    let bytes = pattern(3 << 20);
    for _ in 0..2 {
        let Scene { client, target, .. } = &mut scene;
        let (written, ()) = tokio::join!(client.write_all(&bytes), target.expect(bytes.len()));
        written.unwrap();
        std::mem::swap(client, target);
    }
    // Both ways at once.
    let Scene { client, target, .. } = &mut scene;
    let (mut client_reads, mut client_writes) = tokio::io::split(client);
    let (mut target_reads, mut target_writes) = tokio::io::split(target);
    let sinks = [&mut tokio::io::sink(), &mut tokio::io::sink()];
    let [there, back] = sinks;
    let copied = tokio::join!(
        async {
            client_writes.write_all(&bytes).await.unwrap();
            client_writes.shutdown().await.unwrap();
        },
        async {
            target_writes.write_all(&bytes).await.unwrap();
            target_writes.shutdown().await.unwrap();
        },
        tokio::io::copy(&mut target_reads, there),
        tokio::io::copy(&mut client_reads, back),
    );
    assert_eq!(copied.2.unwrap(), bytes.len() as u64);
    assert_eq!(copied.3.unwrap(), bytes.len() as u64);
    drop((client_reads, client_writes, target_reads, target_writes));
    assert_finished(&mut scene).await;
}

async fn the_client_may_end_first(mut scene: Scene) {
    say(&mut scene.client, b"question").await;
    assert_said(&mut scene.target, b"question").await;
    say(&mut scene.target, b"answer").await;
    assert_said(&mut scene.client, b"answer").await;
    assert_finished(&mut scene).await;
}

async fn the_target_may_end_first(mut scene: Scene) {
    say(&mut scene.target, b"banner").await;
    assert_said(&mut scene.client, b"banner").await;
    say(&mut scene.client, b"last words").await;
    assert_said(&mut scene.target, b"last words").await;
    assert_finished(&mut scene).await;
}

async fn an_end_comes_after_all_bytes(mut scene: Scene) {
    let bytes = pattern(200_000);
    say(&mut scene.client, &bytes).await;
    scene.rig.quiet().await;
    // Nobody has read yet.
    assert_said(&mut scene.target, &bytes).await;
}

async fn an_empty_stream_ends_in_order(mut scene: Scene) {
    say(&mut scene.client, b"").await;
    assert_said(&mut scene.target, b"").await;
    say(&mut scene.target, b"").await;
    assert_said(&mut scene.client, b"").await;
    assert_finished(&mut scene).await;
}

async fn a_reset_by_the_client_reaches_the_target(mut scene: Scene) {
    scene.client.write_all(&pattern(5)).await.unwrap();
    scene.target.expect(5).await;
    scene.client.reset();
    let is_program = scene.target.is_program();
    let (_, ended) = scene.target.rest().await;
    assert_reset(ended, is_program, AbortCode::Reset);
}

async fn a_reset_by_the_target_reaches_the_client(mut scene: Scene) {
    scene.target.write_all(&pattern(5)).await.unwrap();
    scene.client.expect(5).await;
    scene.target.reset();
    let is_program = scene.client.is_program();
    let (_, ended) = scene.client.rest().await;
    assert_reset(ended, is_program, AbortCode::Reset);
}

async fn a_reset_after_the_clients_end_still_reaches_it(mut scene: Scene) {
    say(&mut scene.client, b"question").await;
    assert_said(&mut scene.target, b"question").await;
    scene.target.reset();
    let is_program = scene.client.is_program();
    let (_, ended) = scene.client.rest().await;
    assert_reset(ended, is_program, AbortCode::Reset);
}

async fn a_lost_session_resets_a_client_that_still_writes_after_the_targets_end(mut scene: Scene) {
    say(&mut scene.target, b"banner").await;
    assert_said(&mut scene.client, b"banner").await;
    let edge = scene.rig.edge.local.clone();
    edge.session().detach(Instant::now());
    edge.session().begin_again(0);
    edge.notify();
    keep_writing(&mut scene.client)
        .await
        .expect_err("nobody takes it");
    drop(scene.client);
    scene.rig.quiet().await;
    assert_eq!(edge.session().active_streams(), 0, "the stream is kept");
}

async fn bytes_before_a_reset_are_not_lost(mut scene: Scene) {
    let answer = pattern(20_000);
    scene.target.write_all(&answer).await.unwrap();
    // A reset takes what the target's own kernel still has with it.
    scene.rig.quiet().await;
    scene.target.reset();
    scene.rig.quiet().await;
    scene.client.expect(answer.len()).await;
    let is_program = scene.client.is_program();
    let (rest, ended) = scene.client.rest().await;
    assert!(rest.is_empty());
    assert_reset(ended, is_program, AbortCode::Reset);
}

async fn a_reset_waits_five_seconds_for_a_reader_that_stops(mut scene: Scene) {
    let written = scene.target.fill(&scene.rig).await;
    scene.target.reset();
    scene.rig.quiet().await;
    let edge = &scene.rig.edge.local;
    let aborted_at = Instant::now();
    let nothing = Timeouts::default();
    edge.sweep_at(aborted_at + LINGER - Duration::from_secs(1), nothing);
    scene.rig.quiet().await;
    // It still gets bytes.
    scene.client.expect(1_000).await;
    scene.rig.quiet().await;
    // The hub's session may hold bytes for which the edge's window has no room yet.
    scene.rig.hub.local.sweep_at(aborted_at + LINGER, nothing);
    scene.rig.quiet().await;
    let late = Instant::now() + LINGER;
    edge.sweep_at(late, nothing);
    scene.rig.quiet().await;
    let is_program = scene.client.is_program();
    let (rest, ended) = scene.client.rest().await;
    assert!(1_000 + rest.len() < written, "all {written} arrived");
    assert_reset(ended, is_program, AbortCode::Reset);
}

async fn a_reader_that_stops_bounds_the_writer(mut scene: Scene) {
    let written = scene.client.fill(&scene.rig).await;
    let sockets = [&scene.client, &scene.target];
    let sockets = sockets.iter().filter(|end| !end.is_program()).count();
    let most = IN_THE_TUNNEL + sockets * IN_THE_KERNEL;
    assert!(written <= most, "{written} bytes of at most {most}");
    assert!(written >= IN_THE_TUNNEL, "{written}");
    // Once it reads again all of them come, and there is room for more.
    scene.target.expect(written).await;
    let more = pattern(1_000_000);
    let Scene { client, target, .. } = &mut scene;
    let (wrote, ()) = tokio::join!(client.write_all(&more), target.expect(more.len()));
    wrote.unwrap();
}

async fn a_stream_is_aborted_with_its_code(mut scene: Scene) {
    scene.rig.hub.local.end_streams(AbortCode::Ended);
    let (client, target) = (scene.client.is_program(), scene.target.is_program());
    assert_reset(scene.target.rest().await.1, target, AbortCode::Ended);
    assert_reset(scene.client.rest().await.1, client, AbortCode::Ended);
    let ended = Outcome::Aborted(AbortCode::Ended);
    assert!(scene.outcomes().await.iter().all(|how| *how == ended));
}

async fn an_idle_stream_ends(mut scene: Scene) {
    let timeouts = Timeouts {
        idle: Some(Duration::from_secs(10)),
        half_closed: None,
        ack: None,
    };
    let hub = scene.rig.hub.local.clone();
    hub.sweep_at(Instant::now() + Duration::from_secs(9), timeouts);
    scene.client.write_all(&pattern(5)).await.unwrap();
    scene.target.expect(5).await;
    hub.sweep_at(Instant::now() + Duration::from_secs(10), timeouts);
    let (client, target) = (scene.client.is_program(), scene.target.is_program());
    assert_reset(scene.target.rest().await.1, target, AbortCode::IdleTimeout);
    assert_reset(scene.client.rest().await.1, client, AbortCode::IdleTimeout);
}

async fn a_half_closed_stream_ends_sooner(mut scene: Scene) {
    let timeouts = Timeouts {
        idle: Some(Duration::from_secs(100)),
        half_closed: Some(Duration::from_secs(10)),
        ack: None,
    };
    let edge = scene.rig.edge.local.clone();
    edge.sweep_at(Instant::now() + Duration::from_secs(11), timeouts);
    say(&mut scene.client, b"question").await;
    assert_said(&mut scene.target, b"question").await;
    edge.sweep_at(Instant::now() + Duration::from_secs(11), timeouts);
    let (client, target) = (scene.client.is_program(), scene.target.is_program());
    assert_reset(scene.client.rest().await.1, client, AbortCode::IdleTimeout);
    // Its peer has said FIN: only writing tells it.
    let Err(error) = keep_writing(&mut scene.target).await;
    if target {
        assert_reset(Err(error), target, AbortCode::IdleTimeout);
    }
}

/// Writes until that fails.
async fn keep_writing(end: &mut End) -> Result<std::convert::Infallible, std::io::Error> {
    loop {
        end.write_all(b"more").await?;
        tokio::task::yield_now().await;
    }
}

async fn assert_said(end: &mut End, bytes: &[u8]) {
    let (read, ended) = end.rest().await;
    ended.unwrap();
    assert!(read == bytes, "{} of {} bytes", read.len(), bytes.len());
}

/// Both ends are told so, and nothing of the stream is left.
async fn assert_finished(scene: &mut Scene) {
    for end in [&mut scene.client, &mut scene.target] {
        assert_said(end, b"").await;
    }
    let finished = Outcome::Finished;
    assert!(scene.outcomes().await.iter().all(|how| *how == finished));
}
