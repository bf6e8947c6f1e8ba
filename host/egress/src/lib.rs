//! Outgoing HTTP: filtering resolver, TLS, injection, caps
