//! Listening sockets, and sentences for why one can't be had.

use std::{
    io::{Error, ErrorKind},
    net::TcpListener,
};

use anyhow::{Result, anyhow};

/// Binds the address that is configured under `setting`, which the error names as what to change.
pub(crate) fn bind(address: &str, setting: &str) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| anyhow!("{}", sentence(address, setting, &error)))
}

fn sentence(address: &str, setting: &str, error: &Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => format!(
            "another program listens on {address} already; end it (`ss -ltnp` names it), or set another address with {setting}"
        ),
        ErrorKind::AddrNotAvailable => format!(
            "{address} is no address of this machine; set one that is (`ip address` lists them) with {setting}"
        ),
        ErrorKind::PermissionDenied => format!(
            "this user may not listen on {address}; set a port from 1024 on with {setting}, or run as root"
        ),
        ErrorKind::InvalidInput => {
            format!("{address:?} is no address to listen on; set one like 127.0.0.1:8773 with {setting}")
        }
        _ => format!("can't listen on {address}, which is set with {setting}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_can_not_be_had_is_named_with_what_to_set() {
        let taken = bind("127.0.0.1:0", "--listen").unwrap();
        let taken = taken.local_addr().unwrap().to_string();
        for (address, says) in [
            (taken.as_str(), "another program listens on"),
            ("192.0.2.1:8773", "no address of this machine"),
            ("8773", "set one like"),
            ("127.0.0.1", "set one like"),
            ("127.0.0.1:http", "set one like"),
            ("", "set one like"),
        ] {
            let error = bind(address, "--listen").unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(address), "{error}");
            assert!(
                error.contains("--listen") && !error.contains("os error"),
                "{error}"
            );
        }
        let denied = sentence("127.0.0.1:80", "--listen", &ErrorKind::PermissionDenied.into());
        assert!(
            denied.contains("127.0.0.1:80") && denied.contains("1024"),
            "{denied}"
        );
    }
}
