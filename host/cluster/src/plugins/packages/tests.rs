use super::*;
use std::io::Write as _;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn map(keys: &[Held<'_>]) -> Map {
    let keys = keys.iter().map(|(name, bytes)| ((*name).to_owned(), Value::new(bytes.to_vec())));
    Map { uid: "u".to_owned(), said: None, keys: keys.collect() }
}

/// A key and what it holds.
type Held<'a> = (&'a str, &'a [u8]);
/// A ConfigMap's name and what is in it.
type Named<'a> = (&'a str, &'a [Held<'a>]);

/// What there is in these ConfigMaps: name, and the component or a part of what is wrong with it.
fn check(name: &str, maps: &[Named<'_>], expected: &[(&str, Result<&[u8], &str>)]) {
    let mut known = Maps::default();
    for (at, keys) in maps {
        known.take(at, map(keys));
    }
    let found = known.packages();
    let names: Vec<&str> = found.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{name}");
    for (package, (_, expected)) in found.into_iter().zip(expected) {
        match ((package.read)(), expected) {
            (Ok(bytes), Ok(expected)) => assert_eq!(bytes.as_ref(), *expected, "{name}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{name}: {why}"),
            (got, expected) => panic!("{name}: {got:?} is not {expected:?}"),
        }
    }
}

#[test]
fn whole_compressed_and_split_ones() {
    let component = b"\0asm component ".repeat(1000);
    let packed = gzip(&component);
    let (head, tail) = packed.split_at(40);
    let c = component.as_slice();
    check("none", &[("a", &[("README.md", b"words"), ("x.wasm.gzip", b"x")])], &[]);
    check("whole", &[("a", &[("x.wasm", c)])], &[("a/x.wasm", Ok(c))]);
    check("compressed", &[("a", &[("x.wasm.gz", &packed)])], &[("a/x.wasm.gz", Ok(c))]);
    check(
        "the same key in two",
        &[("a", &[("x.wasm", c)]), ("b", &[("x.wasm", b"other")])],
        &[("a/x.wasm", Ok(c)), ("b/x.wasm", Ok(b"other"))],
    );
    let split: &[Named<'_>] = &[("b", &[("x.wasm.gz.1", tail)]), ("a", &[("x.wasm.gz.0", head)])];
    check("split", split, &[("x.wasm.gz", Ok(c))]);
    check(
        "as split -d names them",
        &[("a", &[("x.wasm.gz.00", head), ("x.wasm.gz.01", tail)])],
        &[("x.wasm.gz", Ok(c))],
    );
    check("not all of it", &[("a", &[("x.wasm.gz.0", head)])], &[("x.wasm.gz", Err("ends early"))]);
    check("no beginning", &[("a", &[("x.wasm.gz.1", tail)])], &[("x.wasm.gz", Err("part 0 is missing"))]);
    let twice: &[Named<'_>] =
        &[("a", &[("x.wasm.gz.0", head)]), ("b", &[("x.wasm.gz.0", head), ("x.wasm.gz.1", tail)])];
    check("a part twice", twice, &[("x.wasm.gz", Err("part 0 is there twice"))]);
    let other = gzip(&b"\0asm another one".repeat(1000));
    let mixed: &[Named<'_>] = &[("a", &[("x.wasm.gz.0", head)]), ("b", &[("x.wasm.gz.1", &other[40..])])];
    check("of two archives", mixed, &[("x.wasm.gz", Err(""))]);
}

#[test]
fn bombs_and_garbage() {
    let bomb = gzip(&vec![0; MAX_COMPONENT_BYTES + 1]);
    assert!(bomb.len() < 100_000, "it is small while it is packed");
    check("a bomb", &[("a", &[("x.wasm.gz", &bomb)])], &[("a/x.wasm.gz", Err("unpacked it has more"))]);
    // It says that it is small.
    let mut liar = bomb.clone();
    let end = liar.len() - 4;
    liar[end..].copy_from_slice(&10u32.to_le_bytes());
    check("a liar", &[("a", &[("x.wasm.gz", &liar)])], &[("a/x.wasm.gz", Err("unpacked it has more"))]);
    check(
        "no archive",
        &[("a", &[("x.wasm.gz", b"no archive at all, of no kind")])],
        &[("a/x.wasm.gz", Err("cannot be unpacked"))],
    );
    check("nothing", &[("a", &[("x.wasm.gz", b"")])], &[("a/x.wasm.gz", Err(""))]);
    let two = [gzip(b"\0asm one"), gzip(b"\0asm two")].concat();
    check("two archives", &[("a", &[("x.wasm.gz", &two)])], &[("a/x.wasm.gz", Err("more than one"))]);
}

#[test]
fn a_namespace_has_its_share() {
    let mut maps = Maps::default();
    // Small while stored, large together when unpacked.
    let large = gzip(&vec![7; MAX_COMPONENT_BYTES]);
    for n in 0..5 {
        maps.take(&format!("m{n}"), map(&[("x.wasm.gz", &large)]));
    }
    let read: Vec<bool> = maps.packages().into_iter().map(|package| (package.read)().is_ok()).collect();
    assert_eq!(read, [true, true, true, true, false]);
    maps.retain(|name| name == "m4");
    assert!((maps.packages().pop().unwrap().read)().is_ok());

    // What is stored counts too, and one that had no room is told apart and read again.
    let mut maps = Maps::default();
    let stored = vec![1; NAMESPACE_BYTES];
    maps.take("a", map(&[("a.wasm", &stored)]));
    maps.take("b", map(&[("b.wasm", b"\0asm")]));
    let why = (maps.packages().pop().unwrap().read)().unwrap_err();
    assert!(why.contains("more than 64 MiB"), "{why}");
    assert!(maps.remove("a"), "there is room now");
    maps.take("b", map(&[("b.wasm", b"\0asm")]));
    assert!((maps.packages().pop().unwrap().read)().is_ok());
    assert!(!maps.remove("b"));

    let mut maps = Maps::default();
    let many: Vec<String> = (0..=NAMESPACE_PACKAGES).map(|n| format!("{n:03}.wasm")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"x".as_slice())).collect();
    maps.take("a", map(&many));
    let why = (maps.packages().pop().unwrap().read)().unwrap_err();
    assert!(why.contains("more than 128 components"), "{why}");

    // Empty keys cost memory too.
    let mut maps = Maps::default();
    let many: Vec<String> = (0..=NAMESPACE_KEYS).map(|n| format!("{n:04}.wasm")).collect();
    let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), b"".as_slice())).collect();
    maps.take("a", map(&many));
    let packages = maps.packages();
    assert_eq!(packages.len(), NAMESPACE_PACKAGES);
    assert!((packages.into_iter().next().unwrap().read)().unwrap_err().contains("2048 keys"));
}

#[test]
fn the_same_content_has_the_same_stamp() {
    let stamps = |maps: &Maps| maps.packages().into_iter().map(|p| p.stamp).collect::<Vec<_>>();
    let mut maps = Maps::default();
    maps.take("a", map(&[("x.wasm", b"one")]));
    let before = stamps(&maps);
    let said = Map { said: Some("in use".to_owned()), ..map(&[("x.wasm", b"one")]) };
    maps.take("a", said);
    assert_eq!(stamps(&maps), before, "our own word changes nothing");
    maps.take("a", map(&[("x.wasm", b"two")]));
    assert_ne!(stamps(&maps), before);
}
