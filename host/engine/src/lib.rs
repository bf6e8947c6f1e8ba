//! Runs components: owns wasmtime's runtime, WASI and the host side of the contract
