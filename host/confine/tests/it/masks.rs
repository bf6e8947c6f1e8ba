//! Less kernel: what no longer holds is refused by its name, and the canaries themselves can fail.

use crate::launcher::{Launcher, program};
use protocol::exec::{PropertyName, Refusal};
use std::process::Command;

fn check(masks: &[&str], broken: &[PropertyName]) {
    let flags: Vec<&str> = masks.iter().flat_map(|mask| ["--mask", mask]).collect();
    let mut launcher = Launcher::start(&flags);
    let seen: Vec<PropertyName> =
        launcher.properties.iter().filter(|property| !property.holds).map(|property| property.name).collect();
    assert_eq!(seen, broken, "{masks:?}: {:#?}", launcher.properties);
    match (launcher.try_run(program(&["true"])), broken.first()) {
        (Ok(ended), None) => assert_eq!(ended.code(), 0),
        (Err(Refusal::NotConfined { property, detail }), Some(first)) => {
            assert_eq!(property, *first);
            assert!(detail.contains("the canary could"), "{detail}");
        }
        (seen, _) => panic!("{masks:?}: {seen:?}"),
    }
}

#[test]
fn what_a_kernel_lacks_is_refused_by_name() {
    use PropertyName::{Files, Privileges, Processes, Sockets};
    check(&[], &[]);
    check(&["no-userns"], &[]);
    check(&["landlock-abi=0"], &[]);
    check(&["no-userns", "landlock-abi=6"], &[]);
    check(&["no-userns", "landlock-abi=5"], &[Processes]);
    check(&["no-userns", "landlock-abi=2"], &[Files, Processes]);
    check(&["no-userns", "landlock-abi=0"], &[Files, Processes]);
    check(&["no-seccomp"], &[Sockets, Privileges]);
    check(&["no-userns", "no-seccomp"], &[Files, Sockets, Privileges]);
}

#[test]
fn a_folder_is_not_worked_on_itself_where_git_lies_open() {
    let folder = tempfile::tempdir().unwrap();
    let covers = tempfile::NamedTempFile::new().unwrap();
    let in_place =
        ["--in-place", folder.path().to_str().unwrap(), "--covers", covers.path().to_str().unwrap()];
    let seen = Launcher::start(&in_place).properties.clone();
    assert!(seen.iter().all(|property| property.holds), "{seen:#?}");
    let mut launcher = Launcher::start(&[&in_place[..], &["--mask", "no-userns"]].concat());
    match launcher.try_run(program(&["true"])) {
        Err(Refusal::NotConfined { property: PropertyName::Files, detail }) => {
            assert!(detail.contains("git's own files"), "{detail}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn canaries_find_something_where_nothing_confines_them() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::fs::write(&outside, "outside").unwrap();
    let outside = outside.to_str().unwrap();
    for (canary, arguments) in [
        ("files", vec![outside]),
        ("sockets", vec![]),
        ("loopback", vec![]),
        ("processes", vec![]),
        ("privileges", vec![]),
        ("inheritance", vec![]),
        ("resources", vec!["4", "4096", "1", "1"]),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vteam-exec"));
        let output = command.arg("canary").arg(canary).args(arguments).env("TMPDIR", &own).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{canary}: {output:?}");
        assert!(!output.stdout.is_empty(), "{canary}");
    }
}

#[test]
fn the_doctor_gives_the_launchers_own_answer() {
    let scratch = tempfile::tempdir().unwrap();
    let exec = std::path::Path::new(env!("CARGO_BIN_EXE_vteam-exec"));
    let found = confine::doctor(exec, scratch.path(), &[]).unwrap();
    let table = &found.properties;
    assert_eq!(found.without_namespaces, None);
    assert_eq!(table.iter().map(|row| row.name).collect::<Vec<_>>(), PropertyName::ALL);
    assert!(table.iter().all(|row| row.holds), "{table:#?}");
    let masked = confine::doctor(exec, scratch.path(), &[confine::Mask::NoSeccomp]).unwrap();
    assert!(masked.properties.iter().any(|row| !row.holds));
    let without = confine::doctor(exec, scratch.path(), &[confine::Mask::NoUserNamespaces]).unwrap();
    assert_eq!(without.without_namespaces.as_deref(), Some("user namespaces are masked"));
    assert!(confine::doctor(std::path::Path::new("/nonexistent"), scratch.path(), &[]).is_err());
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}
