//! What the workspace holds, against what it may hold.
//!
//! Only programs and changes make it grow, so it is added up when a run begins, while programs run and after each;
//! changes are counted as they are made. Blocks count, not lengths, and each entry at least its inode, which also bounds
//! the work: adding up stops at the limit. It knows nothing of the file system's own room.

use crate::beneath::Root;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Between two looks while programs run.
const PERIOD: Duration = Duration::from_secs(3);
/// Of the time, looking may take this part.
const PART: u32 = 20;

/// Clones share one count.
#[derive(Clone)]
pub struct Usage(Arc<Shared>);

struct Shared {
    root: Root,
    limit: u64,
    count: Mutex<Count>,
    over: watch::Sender<bool>,
}

struct Count {
    used: u64,
    /// The limit; more for a run that began with more, which may only shrink it.
    most: u64,
    /// Not before this is it worth another look.
    due: Instant,
    /// Somebody wanted to look before that.
    owed: bool,
}

/// There is no room for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the workspace may hold {} and has no room for {} more: delete what is not needed any more, then try again",
    size(*.limit), size(*.wanted)
)]
pub struct NoRoom {
    limit: u64,
    wanted: u64,
}

impl Usage {
    #[must_use]
    pub fn new(root: Root, limit: u64) -> Self {
        let count = Count { used: 0, most: limit, due: Instant::now(), owed: false };
        let over = watch::Sender::new(false);
        Self(Arc::new(Shared { root, limit, count: Mutex::new(count), over }))
    }

    /// A run begins with what is there.
    pub async fn begin(&self) {
        let used = self.add_up(u64::MAX).await;
        self.count().most = if used == u64::MAX { self.0.limit } else { used.max(self.0.limit) };
        self.0.over.send_replace(false);
    }

    /// Takes room for `more` bytes; less than none gives some back.
    ///
    /// # Errors
    /// When there is none. Nothing is taken then.
    pub fn take(&self, more: i64) -> Result<(), NoRoom> {
        let mut count = self.count();
        let used = count.used.saturating_add_signed(more);
        if more > 0 && used > self.0.limit {
            return Err(NoRoom { limit: self.0.limit, wanted: more.unsigned_abs() });
        }
        count.used = used;
        Ok(())
    }

    /// What was taken was not used.
    pub fn give_back(&self, taken: i64) {
        let mut count = self.count();
        count.used = count.used.saturating_add_signed(taken.saturating_neg());
    }

    /// Something else than [`Usage::take`] may have changed it: looks, or leaves that to [`Usage::guard`] where looking
    /// would take too much of the time.
    pub async fn look(&self) {
        let most = {
            let mut count = self.count();
            count.owed = count.due > Instant::now();
            if count.owed {
                return;
            }
            count.most
        };
        let used = self.add_up(most).await;
        self.0.over.send_replace(used > most);
        if used <= most {
            self.count().most = used.max(self.0.limit);
        }
    }

    /// Looks while programs run, for ever; `busy` says whether, `end` ends them where there is too much.
    pub async fn guard(&self, busy: impl Fn() -> bool, end: impl Fn()) {
        loop {
            tokio::time::sleep(PERIOD).await;
            if busy() || self.count().owed {
                self.look().await;
            }
            if *self.0.over.borrow() {
                end();
            }
        }
    }

    /// Returns once there is too much.
    pub async fn overrun(&self) {
        // The sender lives as long as this does.
        drop(self.0.over.subscribe().wait_for(|over| *over).await);
    }

    /// Why a run ended for it.
    #[must_use]
    pub fn too_much(&self) -> String {
        format!(
            "the workspace holds more than the {} that it may: send a message that says what to delete. A new run may \
             only make it smaller; a larger limit (permissions.maxWorkspaceMib of the project's settings) holds for new \
             sessions",
            size(self.0.limit)
        )
    }

    async fn add_up(&self, enough: u64) -> u64 {
        let (root, began) = (self.0.root.clone(), Instant::now());
        let added = tokio::task::spawn_blocking(move || root.bytes(enough)).await;
        let mut count = self.count();
        count.due = Instant::now() + began.elapsed() * PART;
        count.owed = false;
        count.used = added.unwrap_or(count.used);
        count.used
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes.div_ceil(1 << 10)),
        _ => format!("{} MiB", bytes.div_ceil(1 << 20)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink, path::Path};

    const KIB: usize = 1 << 10;

    fn usage(folder: &Path, limit: usize) -> Usage {
        Usage::new(Root::open(folder).unwrap(), limit as u64)
    }

    async fn is_over(usage: &Usage) -> bool {
        usage.count().due = Instant::now();
        usage.look().await;
        *usage.0.over.borrow()
    }

    #[test]
    fn blocks_below_are_counted_and_links_not_followed() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("in");
        fs::create_dir_all(inner.join("a/b")).unwrap();
        fs::write(outer.path().join("outside"), vec![1; 1000 * KIB]).unwrap();
        fs::write(inner.join("a/b/file"), vec![1; 100 * KIB]).unwrap();
        fs::hard_link(inner.join("a/b/file"), inner.join("second-name")).unwrap();
        symlink("../outside", inner.join("link")).unwrap();
        symlink("..", inner.join("folder")).unwrap();
        fs::File::create(inner.join("sparse")).unwrap().set_len(1 << 40).unwrap();
        let root = Root::open(&inner).unwrap();
        let bytes = root.bytes(u64::MAX) as usize;
        assert!((100 * KIB..150 * KIB).contains(&bytes), "{bytes}");
        assert!(root.bytes(10) < 10_000, "it stops where it is enough");
    }

    #[test]
    fn what_cannot_be_counted_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let name = "n".repeat(200);
        let mut at = root.folder("").unwrap();
        for _ in 0..30 {
            rustix::fs::mkdirat(&at, &name, rustix::fs::Mode::from_raw_mode(0o755)).unwrap();
            let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
            at = rustix::fs::openat(&at, &name, flags, rustix::fs::Mode::empty()).unwrap();
        }
        assert_eq!(root.bytes(u64::MAX), u64::MAX);
    }

    #[tokio::test]
    async fn a_run_that_begins_with_too_much_may_only_shrink_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, kib: usize| fs::write(folder.path().join(name), vec![1; kib * KIB]).unwrap();
        let usage = usage(folder.path(), 100 * KIB);
        usage.begin().await;
        file("a", 50);
        assert!(!is_over(&usage).await);
        assert_eq!(usage.take(20 << 10), Ok(()));
        let refused = usage.take(60 << 10).unwrap_err();
        assert!(refused.to_string().contains("may hold 100 KiB"), "{refused}");
        file("b", 100);
        assert!(is_over(&usage).await);

        usage.begin().await;
        assert!(!is_over(&usage).await, "it was there before");
        assert!(usage.take(1).is_err());
        assert_eq!(usage.take(-1), Ok(()));
        file("c", 20);
        assert!(is_over(&usage).await);
        usage.begin().await;
        fs::remove_file(folder.path().join("b")).unwrap();
        assert!(!is_over(&usage).await);
        assert_eq!(usage.take(1 << 10), Ok(()));
        file("b", 100);
        assert!(is_over(&usage).await, "what was given back is not taken again");
    }
}
