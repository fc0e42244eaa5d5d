//! Listens at a unix socket that only this process's user may connect to.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// A listener whose file goes when it does, unless another process has put its own there.
#[derive(Debug)]
pub struct OwnListener {
    /// The listener itself.
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file.
    file: (u64, u64),
}

impl OwnListener {
    /// Binds the path with mode 0600. The file of a listener that is gone is replaced.
    ///
    /// # Errors
    /// `AddrInUse`: another process listens there, or a file lies there that is no socket. Others: the directory is missing
    /// or may not be written.
    pub fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        // Linux gives the file the mode of the socket, so that there is no moment at which others could connect.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        socket.bind(&SockAddr::unix(path)?)?;
        let found = path.symlink_metadata()?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            listener: UnixListener::from_std(StdListener::from(socket))?,
            path: path.to_owned(),
            file: (found.dev(), found.ino()),
        })
    }
}

/// Removes the socket file at `path` if nobody listens there.
fn remove_stale(path: &Path) -> io::Result<()> {
    let found = match path.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let problem = "there is a file that is no socket";
        return Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)
        }
        Ok(_) | Err(_) => {
            let problem = "another process listens there";
            Err(io::Error::new(io::ErrorKind::AddrInUse, problem))
        }
    }
}

impl Drop for OwnListener {
    fn drop(&mut self) {
        let is_ours = self
            .path
            .symlink_metadata()
            .is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if is_ours {
            // One that can't be removed is stale, and the next start removes it.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
