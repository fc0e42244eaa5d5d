//! Streams between two sessions in one process: what each face of a stream does, and that all do the same.

mod program;
mod rig;
mod scripts;

#[test]
fn an_idle_stream_pays_for_a_pipe_of_152_bytes() {
    let size = size_of::<super::splice::Pipe>();
    assert!(size <= 152, "{size}");
}
