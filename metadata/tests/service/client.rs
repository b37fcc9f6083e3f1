//! A guest: a plain HTTP/1.1 client bound to an address, which shows responses as they were on the wire.

use std::{
    collections::HashMap,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// An open connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(from: Ipv4Addr, to: SocketAddr) -> Connection {
        let SocketAddr::V4(to) = to else { panic!("{to}") };
        let fd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(from, 0))).unwrap();
        connect(fd.as_raw_fd(), &SockaddrIn::from(to)).unwrap();
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Connection {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Another hand on the same connection.
    pub(crate) fn clone(&self) -> Connection {
        Connection {
            stream: self.stream.try_clone().unwrap(),
            buffer: Vec::new(),
        }
    }

    /// Sends what the service may not want to hear to the end.
    pub(crate) fn try_send(&mut self, text: &str) {
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// The next response; `None` when the service closed the connection.
    pub(crate) fn receive(&mut self, head_only: bool) -> Option<Reply> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: HashMap<String, String> = lines
            .map(|line| line.split_once(": ").unwrap_or((line.trim_end_matches(':'), "")))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length: usize = headers["content-length"].parse().unwrap();
        let length = if head_only { 0 } else { length };
        while self.buffer.len() < length {
            self.fill()?;
        }
        Some(Reply {
            status,
            headers,
            body: self.buffer.drain(..length).collect(),
        })
    }

    fn fill(&mut self) -> Option<()> {
        let mut chunk = [0; 4096];
        let count = match self.stream.read(&mut chunk) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("{error}"),
        };
        self.buffer.extend(&chunk[..count]);
        (count > 0).then_some(())
    }

    /// Sends a request with headers and receives its response.
    pub(crate) fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
        let headers: String = headers.iter().map(|(n, v)| format!("{n}: {v}\r\n")).collect();
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n{headers}\r\n"
        ));
        self.receive(method == "HEAD").expect("a response")
    }

    /// Whether the service closes the connection without another word.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill().is_none()
    }
}
