//! The real `vteam-compile`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests, and what they share"
)]

use compile::{REFUSED, Refusal};
use model::id::Digest;
use protocol::artifact::Statement;
use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

fn run(flags: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vteam-compile"))
        .args(flags)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may refuse before it has read all.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn frozen(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/frozen").join(name)).unwrap()
}

#[test]
fn a_component_becomes_native_code_with_a_true_statement() {
    for name in ["tool-0.1.0.wasm", "persona-0.1.0.wasm"] {
        let component = frozen(name);
        let output = run(&[], &component);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (length, rest) = output.stdout.split_first_chunk::<8>().unwrap();
        let (header, native) = rest.split_at(u64::from_be_bytes(*length) as usize);
        let statement: Statement = serde_json::from_slice(header).unwrap();
        let expected = Statement {
            component: Digest::of(&component),
            artifact: Digest::of(native),
            engine_id: engine::settings::engine_id(),
            target: engine::settings::target(),
        };
        assert_eq!(statement, expected, "{name}");
        // The same bytes and settings make the same code: an artefact can be made again elsewhere.
        assert_eq!(run(&[], &component).stdout, output.stdout, "{name}");
    }
}

#[test]
fn what_is_not_admissible_is_refused_with_the_reason() {
    let check = |flags: &[&str], input: &[u8], expected: &str| {
        let output = run(flags, input);
        assert_eq!(output.status.code(), Some(i32::from(REFUSED)), "{expected}: {output:?}");
        assert!(output.stdout.is_empty());
        let refusal: Refusal = serde_json::from_slice(&output.stderr).unwrap();
        assert!(refusal.error.contains(expected), "{refusal:?}");
    };
    check(&[], b"", "not WebAssembly");
    check(&[], b"#!/bin/sh", "not WebAssembly");
    check(&[], b"\0asm\x01\0\0\0", "core WebAssembly module");
    check(&["--unfinished"], b"\0asm\x0d\0\x01\0", "this component exports nothing");
    check(&[], b"\0asm\x0d\0\x01\0", "no manifest");
    let tool = frozen("tool-0.1.0.wasm");
    check(&[], &tool[..tool.len() / 2], "cut off");
    let mut altered = tool.clone();
    let middle = altered.len() / 3;
    altered[middle..middle + 64].fill(0xff);
    assert!(!run(&[], &altered).status.success());
}

#[test]
fn it_names_its_engine() {
    let output = run(&["--engine"], b"");
    let expected = format!("{} {}\n", engine::settings::engine_id(), engine::settings::target());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}
