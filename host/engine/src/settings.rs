//! How native code is made and run: the one place that both sides of the compile process read.
//!
//! The baseline CPU on x86-64 is x86-64-v2 (SSE4.2, POPCNT; every server CPU since 2009), on AArch64 the base ISA. It is
//! stated, never detected, so that code made on one machine runs on another; wasmtime checks the flags again on loading.

use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Version of wasmtime that this crate is pinned to in the workspace.
pub const WASMTIME: &str = "48.0.8";

/// One epoch: how long a guest runs before it yields.
pub const TICK_MS: u64 = 10;

#[cfg(target_arch = "x86_64")]
mod cpu {
    pub(super) const TRIPLE: &str = "x86_64-unknown-linux-gnu";
    pub(super) const BASELINE: &str = "x86-64-v2";
    pub(super) const FLAGS: &[&str] =
        &["has_cmpxchg16b", "has_sse3", "has_ssse3", "has_sse41", "has_sse42", "has_popcnt"];
}

#[cfg(target_arch = "aarch64")]
mod cpu {
    pub(super) const TRIPLE: &str = "aarch64-unknown-linux-gnu";
    pub(super) const BASELINE: &str = "armv8-a";
    pub(super) const FLAGS: &[&str] = &[];
}

/// Cranelift flags of the baseline CPU, for the compiler.
pub const CPU_FLAGS: &[&str] = cpu::FLAGS;
/// For the compiler; a runner may be linked with another C library.
pub const TRIPLE: &str = cpu::TRIPLE;

const MAX_WASM_STACK: u64 = 512 << 10;
const MEMORY_RESERVATION: u64 = 4 << 30;
const MEMORY_GUARD: u64 = 32 << 20;

/// What changes the native code or what it assumes of its host. A change here is a new [`engine_id`].
const SETTINGS: &[(&str, u64)] = &[
    ("format", 1),
    ("epoch_interruption", 1),
    ("max_wasm_stack", MAX_WASM_STACK),
    ("memory_reservation", MEMORY_RESERVATION),
    ("memory_guard_size", MEMORY_GUARD),
    ("generate_address_map", 0),
    // For unwinders of others; unloading it is quadratic where libunwind is linked.
    ("native_unwind_info", 0),
    ("wasm_relaxed_simd", 0),
    ("wasm_memory64", 0),
    ("gc_support", 0),
];

/// The settings that compiler and runtime share.
#[must_use]
pub fn config() -> wasmtime::Config {
    let mut config = wasmtime::Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(usize::try_from(MAX_WASM_STACK).unwrap_or(usize::MAX))
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .generate_address_map(false)
        .native_unwind_info(false)
        .wasm_relaxed_simd(false)
        .wasm_memory64(false)
        .gc_support(false)
        .wasm_backtrace_max_frames(None);
    config
}

/// A hash of wasmtime's version and of what shapes its code: native code of another id is not loaded.
#[must_use]
pub fn engine_id() -> String {
    let mut text = format!("wasmtime {WASMTIME}\ntarget {}\n", target());
    for (name, value) in SETTINGS {
        let _ = writeln!(text, "{name} {value}");
    }
    for flag in CPU_FLAGS {
        let _ = writeln!(text, "{flag}");
    }
    hex::encode(Sha256::digest(text))
}

/// Target triple and baseline CPU.
#[must_use]
pub fn target() -> String {
    format!("{}+{}", cpu::TRIPLE, cpu::BASELINE)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_version_is_the_one_that_is_linked() {
        let lock = include_str!("../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"wasmtime\"\nversion = \"{}\"\n", super::WASMTIME)));
    }
}
