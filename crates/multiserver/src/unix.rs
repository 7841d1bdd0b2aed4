//! Unix sockets: the door for clients of the same user. Who can open the file is us, so there is no handshake.
//!
//! The file's mode is 0600 before anyone can connect. A file left behind by a process that died is replaced; one on
//! which somebody listens is not.
//!
//! Source: multiserver 3 `plugins/unix-socket.js`.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

use crate::address::Endpoint;
use crate::transport::{Acceptor, Origin, Pending, Raw, Transport};

/// Clients that may wait to be accepted.
const BACKLOG: u32 = 128;

/// Unix sockets.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unix;

impl Transport for Unix {
    fn name(&self) -> &'static str {
        "unix"
    }

    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Raw>>> {
        let Endpoint::Unix { path } = endpoint else { return None };
        Some(Box::pin(async move { Ok(raw(UnixStream::connect(path).await?, path)) }))
    }

    fn listen<'a>(&'a self, endpoint: &'a Endpoint) -> Option<Pending<'a, io::Result<Box<dyn Acceptor>>>> {
        let Endpoint::Unix { path } = endpoint else { return None };
        Some(Box::pin(async move {
            remove_stale(path).await?;
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            // Nobody can connect before `listen`.
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            let inode = inode(path);
            let acceptor = UnixAcceptor {
                listener: socket.listen(BACKLOG)?,
                path: path.clone(),
                inode,
                endpoint: endpoint.clone(),
            };
            Ok(Box::new(acceptor) as Box<dyn Acceptor>)
        }))
    }
}

/// Device and number of the file, by which it is known again.
fn inode(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

async fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let in_use = |why: &str| Err(io::Error::new(io::ErrorKind::AddrInUse, why.to_owned()));
    if !metadata.file_type().is_socket() {
        return in_use("there is a file that is no socket");
    }
    match UnixStream::connect(path).await {
        Ok(_) => in_use("another process listens there"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

fn raw(stream: UnixStream, path: &Path) -> Raw {
    let (read, write) = stream.into_split();
    Raw {
        read: Box::new(read),
        write: Box::new(write),
        address: format!("unix:{}", path.display()),
        origin: Origin::Local,
    }
}

struct UnixAcceptor {
    listener: UnixListener,
    path: PathBuf,
    inode: Option<(u64, u64)>,
    endpoint: Endpoint,
}

impl Acceptor for UnixAcceptor {
    fn accept(&mut self) -> Pending<'_, io::Result<Raw>> {
        Box::pin(async {
            let (stream, _) = self.listener.accept().await?;
            Ok(raw(stream, &self.path))
        })
    }

    fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for UnixAcceptor {
    fn drop(&mut self) {
        // Not if another process has put its own there.
        if self.inode.is_some() && inode(&self.path) == self.inode {
            let _ = fs::remove_file(&self.path);
        }
    }
}
