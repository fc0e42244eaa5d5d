//! Streams between two sessions in one process: what each face of a stream does, and that all do the same.

mod program;
mod rig;
mod scripts;

use std::cell::OnceCell;
use tokio::net::TcpStream;

/// The socket isn't counted: its size depends on the features that tokio is built with.
#[test]
fn an_idle_stream_pays_176_bytes_for_its_pipe_beside_the_socket() {
    let socket = size_of::<OnceCell<TcpStream>>();
    let own = size_of::<super::splice::Pipe>() - socket;
    assert!(own <= 176, "{own} beside {socket}");
}
