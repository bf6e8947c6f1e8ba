//! Confines itself as the runner (`probe runner FOLDER SOCKET`), as the runner of a pod, which may dial the port of the
//! address that its standard input begins with, or as the compiler does, and writes what each of its threads still can. For
//! tests; not shipped.

#![expect(clippy::print_stdout, reason = "that is how the test hears of it")]

use confine::{Dial, Features, RunnerPaths};
use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, role, folder, socket] = arguments.as_slice() else {
        return Err("probe ROLE FOLDER SOCKET".into());
    };
    let (folder, socket) = (PathBuf::from(folder), PathBuf::from(socket));
    let features = Features::of_this_host(&[]);
    let mut server = String::new();
    let paths = |dial| RunnerPaths { read_write: vec![folder.clone()], read_only: Vec::new(), dial };
    match role.as_str() {
        "runner" => confine::runner(&paths(Dial::Unix), features)?,
        "runner-in-a-pod" => {
            std::io::stdin().read_line(&mut server)?;
            let address: SocketAddr = server.trim().parse()?;
            confine::runner(&paths(Dial::Tcp(address.port())), features)?
        }
        _ => confine::compiler(features)?,
    };
    let server = server.trim().parse().unwrap_or(SocketAddr::from(([127, 0, 0, 1], 9)));
    attempts("main", &folder, &socket, server);
    let (tried, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        attempts("other", &folder, &socket, server);
        let _ = tried.send(());
        loop {
            std::thread::park();
        }
    });
    wait.recv()?;
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

fn attempts(thread: &str, folder: &Path, socket: &Path, server: SocketAddr) {
    let outside = folder.with_file_name("outside");
    let parent = rustix::process::getppid();
    let new = folder.join("new");
    let own = || fs::write(&new, "x").is_ok() && fs::read(&new).is_ok();
    #[rustfmt::skip]
    let all: [(&str, bool); 21] = [
        ("read outside", fs::read(&outside).is_ok()),
        ("write outside", fs::write(&outside, "").is_ok()),
        ("list outside", fs::read_dir("/").is_ok()),
        ("read its own environment", fs::read("/proc/self/environ").is_ok()),
        ("read the system", fs::read("/etc/hostname").is_ok() || fs::read("/usr/bin/env").is_ok()),
        ("write its folder", own()),
        ("change a mode outside", fs::set_permissions(&outside, std::os::unix::fs::PermissionsExt::from_mode(0o600)).is_ok()),
        ("make a device", rustix::fs::mknodat(rustix::fs::CWD, folder.join("d"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).is_ok()),
        ("execute", Command::new("/bin/true").status().is_ok()),
        ("signal its parent", parent.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())),
        ("dial the server", UnixStream::connect(socket).is_ok()),
        ("serve", UnixListener::bind(folder.join("own")).is_ok()),
        ("pair sockets", UnixStream::pair().is_ok()),
        ("pair datagram sockets", UnixDatagram::pair().is_ok()),
        ("dial its server's port", TcpStream::connect(server).is_ok()),
        ("dial another port", TcpStream::connect("127.0.0.1:9").is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionRefused)),
        ("dial another port by sending", fast_open().is_ok()),
        ("serve TCP", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("use UDP", UdpSocket::bind("127.0.0.1:0").is_ok()),
        ("allocate", vec![1_u8; 64 << 20].iter().map(|byte| u64::from(*byte)).sum::<u64>() == 64 << 20),
        ("have a terabyte", Vec::<u8>::new().try_reserve_exact(1 << 46).is_ok()),
    ];
    for (what, could) in all {
        if could {
            println!("{thread}: {what}");
        }
    }
}

/// Whether the connection came about does not matter, but that the call was made.
fn fast_open() -> Result<(), rustix::io::Errno> {
    use rustix::net::{AddressFamily, SendFlags, SocketType, sendto, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    let flags = SendFlags::from_bits_retain(0x2000_0000);
    match sendto(&socket, b"x", flags, &SocketAddr::from(([127, 0, 0, 1], 9))) {
        Err(rustix::io::Errno::CONNREFUSED) => Ok(()),
        other => other.map(drop),
    }
}
