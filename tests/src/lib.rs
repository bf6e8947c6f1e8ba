//! End-to-end tests that drive the shipped binaries over HTTP
