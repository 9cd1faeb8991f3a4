//! Where the API is reached: opening the UNIX socket and the TCP addresses.
//!
//! Owns what a taken address or a leftover socket file means. Never accepts a connection.

use crate::actors::platform::net::{Program, holder};
use crate::network::Protocol;
use nix::unistd::{Group, chown};
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest path of a UNIX socket (unix(7)), without the closing zero.
const SOCKET_PATH_MAX: usize = 107;

/// Why the API can't be reached at an address.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon answers on the socket.
    #[error("another mill answers at {}; stop it, or pass --socket PATH", path.display())]
    Living {
        /// The socket.
        path: PathBuf,
    },
    /// Something that isn't a socket is in the way.
    #[error("{} is in the way and no socket; move it, or pass --socket PATH", path.display())]
    NoSocket { path: PathBuf },
    /// Longer than the system can take.
    #[error("{} is too long for a socket; pass a shorter --socket PATH", path.display())]
    TooLong { path: PathBuf },
    /// The socket can't be made.
    #[error("can't open the socket {}; run as root, or pass --socket PATH", path.display())]
    Socket {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// Another program has the address.
    #[error("{address} is used by {by}. Pass {flag} {free}")]
    InUse {
        address: SocketAddr,
        /// The program, if it is known.
        by: Holder,
        /// The flag that sets the address.
        flag: &'static str,
        /// An address to try.
        free: SocketAddr,
    },
    /// The address can't be opened.
    #[error("can't open {address}; pass another one by {flag} ADDRESS:PORT")]
    Address {
        address: SocketAddr,
        /// The flag that sets the address.
        flag: &'static str,
        #[source]
        source: io::Error,
    },
}

/// An open TCP address, and what may be spoken there.
#[derive(Clone, Debug)]
pub struct Listening {
    pub tcp: Arc<tokio::net::TcpListener>,
    /// HTTP without TLS.
    pub plain: bool,
    /// With TLS; on the same address a connection's first byte tells which it is.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Who has an address.
#[derive(Debug)]
pub struct Holder(Option<Program>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(program) => write!(f, "{} (pid {})", program.name, program.pid),
            None => f.write_str("another program"),
        }
    }
}

/// The open UNIX socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct LocalSocket {
    listener: tokio::net::UnixListener,
    path: PathBuf,
    inode: u64,
}

/// Makes a folder that others may look into: what is in it is closed by itself, and whoever may
/// not use it is told so, instead of that nothing is there.
fn folder(directory: &Path) -> std::io::Result<()> {
    if directory.exists() {
        return Ok(());
    }
    fs::create_dir_all(directory)?;
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
}

/// The group whose members use the socket as root does, on a host that has one.
const GROUP: &str = "mill";

/// Lets the group use a socket.
fn lend(socket: &Path) -> io::Result<()> {
    let Ok(Some(group)) = Group::from_name(GROUP) else { return Ok(()) };
    chown(socket, None, Some(group.gid))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660))
}

impl LocalSocket {
    /// Opens the socket, mode 0600, or 0660 for the group `mill` where there is one. A file that a
    /// dead daemon left is replaced. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A living daemon has it, or it can't be made.
    pub fn open(path: &Path) -> Result<Self, ListenError> {
        let failed = |source| ListenError::Socket { path: path.to_owned(), source };
        // The socket is made under another name, so that nobody ever sees it with another mode.
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}", std::process::id()));
        let partial = PathBuf::from(partial);
        if partial.as_os_str().len() > SOCKET_PATH_MAX {
            return Err(ListenError::TooLong { path: path.to_owned() });
        }
        check_leftover(path)?;
        if let Some(directory) = path.parent() {
            folder(directory).map_err(failed)?;
        }
        // Of an earlier process of the same number, that was killed in between.
        let _ = fs::remove_file(&partial);
        let opened = (|| {
            let listener = UnixListener::bind(&partial)?;
            fs::set_permissions(&partial, fs::Permissions::from_mode(0o600))?;
            lend(&partial)?;
            listener.set_nonblocking(true)?;
            let inode = fs::symlink_metadata(&partial)?.ino();
            fs::rename(&partial, path)?;
            Ok((tokio::net::UnixListener::from_std(listener)?, inode))
        })();
        match opened {
            Ok((listener, inode)) => Ok(Self { listener, path: path.to_owned(), inode }),
            Err(error) => {
                // What is left of it would be in nobody's way, but is of no use.
                let _ = fs::remove_file(&partial);
                Err(failed(error))
            }
        }
    }

    /// The listener.
    #[must_use]
    pub fn listener(&self) -> &tokio::net::UnixListener {
        &self.listener
    }
}

impl LocalSocket {
    /// Takes the file away, whoever still holds the socket.
    pub fn remove(&self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode);
        if ours {
            // A file that is left behind is replaced by the next daemon.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Whether a file at the socket's place may be replaced.
fn check_leftover(path: &Path) -> Result<(), ListenError> {
    match fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => {
            Err(ListenError::NoSocket { path: path.to_owned() })
        }
        Ok(_) => match UnixStream::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            _ => Err(ListenError::Living { path: path.to_owned() }),
        },
    }
}

/// Opens a TCP address; `flag` is the one that sets it. Must be called within a tokio runtime.
///
/// # Errors
/// Another program has it, named with its process, or the address isn't this host's.
pub fn open_tcp(
    address: SocketAddr,
    flag: &'static str,
) -> Result<tokio::net::TcpListener, ListenError> {
    let opened = std::net::TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(listener)
    });
    opened.map_err(|source| refused(address, flag, source))
}

/// Why an address could not be opened; `flag` is the one that sets it.
pub fn refused(address: SocketAddr, flag: &'static str, source: io::Error) -> ListenError {
    if source.kind() != io::ErrorKind::AddrInUse {
        return ListenError::Address { address, flag, source };
    }
    let by = Holder(holder(address.port(), Protocol::Tcp));
    // Not the peer port, which is the API's next neighbour. Below 1024 a port is privileged.
    let next = match address.port() {
        80 => 8080,
        443 => 8443,
        port => port.checked_add(2).unwrap_or(port - 2),
    };
    let free = SocketAddr::new(address.ip(), next);
    ListenError::InUse { address, by, flag, free }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_daemons_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/mill.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let socket = LocalSocket::open(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let second = LocalSocket::open(&path).unwrap_err();
        assert!(matches!(second, ListenError::Living { .. }), "{second}");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_in_the_way_is_never_touched() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mill.sock");
        fs::write(&path, "precious").unwrap();
        let error = LocalSocket::open(&path).unwrap_err();
        assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn a_taken_address_names_the_program_and_the_flag() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = open_tcp(address, "--api").unwrap_err().to_string();
        let pid = format!("(pid {}). Pass --api 127.0.0.1:", std::process::id());
        assert!(error.starts_with(&format!("{address} is used by ")), "{error}");
        assert!(error.contains(&pid), "{error}");
    }
}
