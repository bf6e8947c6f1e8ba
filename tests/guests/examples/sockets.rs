//! Imports sockets, which no host of this contract offers.

guests::guest!("sockets", [], |_, _| match std::net::TcpStream::connect("127.0.0.1:1") {
    Ok(_) => guests::done("connected"),
    Err(error) => guests::failed(error),
});
