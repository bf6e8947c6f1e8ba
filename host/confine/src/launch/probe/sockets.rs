//! Sockets that were not given.

use super::Found;
use crate::sys::attempt;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

const MPTCP: usize = 262;

struct Kind(&'static str, i32, i32, usize);

/// Without a grant.
pub(super) fn none(found: &mut Found) {
    let kinds = [
        Kind("TCP", libc::AF_INET, libc::SOCK_STREAM, 0),
        Kind("TCP over IPv6", libc::AF_INET6, libc::SOCK_STREAM, 0),
        Kind("UDP", libc::AF_INET, libc::SOCK_DGRAM, 0),
        Kind("UDP over IPv6", libc::AF_INET6, libc::SOCK_DGRAM, 0),
        Kind(
            "stream with flags",
            libc::AF_INET,
            libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        ),
    ];
    kinds.iter().chain(&NEVER).for_each(|kind| make(found, kind));
    pairs(found);
    rings(found);
}

const NEVER: [Kind; 13] = [
    Kind("MPTCP", libc::AF_INET, libc::SOCK_STREAM, MPTCP),
    Kind("MPTCP over IPv6", libc::AF_INET6, libc::SOCK_STREAM, MPTCP),
    Kind("SCTP", libc::AF_INET, libc::SOCK_SEQPACKET, 132),
    Kind("raw", libc::AF_INET, libc::SOCK_RAW, 1),
    Kind("ping", libc::AF_INET, libc::SOCK_DGRAM, 1),
    Kind("Unix", libc::AF_UNIX, libc::SOCK_STREAM, 0),
    Kind("Unix datagram", libc::AF_UNIX, libc::SOCK_DGRAM, 0),
    Kind("Unix seqpacket", libc::AF_UNIX, libc::SOCK_SEQPACKET, 0),
    Kind("netlink", libc::AF_NETLINK, libc::SOCK_RAW, 0),
    Kind("packet", libc::AF_PACKET, libc::SOCK_DGRAM, 0),
    Kind("vsock", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
    Kind("crypto", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
    Kind("Bluetooth", libc::AF_BLUETOOTH, libc::SOCK_STREAM, 0),
];

fn make(found: &mut Found, Kind(name, family, kind, protocol): &Kind) {
    let number = |n: &i32| usize::try_from(*n).unwrap_or(usize::MAX);
    let error = attempt(libc::SYS_socket, [number(family), number(kind), *protocol, 0]);
    // A kernel that does not know the family says so; only the filter says that it is not permitted.
    let unknown =
        [libc::EAFNOSUPPORT, libc::EPROTONOSUPPORT, libc::ESOCKTNOSUPPORT, libc::EINVAL].contains(&error);
    found.when(!refused(error) && !unknown, &format!("make a {name} socket"));
}

fn refused(error: i32) -> bool {
    [libc::EPERM, libc::EACCES, libc::ENOSYS].contains(&error)
}

/// A datagram pair can be connected anew, to a path.
fn pairs(found: &mut Found) {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let pair = |kind| socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None);
    found.when(pair(SocketType::DGRAM).is_ok(), "make a pair of datagram sockets");
    found.when(pair(SocketType::STREAM).is_err(), "not make a pair of stream sockets, which programs need");
}

fn rings(found: &mut Found) {
    found.when(!refused(attempt(libc::SYS_io_uring_setup, [1, 0, 0, 0])), "set up an io_uring");
}

/// With loopback granted: it works, and nothing else does.
pub(super) fn loopback(found: &mut Found) {
    NEVER.iter().for_each(|kind| make(found, kind));
    pairs(found);
    rings(found);
    found.when(echo().is_err(), "not use loopback, which was granted");
    let away = "192.0.2.1:9".parse().map(|to| TcpStream::connect_timeout(&to, Duration::from_millis(200)));
    let unreachable = matches!(&away, Ok(Err(error)) if error.raw_os_error() == Some(libc::ENETUNREACH));
    found.when(!unreachable, "find a way out by TCP");
    let sent = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.send_to(b"?", "192.0.2.1:9"));
    found.when(sent.is_ok(), "find a way out by UDP");
}

fn echo() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    client.write_all(b"!")?;
    listener.accept()?.0.read_exact(&mut [0])
}
