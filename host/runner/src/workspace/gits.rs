//! What the person's own git would obey in a folder that is worked on itself, and that was not there when the session
//! began.

use confine::{Covers, Gits};
use std::{collections::BTreeSet, io, path::Path};

/// A line on each repository that is new, on each whose cover is gone, and on what could not be searched.
///
/// # Errors
/// When the folder cannot be searched.
pub(super) fn remarks(covers: &Covers, folder: &Path) -> io::Result<String> {
    let Gits { found, closed } = confine::gits(folder)?;
    let known: BTreeSet<&Path> = covers.paths().collect();
    let new = found.iter().map(|git| git.path.as_path()).filter(|path| !known.contains(path));
    let line = |(path, what): (&Path, &str)| format!("# {what}\n", what = what.replace("{}", &quoted(path)));
    let new =
        new.map(|path| (path, "new since the session began: {}; its hooks and settings are run by your git"));
    let lifted = covers.lifted().map(|path| {
        (
            path,
            "replaced or moved while the session ran: {}; the session may have written to what is there now",
        )
    });
    let closed = closed.iter().map(|path| (path.as_path(), "not looked into: {} cannot be opened"));
    Ok(new.chain(lifted).chain(closed).map(line).collect())
}

/// As in the other remarks of a diff.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.display().to_string())
}
