//! The sockets that a recorder listens on.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::flags::{Listen, RecordArgs};
use crate::cli::Failure;
use crate::handover::{self, Taken};

pub(super) type Admin = Option<(TcpListener, SocketAddr)>;

/// The proxy's and the admin's sockets: from the running instance, from systemd, or new.
pub(super) fn sockets(args: &RecordArgs) -> Result<(TcpListener, Admin, Option<Taken>), Failure> {
    let taken = match &args.handover {
        Some(path) => handover::take(path)
            .map_err(|e| Failure::usage(format!("--handover {}: {e}", path.display())))?,
        None => None,
    };
    let adopt = |socket: std::net::TcpListener| {
        socket.set_nonblocking(true)?;
        TcpListener::from_std(socket)
    };
    if let Some(mut taken) = taken {
        let clone = taken.listener.try_clone();
        let listener = clone.and_then(adopt).map_err(Failure::usage)?;
        let address = listener.local_addr().map_err(Failure::usage)?;
        if let Listen::Address(asked) = args.listen
            && asked.port() != 0
            && asked != address
        {
            return Err(Failure::usage(format!(
                "--listen {asked}: the running instance listens on {address}; hand over to the \
                 same address, or stop it first"
            )));
        }
        let admin = match taken.admin.take() {
            Some(socket) if args.admin != "off" => {
                let admin = adopt(socket).map_err(Failure::usage)?;
                let address = admin.local_addr().map_err(Failure::usage)?;
                Some((admin, address))
            }
            _ => admin_listener(&args.admin)?,
        };
        return Ok((listener, admin, Some(taken)));
    }
    let listener = match args.listen {
        Listen::Systemd => handover::from_systemd()
            .and_then(adopt)
            .map_err(|e| Failure::usage(format!("--listen systemd: {e}")))?,
        Listen::Address(address) => bind(address).map_err(|e| {
            Failure::usage(format!(
                "cannot listen on {address}: {e}; choose another --listen"
            ))
        })?,
    };
    Ok((listener, admin_listener(&args.admin)?, None))
}

fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// The admin address, bound; `None` where it is off.
fn admin_listener(address: &str) -> Result<Admin, Failure> {
    if address == "off" {
        return Ok(None);
    }
    let fail = |e: String| Failure::usage(format!("--admin {address}: {e}"));
    let parsed: SocketAddr = address
        .parse()
        .map_err(|_| fail("it must be an address like 127.0.0.1:9464, or `off`".to_owned()))?;
    let listener = bind(parsed).map_err(|e| fail(e.to_string()))?;
    let bound = listener.local_addr().map_err(|e| fail(e.to_string()))?;
    Ok(Some((listener, bound)))
}
