//! The files of an image, in memory: what gets in has no owner, time or set-uid bit of the machine that built it.

use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Component, Path},
};

/// The user and group that own what the image's program may write.
pub(crate) const USER: u32 = 65532;

const SET_ID: u32 = 0o6000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File(Vec<u8>),
    Link(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    /// User and group: root's or [`USER`].
    pub(crate) owner: u32,
}

/// Sorted by path; paths have no leading slash.
///
/// Invariant: the folder of each node is itself a node, and a folder.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, Node>);

impl Tree {
    pub(crate) fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&[u8]> {
        match &self.0.get(path)?.kind {
            Kind::File(bytes) => Some(bytes),
            Kind::Folder | Kind::Link(_) => None,
        }
    }

    pub(crate) fn link_target(&self, path: &str) -> Option<&str> {
        match &self.0.get(path)?.kind {
            Kind::Link(to) => Some(to),
            Kind::Folder | Kind::File(_) => None,
        }
    }

    pub(crate) fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// A file that anybody may read.
    pub(crate) fn add(&mut self, path: &str, bytes: impl Into<Vec<u8>>) -> anyhow::Result<()> {
        self.put(path, Node { kind: Kind::File(bytes.into()), mode: 0o644, owner: 0 })
    }

    pub(crate) fn add_program(&mut self, path: &str, from: &Path) -> anyhow::Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.put(path, Node { kind: Kind::File(bytes), mode: 0o755, owner: 0 })
    }

    pub(crate) fn link(&mut self, path: &str, to: &str) -> anyhow::Result<()> {
        self.put(path, Node { kind: Kind::Link(to.to_owned()), mode: 0o777, owner: 0 })
    }

    /// Links that lead to nothing in the tree.
    pub(crate) fn dangling(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).filter(|path| self.real(path, 0).is_none()).collect()
    }

    /// Follows links as a kernel does, the whole path through; the root is the empty path.
    fn real(&self, path: &str, depth: usize) -> Option<String> {
        const DEEPEST: usize = 40;
        if depth > DEEPEST {
            return None;
        }
        let mut at = String::new();
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                at.truncate(at.rfind('/').unwrap_or_default());
                continue;
            }
            let next = if at.is_empty() { part.to_owned() } else { format!("{at}/{part}") };
            at = match &self.0.get(&next)?.kind {
                Kind::Link(to) if to.starts_with('/') => self.real(to, depth + 1)?,
                Kind::Link(to) => self.real(&format!("{at}/{to}"), depth + 1)?,
                Kind::Folder | Kind::File(_) => next,
            };
        }
        Some(at)
    }

    /// A folder of the image's user.
    pub(crate) fn own(&mut self, path: &str, mode: u32) -> anyhow::Result<()> {
        self.put(path, Node { kind: Kind::Folder, mode, owner: USER })
    }

    pub(crate) fn folder(&mut self, path: &str, mode: u32) -> anyhow::Result<()> {
        self.put(path, Node { kind: Kind::Folder, mode, owner: 0 })
    }

    /// Takes a node in, and makes the folders above it that are missing.
    ///
    /// # Errors
    ///
    /// A path that is not plain, or a file where a folder is needed.
    pub(crate) fn put(&mut self, path: &str, mut node: Node) -> anyhow::Result<()> {
        let plain = Path::new(path).components().all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || path.ends_with('/') || !plain {
            bail!("{path:?} is no path below the image's root");
        }
        for (at, _) in path.match_indices('/') {
            let above = path.get(..at).unwrap_or_default();
            let folder = Node { kind: Kind::Folder, mode: 0o755, owner: 0 };
            if self.0.entry(above.to_owned()).or_insert(folder).kind != Kind::Folder {
                bail!("{path} lies below {above}, which is no folder");
            }
        }
        node.mode = if matches!(node.kind, Kind::Link(_)) { 0o777 } else { node.mode & !SET_ID };
        let is_folder = node.kind == Kind::Folder;
        if let Some(there) = self.0.insert(path.to_owned(), node)
            && (there.kind == Kind::Folder) != is_folder
        {
            bail!("{path} is a folder and something else");
        }
        Ok(())
    }

    /// Removes folders that hold nothing and are not wanted for themselves.
    pub(crate) fn prune(&mut self, wanted: impl Fn(&str) -> bool) {
        let mut used = std::collections::BTreeSet::new();
        for (path, node) in &self.0 {
            if node.kind != Kind::Folder || wanted(path) {
                used.insert(path.clone());
                used.extend(path.match_indices('/').filter_map(|(at, _)| path.get(..at).map(str::to_owned)));
            }
        }
        self.0.retain(|path, _| used.contains(path));
    }

    /// Writes the files into folders, for those who build images by other means: what is root's, and what is the user's.
    /// Whoever copies them sets the owners.
    pub(crate) fn write_to(&self, roots: &Path, own: &Path) -> anyhow::Result<()> {
        for (path, node) in &self.0 {
            let place = if node.owner == 0 { roots.join(path) } else { own.join(path) };
            write(&place, node).with_context(|| format!("cannot write {}", place.display()))?;
        }
        Ok(())
    }
}

