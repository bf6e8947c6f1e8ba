//! The files of a tree, without what git keeps for itself.

use crate::beneath::{ChangeTime, FileError, Kind, Root};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

const MAX_FILES: usize = 500_000;
const MAX_DEPTH: usize = 200;
const MAX_IGNORE_BYTES: u64 = 1 << 20;

/// Files and links by path; folders only as part of paths. What is neither is left out.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub(super) files: BTreeMap<String, Kind>,
    /// What is there and is not looked into: a file with several names, or none at all.
    pub(super) others: BTreeSet<String>,
    /// Folders that cannot be listed.
    pub(super) closed: BTreeSet<String>,
    /// Folders below which nothing is looked at.
    pub(super) deep: BTreeSet<String>,
    /// What ignore files name, where it was asked for: how many entries of it changed.
    pub(super) ignored: BTreeMap<String, u64>,
    /// Names that are not UTF-8.
    pub(super) unnamed: usize,
}

impl Tree {
    /// Whether what is at this path now cannot be told.
    pub(super) fn hides(&self, path: &str) -> bool {
        self.others.contains(path) || holds(&self.closed, path) || holds(&self.deep, path)
    }

    /// Whether something is at this path or below it.
    fn holds(&self, path: &str) -> bool {
        let below = format!("{path}/");
        let first = self.files.range(below.clone()..).next();
        self.files.contains_key(path) || first.is_some_and(|(path, _)| path.starts_with(&below))
    }
}

/// Whether one of these folders holds what is at this path.
pub(super) fn holds(folders: &BTreeSet<String>, path: &str) -> bool {
    folders.iter().any(|folder| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
}

/// Everything in the tree.
pub(super) fn all(root: &Root) -> Result<Tree, FileError> {
    let mut tree = Tree::default();
    visit(root, "", 0, &mut tree, &mut |_, _| true)?;
    Ok(tree)
}

/// Everything but what the tree's .gitignore files name and `known` does not hold. Of that it is only counted what changed
/// after `then`.
pub(super) fn unignored(root: &Root, known: &Tree, then: Option<ChangeTime>) -> Result<Tree, FileError> {
    let mut tree = Tree::default();
    let mut ignored = BTreeMap::new();
    let mut rules: Vec<(usize, Gitignore)> = Vec::new();
    let mut wanted = |path: &str, is_folder: bool| {
        let depth = path.matches('/').count();
        if rules.last().is_none_or(|(at, _)| *at < depth) || rules.last().is_some_and(|(at, _)| *at > depth) {
            rules.retain(|(at, _)| *at < depth);
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let current = rules.last().is_some_and(|(at, rule)| *at == depth && rule.path() == absolute(folder));
        if !current {
            rules.retain(|(at, _)| *at < depth);
            rules.push((depth, rules_of(root, folder)));
        }
        let decided = rules
            .iter()
            .rev()
            .map(|(_, rule)| rule.matched(absolute(path), is_folder))
            .find(|m| !m.is_none());
        let is_wanted = !decided.is_some_and(|m| m.is_ignore()) || known.holds(path);
        if !is_wanted && let Some(then) = then {
            ignored.insert(path.to_owned(), root.changed_after(path, then));
        }
        is_wanted
    };
    visit(root, "", 0, &mut tree, &mut wanted)?;
    ignored.retain(|_, changed| *changed > 0);
    tree.ignored = ignored;
    Ok(tree)
}

fn absolute(path: &str) -> &Path {
    Path::new(if path.is_empty() { "." } else { path })
}

/// Read as any other file: a link or a FIFO of that name rules nothing.
fn rules_of(root: &Root, folder: &str) -> Gitignore {
    let path = if folder.is_empty() { ".gitignore".to_owned() } else { format!("{folder}/.gitignore") };
    let mut builder = GitignoreBuilder::new(absolute(folder));
    if let Ok(Some(file)) = root.read(&path, MAX_IGNORE_BYTES) {
        for line in String::from_utf8_lossy(&file.bytes).lines() {
            // A line that is no pattern rules nothing.
            drop(builder.add_line(None, line).map(|_| ()));
        }
    }
    builder.build().unwrap_or_else(|_| Gitignore::empty())
}

fn visit(
    root: &Root,
    folder: &str,
    depth: usize,
    tree: &mut Tree,
    wanted: &mut impl FnMut(&str, bool) -> bool,
) -> Result<(), FileError> {
    let (entries, unnamed) = match root.list(folder) {
        Err(error) if error.is_closed() && !folder.is_empty() => {
            tree.closed.insert(folder.to_owned());
            return Ok(());
        }
        listed => listed?,
    };
    tree.unnamed += unnamed;
    let mut folders = Vec::new();
    for (name, kind) in entries {
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if name.eq_ignore_ascii_case(".git") || !wanted(&path, kind == Kind::Folder) {
            continue;
        }
        match kind {
            Kind::Folder => folders.push(path),
            Kind::Other => drop(tree.others.insert(path)),
            kind => drop(tree.files.insert(path, kind)),
        }
        if tree.files.len() > MAX_FILES {
            return Err(FileError::Invalid { path: folder.to_owned(), rule: "too many files" });
        }
    }
    if depth >= MAX_DEPTH {
        tree.deep.extend(folders);
        return Ok(());
    }
    folders.iter().try_for_each(|path| visit(root, path, depth + 1, tree, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn ignored_files_are_left_out_unless_known() {
        let folder = tempfile::tempdir().unwrap();
        let make = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        make(".gitignore", "target/\n*.log\n[bad\n");
        make("target/a", "");
        make("target/known", "");
        make("x.log", "");
        make("sub/.gitignore", "!keep.log\n/only\n");
        make("sub/keep.log", "");
        make("sub/drop.log", "");
        make("sub/only", "");
        make("sub/deeper/only", "");
        make("tail/only", "");
        make(".git/config", "");
        let root = Root::open(folder.path()).unwrap();
        let paths = |tree: &Tree| tree.files.keys().cloned().collect::<Vec<_>>();
        let expected = [".gitignore", "sub/.gitignore", "sub/deeper/only", "sub/keep.log", "tail/only"];
        assert_eq!(paths(&unignored(&root, &Tree::default(), None).unwrap()), expected);
        assert_eq!(paths(&all(&root).unwrap()).len(), 10);
        let mut known = Tree::default();
        known.files.insert("target/known".into(), Kind::Folder);
        assert!(paths(&unignored(&root, &known, None).unwrap()).contains(&"target/known".to_owned()));
    }
}
