//! One at a time: a lock on the state folder itself, so that no lock file is left.

use super::layout::Layout;
use crate::run::say;
use anyhow::Context;
use rustix::fs::{FlockOperation, flock};
use std::{
    fs::{File, Metadata},
    os::unix::fs::MetadataExt,
};

/// Held until it is dropped, or the process ends.
pub(super) struct Lock {
    _folder: File,
}

/// Makes the state folder and locks it; waits for whoever holds it.
pub(super) fn take(layout: &Layout) -> anyhow::Result<Lock> {
    let state = &layout.state;
    loop {
        std::fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
        let folder = File::open(state)?;
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_err() {
            say("waiting for another `cargo xtask cluster`");
            flock(&folder, FlockOperation::LockExclusive)?;
        }
        // `down` removes the folder while it holds it: then this is a lock on something that is no more.
        let (locked, there) = (folder.metadata()?, std::fs::metadata(state));
        if there.is_ok_and(|there| same(&there, &locked)) {
            return Ok(Lock { _folder: folder });
        }
    }
}

fn same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_waits_and_finds_a_new_folder() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout { state: place.path().join("state") };
        let first = take(&layout).unwrap();
        let second = std::thread::spawn({
            let layout = layout.clone();
            move || take(&layout).map(drop)
        });
        std::fs::remove_dir(&layout.state).unwrap();
        drop(first);
        second.join().unwrap().unwrap();
        assert!(layout.state.is_dir());
    }
}