fn write(place: &Path, node: &Node) -> std::io::Result<()> {
    if let Some(folder) = place.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match &node.kind {
        Kind::Folder => std::fs::create_dir_all(place)?,
        Kind::File(bytes) => std::fs::write(place, bytes)?,
        Kind::Link(to) => return std::os::unix::fs::symlink(to, place),
    }
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(node.mode))
}

#[cfg(test)]
mod tests {
    use super::{Kind, Node, Tree};

    #[test]
    fn folders_above_are_made() -> anyhow::Result<()> {
        let mut tree = Tree::default();
        tree.add("usr/lib/a", "x")?;
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path).collect();
        assert_eq!(paths, ["usr", "usr/lib", "usr/lib/a"]);
        Ok(())
    }

    #[test]
    fn set_uid_bits_are_dropped() -> anyhow::Result<()> {
        let mut tree = Tree::default();
        tree.put("su", Node { kind: Kind::File(Vec::new()), mode: 0o6755, owner: 0 })?;
        tree.folder("tmp", 0o1777)?;
        let modes: Vec<_> = tree.nodes().map(|(_, node)| node.mode).collect();
        assert_eq!(modes, [0o755, 0o1777]);
        Ok(())
    }

    #[test]
    fn odd_paths_are_refused() -> anyhow::Result<()> {
        let mut tree = Tree::default();
        for path in ["", "/etc/passwd", "../up", "a/../b", "a/"] {
            assert!(tree.add(path, "").is_err(), "{path}");
        }
        tree.link("bin", "usr/bin")?;
        assert!(tree.add("bin/sh", "").is_err(), "through a link");
        Ok(())
    }

    #[test]
    fn links_are_followed_all_the_way() -> anyhow::Result<()> {
        let mut tree = Tree::default();
        tree.add("usr/bin/dash", "")?;
        tree.link("bin", "usr/bin")?;
        tree.link("usr/bin/sh", "/bin/dash")?;
        tree.link("usr/bin/up", "../bin/sh")?;
        assert_eq!(tree.dangling(), [""; 0]);
        tree.link("usr/bin/a", "b")?;
        tree.link("usr/bin/b", "a")?;
        tree.link("usr/bin/c", "../../usr/nothing")?;
        assert_eq!(tree.dangling(), ["usr/bin/a", "usr/bin/b", "usr/bin/c"]);
        Ok(())
    }

    #[test]
    fn empty_folders_go_unless_wanted() -> anyhow::Result<()> {
        let mut tree = Tree::default();
        tree.folder("usr/share/man", 0o755)?;
        tree.add("usr/bin/b", "")?;
        tree.folder("run/x", 0o755)?;
        tree.prune(|path| path == "run/x");
        let paths: Vec<_> = tree.nodes().map(|(path, _)| path).collect();
        assert_eq!(paths, ["run", "run/x", "usr", "usr/bin", "usr/bin/b"]);
        Ok(())
    }
}
