//! `LS`.

use crate::{glob, place};
use schemars::JsonSchema;
use std::{collections::VecDeque, fs, path::Path};
use vteam_sdk::{Context, Outcome, ToolError};

/// Entries shown at most. Folders near the root come first.
const ENTRIES: usize = 1000;
/// Folders whose inside is never of interest.
const CLOSED: [&str; 3] = [".git", "node_modules", "target"];

/// Lists a directory of the workspace as a tree.
///
/// Large trees are cut, deep folders first. To find files by name prefer Glob, by content Grep.
#[derive(serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ls {
    /// The directory: an absolute path below the workspace, or one relative to its root.
    path: String,
    /// Glob patterns of entries to leave out.
    #[serde(default)]
    ignore: Vec<String>,
}

pub(crate) fn ls(input: Ls, context: &Context) -> Result<Outcome, ToolError> {
    let path = context.path(&input.path)?;
    let shown = place::shown(&path);
    match place::existing(&path)? {
        None => return Err(ToolError::not_found(format!("{shown} does not exist."))),
        Some(meta) if !meta.is_dir() => {
            return Err(ToolError::invalid(format!("{shown} is a file, not a directory; Read shows it")));
        }
        Some(_) => {}
    }
    let tree = Tree::gather(&path.absolute, &input.ignore).map_err(|e| ToolError::io(&shown, &e))?;
    let mut out = format!("- {}/\n", shown.trim_end_matches('/'));
    tree.render(0, 1, &mut out);
    if tree.nodes.len() == 1 {
        out.push_str("(The directory is empty.)\n");
    }
    if tree.cut {
        out.push_str(&format!(
            "\n[Only {ENTRIES} entries are shown: list a folder marked with … for more.]\n"
        ));
    }
    Ok(Outcome::text(out))
}

/// Entries found breadth first, so that a cut takes what lies deepest.
struct Tree {
    /// The first one is the listed folder.
    nodes: Vec<Node>,
    cut: bool,
}

struct Node {
    /// From the listed folder.
    path: String,
    is_dir: bool,
    children: Vec<usize>,
    /// A folder that was not looked into, or not wholly.
    unread: bool,
}

impl Tree {
    fn gather(root: &Path, ignore: &[String]) -> std::io::Result<Self> {
        let mut tree = Self { nodes: vec![Node::new(String::new(), true)], cut: false };
        let mut waiting = VecDeque::from([0]);
        while let Some(at) = waiting.pop_front() {
            let Some(path) = tree.nodes.get(at).map(|n| n.path.clone()) else { continue };
            let entries = match entries(&root.join(&path)) {
                Ok(entries) => entries,
                Err(error) if at == 0 => return Err(error),
                Err(_) => Vec::new(),
            };
            for (name, is_dir) in entries {
                let child = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                if ignore.iter().any(|pattern| glob::fits(pattern, &child)) {
                    continue;
                }
                let closed = CLOSED.contains(&name.as_str());
                let Some(index) = tree.add(at, Node { unread: is_dir && closed, ..Node::new(child, is_dir) })
                else {
                    break;
                };
                if is_dir && !closed {
                    waiting.push_back(index);
                }
            }
            if tree.cut {
                waiting
                    .into_iter()
                    .chain([at])
                    .for_each(|i| tree.nodes.get_mut(i).into_iter().for_each(|n| n.unread = true));
                break;
            }
        }
        Ok(tree)
    }

    /// The new node's place; `None` when the tree is full.
    fn add(&mut self, parent: usize, node: Node) -> Option<usize> {
        let index = self.nodes.len();
        if index > ENTRIES {
            self.cut = true;
            return None;
        }
        self.nodes.push(node);
        self.nodes.get_mut(parent)?.children.push(index);
        Some(index)
    }

    fn render(&self, at: usize, depth: usize, out: &mut String) {
        let children = self.nodes.get(at).into_iter().flat_map(|n| &n.children);
        for (index, node) in children.filter_map(|i| Some((*i, self.nodes.get(*i)?))) {
            let name = node.path.rsplit('/').next().unwrap_or_default();
            let mark = if node.is_dir { "/" } else { "" };
            let more = if node.unread { " …" } else { "" };
            out.push_str(&format!("{}- {name}{mark}{more}\n", "  ".repeat(depth)));
            self.render(index, depth + 1, out);
        }
    }
}

impl Node {
    const fn new(path: String, is_dir: bool) -> Self {
        Self { path, is_dir, children: Vec::new(), unread: false }
    }
}

/// Names in a folder and whether each is a folder itself, sorted. Links are entries like files and not followed.
fn entries(folder: &Path) -> std::io::Result<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        found.push((entry.file_name().to_string_lossy().into_owned(), is_dir));
    }
    found.sort();
    Ok(found)
}
