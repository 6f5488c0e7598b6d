//! Listening sockets from whoever had them before: the running instance, or systemd.
//!
//! A new instance connects to the old one's Unix socket and receives the *listening sockets
//! themselves* (`SCM_RIGHTS`, unix(7)). Both accept from one queue until the new one says that it
//! is ready; only then the old one drains. No connection is refused and none is reset, which
//! `SO_REUSEPORT` cannot promise: it resets what waits in the queue of the socket that closes.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::io::AsyncReadExt;

/// What is handed over: the proxy's socket, and the admin's where there is one.
const MOST: usize = 2;
/// The message that carries the sockets.
const SOCKETS: u8 = b'S';
/// What the new instance says when it accepts connections.
const READY: u8 = b'R';
/// The old instance answers at once or not at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// The first descriptor that systemd passes (sd_listen_fds(3)).
const SYSTEMD_FIRST: i32 = 3;

/// Sockets taken over from a running instance, which goes on until [`Taken::ready`].
pub struct Taken {
    /// The proxy's.
    pub listener: TcpListener,
    /// The admin's.
    pub admin: Option<TcpListener>,
    old: UnixStream,
}

impl Taken {
    /// Tells the old instance that this one accepts connections: it drains and ends.
    ///
    /// # Errors
    /// It is gone, which is as good.
    pub fn ready(mut self) -> io::Result<()> {
        self.old.write_all(&[READY])
    }
}

/// Takes the sockets of the instance that listens at `path`; `Ok(None)` where there is none.
///
/// # Errors
/// It is there and does not hand over.
pub fn take(path: &Path) -> io::Result<Option<Taken>> {
    let mut old = match UnixStream::connect(path) {
        Ok(old) => old,
        Err(e)
            if matches!(
                e.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
            ) =>
        {
            return Ok(None);
        }
        Err(e) => return Err(e),
    };
    old.set_read_timeout(Some(PATIENCE))?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(&old, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            sockets.extend(received.map(TcpListener::from));
        }
    }
    let mut sockets = sockets.into_iter();
    match (byte, sockets.next()) {
        ([SOCKETS], Some(listener)) => {
            old.set_read_timeout(None)?;
            Ok(Some(Taken {
                listener,
                admin: sockets.next(),
                old,
            }))
        }
        _ => {
            let _ = old.read(&mut byte);
            Err(io::Error::other(
                "the instance there handed no sockets over; it may belong to another user",
            ))
        }
    }
}

/// The socket that systemd listens on for this process (`LISTEN_PID`, `LISTEN_FDS`).
///
/// # Errors
/// There is none.
pub fn from_systemd() -> io::Result<TcpListener> {
    let number = |name| std::env::var(name).ok().and_then(|v| v.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").unwrap_or(0) == 0 {
        return Err(io::Error::other(
            "systemd passed no socket to this process: start it from a .socket unit",
        ));
    }
    // A copy of the descriptor, since only a raw number says which one it is.
    let this = Pid::from_raw(i32::try_from(std::process::id()).map_err(io::Error::other)?)
        .ok_or_else(|| io::Error::other("this process has no id"))?;
    let own = pidfd_open(this, PidfdFlags::empty())?;
    let socket: OwnedFd = pidfd_getfd(own, SYSTEMD_FIRST, PidfdGetfdFlags::empty())?;
    Ok(TcpListener::from(socket))
}

/// Hands sockets over to the next instance.
pub struct Giver {
    path: PathBuf,
    inode: u64,
    listener: tokio::net::UnixListener,
    sockets: Vec<OwnedFd>,
}

impl Giver {
    /// Listens at `path` (mode 0600), in the place of whoever did before. Needs a runtime.
    ///
    /// # Errors
    /// Any I/O error.
    pub fn bind(path: &Path, sockets: Vec<OwnedFd>) -> io::Result<Self> {
        // A name of its own first: there is no moment at which nobody or anybody can connect.
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let temporary = path.with_file_name(format!("{name}.{}", std::process::id()));
        let listener = tokio::net::UnixListener::bind(&temporary)?;
        std::fs::set_permissions(&temporary, PermissionsExt::from_mode(0o600))?;
        let inode = std::fs::metadata(&temporary)?.ino();
        std::fs::rename(&temporary, path)?;
        Ok(Self {
            path: path.to_owned(),
            inode,
            listener,
            sockets,
        })
    }

    /// Resolves when a new instance has the sockets and accepts connections.
    pub async fn given(&self) {
        loop {
            let Ok((mut new, _)) = self.listener.accept().await else {
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            };
            let ours = rustix::process::geteuid().as_raw();
            if new.peer_cred().map(|c| c.uid()).ok() != Some(ours) {
                continue;
            }
            if let Err(e) = self.send(&new) {
                tracing::warn!("the sockets could not be handed over: {e}");
                continue;
            }
            let mut byte = [0];
            // Where it dies before it is ready, this instance goes on.
            match new.read_exact(&mut byte).await {
                Ok(_) if byte == [READY] => return,
                _ => tracing::warn!("a new instance took the sockets and ended: this one goes on"),
            }
        }
    }

    fn send(&self, to: &tokio::net::UnixStream) -> io::Result<()> {
        let sockets: Vec<_> = self.sockets.iter().take(MOST).map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&sockets));
        let byte = [SOCKETS];
        sendmsg(
            to,
            &[IoSlice::new(&byte)],
            &mut ancillary,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

impl Drop for Giver {
    fn drop(&mut self) {
        // Not where the next instance has put its own there.
        if std::fs::metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
