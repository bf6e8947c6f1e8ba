//! Which program a name means.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Folders of the system, which no program of a session can write. Earlier ones come first.
pub(super) const FOLDERS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// All of them, by name.
pub(super) fn list() -> BTreeMap<String, String> {
    let mut programs = BTreeMap::new();
    for folder in FOLDERS {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            if is_program(&entry.path()) {
                programs.entry(name).or_insert_with_key(|name| format!("{folder}/{name}"));
            }
        }
    }
    programs
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|kind| kind.is_file() && kind.permissions().mode() & 0o111 != 0)
}

/// The path of `argv[0]`: a name, or the path of one of [`FOLDERS`]. Nothing that an agent could have written.
pub(super) fn resolve<'a>(programs: &'a BTreeMap<String, String>, asked: &str) -> Option<&'a str> {
    let name = match asked.rsplit_once('/') {
        None => asked,
        Some((folder, name)) if FOLDERS.contains(&folder) => name,
        Some(_) => return None,
    };
    programs.get(name).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_resolve_in_system_folders_only() {
        let programs = BTreeMap::from([("sh".to_owned(), "/usr/bin/sh".to_owned())]);
        for (asked, expected) in [
            ("sh", Some("/usr/bin/sh")),
            ("/bin/sh", Some("/usr/bin/sh")),
            ("./sh", None),
            ("/workspace/sh", None),
            ("/usr/bin/../../workspace/sh", None),
            ("", None),
        ] {
            assert_eq!(resolve(&programs, asked), expected, "{asked:?}");
        }
    }
}
