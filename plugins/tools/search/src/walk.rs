//! Which files of the workspace a search looks at.

use ignore::{DirEntry, Walk, WalkBuilder, overrides::Override, types::Types};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};
use vteam_sdk::{Context, ToolError, WorkspacePath};

/// A walk below one folder, or of one file.
pub(crate) struct Files {
    root: PathBuf,
    start: PathBuf,
    /// Leave out what `.gitignore` and `.ignore` name.
    pub(crate) ignore: bool,
    pub(crate) only: Override,
    pub(crate) types: Types,
}

/// The place to search: the workspace's root where none is given.
pub(crate) fn place(context: &Context, given: Option<&str>) -> Result<WorkspacePath, ToolError> {
    let path = context.path(given.unwrap_or_default())?;
    match std::fs::metadata(&path.absolute) {
        Ok(_) => Ok(path),
        Err(error) => Err(ToolError::io(&path.absolute.display().to_string(), &error)),
    }
}

impl Files {
    pub(crate) fn below(context: &Context, place: &WorkspacePath) -> Self {
        Self {
            root: context.workspace(),
            start: place.absolute.clone(),
            ignore: true,
            only: Override::empty(),
            types: Types::empty(),
        }
    }

    /// Regular files, by path. Links are not followed, and no `.git` is entered.
    pub(crate) fn iter(&self) -> impl Iterator<Item = PathBuf> {
        let files = |walk: Walk| walk.flatten().filter(is_file).map(DirEntry::into_path);
        let from_root = files(self.walk(&self.root)).peekable();
        // An ignored folder that is asked for by name is searched all the same.
        let mut found = from_root;
        let direct = match found.peek() {
            None if self.start != self.root => Some(files(self.walk(&self.start))),
            _ => None,
        };
        found.chain(direct.into_iter().flatten())
    }

    /// A walk begins at the workspace's root even where only a part is wanted: the ignore files above that part count.
    fn walk(&self, from: &Path) -> Walk {
        let start = self.start.clone();
        WalkBuilder::new(from)
            .hidden(false)
            .parents(false)
            .git_global(false)
            .git_exclude(false)
            .require_git(false)
            .git_ignore(self.ignore)
            .ignore(self.ignore)
            .overrides(self.only.clone())
            .types(self.types.clone())
            .sort_by_file_name(Ord::cmp)
            .filter_entry(move |e| {
                e.file_name() != ".git" && (e.path().starts_with(&start) || start.starts_with(e.path()))
            })
            .build()
    }
}

fn is_file(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|t| t.is_file())
}

/// The most recently changed first.
pub(crate) fn newest_first(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| {
        let changed = std::fs::metadata(path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
        (std::cmp::Reverse(changed), path.clone())
    });
}
