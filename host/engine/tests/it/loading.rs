//! Only signed, unaltered code of this engine for this component is loaded.

use crate::guest::*;
use ed25519_dalek::SigningKey;
use engine::{CallEnd, Engine, LoadError};
use model::{id::Digest, limits::Limits};
use protocol::artifact::Signed;

fn refused(built: &Built, change: impl FnOnce(&mut Vec<u8>, &mut Signed, &mut Digest)) -> LoadError {
    let mut native = built.native.clone();
    let mut signed = built.signed.clone();
    let mut digest = Digest::of(&built.component);
    change(&mut native, &mut signed, &mut digest);
    let loaded = engine().load(&native, &signed, &key().verifying_key(), &digest, built.manifest.clone());
    loaded.err().expect("it was loaded")
}

#[test]
fn what_was_not_signed_is_not_loaded() {
    let built = build(&raw("echo"));
    assert!(matches!(refused(&built, |native, _, _| native[100] ^= 1), LoadError::Altered));
    assert!(matches!(refused(&built, |native, _, _| native.truncate(100)), LoadError::Altered));
    assert!(matches!(refused(&built, |_, _, digest| *digest = Digest::of(b"other")), LoadError::Signature));
    let altered = |_: &mut Vec<u8>, signed: &mut Signed, _: &mut Digest| {
        signed.statement.target = "elsewhere".to_owned()
    };
    assert!(matches!(refused(&built, altered), LoadError::Signature));
    assert!(matches!(
        refused(&built, |_, signed, _| signed.signature = "00".to_owned()),
        LoadError::Signature
    ));
    let foreign = |_: &mut Vec<u8>, signed: &mut Signed, _: &mut Digest| {
        use ed25519_dalek::Signer;
        let other = SigningKey::from_bytes(&[8; 32]);
        signed.signature = hex::encode(other.sign(&signed.statement.signed_bytes()).to_bytes());
    };
    assert!(matches!(refused(&built, foreign), LoadError::Signature));
    let older = |_: &mut Vec<u8>, signed: &mut Signed, _: &mut Digest| {
        let mut statement = signed.statement.clone();
        statement.engine_id = "older".to_owned();
        *signed = sign(statement);
    };
    assert!(matches!(refused(&built, older), LoadError::Engine { .. }));
    let garbage = |native: &mut Vec<u8>, signed: &mut Signed, _: &mut Digest| {
        *native = b"not native code at all".to_vec();
        let mut statement = signed.statement.clone();
        statement.artifact = Digest::of(native);
        *signed = sign(statement);
    };
    assert!(matches!(refused(&built, garbage), LoadError::Native(_)));
}

#[test]
fn a_manifest_of_the_other_kind_does_not_fit() {
    let mut echo = build(&raw("echo"));
    echo.manifest = build(&raw("persona")).manifest;
    assert!(matches!(refused(&echo, |_, _, _| {}), LoadError::Contract(_)));
}

#[tokio::test]
async fn before_the_start_nothing_runs() {
    let engine = Engine::new(&Limits::shipped().session).unwrap();
    let echo = plugin_in(&engine, "echo");
    let CallEnd::Failed(failure) = echo.call(call("{}")).await.end else { panic!() };
    assert!(failure.message.contains("not been started"));
    engine.start().unwrap();
    engine.start().unwrap();
    assert_eq!(text(echo.call(call("{}")).await), "{}");
}

#[test]
fn the_pool_scans_pages() {
    // Opened by the pool where the kernel can scan; what makes fresh calls cheap.
    let _ = engine();
    let open = std::fs::read_dir("/proc/self/fd").unwrap();
    let pagemap =
        open.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok()).any(|at| at.ends_with("pagemap"));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = kernel.split(['.', '-']).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(pagemap, version >= (6, 7), "kernel {kernel}");
}
