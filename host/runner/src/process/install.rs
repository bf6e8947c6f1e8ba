//! The launcher of native programs for the container beside: its image need not hold anything of ours.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

/// Beside this program, and then in the folder.
const LAUNCHER: &str = "vteam-exec";

/// Puts it into `folder`, whole or not at all, in the place of one that is there.
///
/// # Errors
/// When it is not beside this program, or the folder cannot be written.
pub(super) fn launcher(folder: &Path) -> io::Result<()> {
    let ours = std::env::current_exe()?.with_file_name(LAUNCHER);
    let new = folder.join(format!(".{LAUNCHER}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).open(&new)?;
    io::copy(&mut File::open(ours)?, &mut file)?;
    file.set_permissions(fs::Permissions::from_mode(0o555))?;
    // Nobody can execute what somebody has open for writing.
    drop(file);
    fs::rename(&new, folder.join(LAUNCHER))
}
