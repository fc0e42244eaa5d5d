//! Connects to a unix socket.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout_at};

/// Pause before a listener whose queue is full is tried again: the kernel doesn't tell when there is room.
const RETRY: Duration = Duration::from_millis(20);

/// Connects to the listener at this path, or at this name of the abstract namespace after `@`. The socket comes as the type
/// that streams have: reading, writing and closing are the same calls for both. Options of TCP fail on it, and a close of it
/// is never a reset.
///
/// # Errors
/// Nobody listens, this process may not connect there, or the listener took nobody before `deadline`.
pub async fn connect(path: &str, deadline: Instant) -> io::Result<TcpStream> {
    let name = match path.strip_prefix('@') {
        Some(name) => format!("\0{name}"),
        None => path.to_owned(),
    };
    let connect = async {
        loop {
            match UnixStream::connect(&name).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(RETRY).await,
                connected => return connected,
            }
        }
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    let connected = timeout_at(deadline, connect).await.map_err(late)??;
    let descriptor = OwnedFd::from(connected.into_std()?);
    TcpStream::from_std(descriptor.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_name_of_the_abstract_namespace_is_connected() {
        let name = format!("remoteingress-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut socket = connect(&format!("@{name}"), deadline).await.unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let mut accepted = UnixStream::from_std(accepted).unwrap();
        socket.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        accepted.read_exact(&mut received).await.unwrap();
        assert_eq!(&received, b"ping");
        drop(accepted);
        assert_eq!(socket.read(&mut received).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_path_without_a_listener_fails_with_the_kernels_error() {
        let deadline = Instant::now() + Duration::from_secs(5);
        let error = connect("/nowhere/app.sock", deadline).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_listener_whose_queue_is_full_is_waited_for_until_the_deadline() {
        let name = format!("remoteingress-full-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let name = format!("@{name}");
        let soon = || Instant::now() + Duration::from_millis(100);
        let mut queued = Vec::new();
        let error = loop {
            match connect(&name, soon()).await {
                Ok(socket) => queued.push(socket),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waits = tokio::spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(10);
            connect(&name, deadline).await
        });
        for _ in 0..=queued.len() {
            tokio::task::yield_now().await;
        }
        listener.accept().unwrap();
        waits.await.unwrap().unwrap();
    }
}
