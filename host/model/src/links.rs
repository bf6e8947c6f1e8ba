//! Symbolic links of a workspace: which of them are anybody's to make.

use std::path::{Component, Path};

/// Whether a link at this place, below the root, leads below the root again. Only leading `..` count as going up: one
/// behind a name may go up from wherever that name leads.
#[must_use]
pub fn stays_inside(at: &Path, target: &Path) -> bool {
    let mut depth = at.components().count().saturating_sub(1);
    let mut descended = false;
    for component in target.components() {
        match component {
            Component::ParentDir if descended || depth == 0 => return false,
            Component::ParentDir => depth -= 1,
            Component::Normal(_) => descended = true,
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside_or_are_left_out() {
        let check = |at: &str, target: &str, expected: bool| {
            assert_eq!(stays_inside(Path::new(at), Path::new(target)), expected, "{at} -> {target}");
        };
        check("link", "file", true);
        check("a/link", "../file", true);
        check("a/link", "../../file", false);
        check("link", "..", false);
        check("link", "a/../b", false);
        check("link", "/etc", false);
        check("a/b/link", "../../c/d", true);
        check("link", "./a", true);
    }
}
