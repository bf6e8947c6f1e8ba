//! What is in a package file.

use crate::image::tree::{Kind, Node, Tree};
use anyhow::{Context, bail};
use std::{
    collections::BTreeMap,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};
use tar::{Archive, EntryType};

/// Folders that are links into `usr` on every Debian since 12, while packages still name them.
pub(crate) const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

/// What a package says about itself.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) text: String,
    fields: BTreeMap<String, String>,
}

impl Control {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }
}

pub(crate) struct Unpacked {
    pub(crate) control: Control,
    /// Seconds since 1970, of its newest file.
    pub(crate) newest: u64,
}

/// Puts a package's files into the tree; those that are not wanted are left out, their folders are not.
pub(crate) fn unpack(
    file: &Path,
    tree: &mut Tree,
    wanted: impl Fn(&str) -> bool,
) -> anyhow::Result<Unpacked> {
    let context = || format!("{}", file.display());
    let control = control(&dpkg_deb("--ctrl-tarfile", file)?).with_context(context)?;
    let newest = files(&dpkg_deb("--fsys-tarfile", file)?, tree, wanted).with_context(context)?;
    Ok(Unpacked { control, newest })
}

fn dpkg_deb(flag: &str, file: &Path) -> anyhow::Result<Vec<u8>> {
    let output = Command::new("dpkg-deb").arg(flag).arg(file).stderr(Stdio::inherit()).output();
    let output = output.context("dpkg-deb is needed (package dpkg)")?;
    if !output.status.success() {
        bail!("dpkg-deb {flag} {} failed ({})", file.display(), output.status);
    }
    Ok(output.stdout)
}

fn control(tar: &[u8]) -> anyhow::Result<Control> {
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        if entry.path()?.ends_with("control") {
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            let lines = text.lines().filter_map(|line| line.split_once(": "));
            let fields = lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
            return Ok(Control { text, fields });
        }
    }
    bail!("no control file");
}

fn files(tar: &[u8], tree: &mut Tree, wanted: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
    let mut newest = 0;
    for entry in Archive::new(tar).entries()? {
        let mut entry = entry?;
        let header = entry.header().clone();
        newest = newest.max(header.mtime()?);
        let packed = plain(&entry.path()?)?;
        let path = merged(&packed);
        if path.is_empty() || !wanted(&path) {
            continue;
        }
        let target = entry.link_name()?.map(|to| to.to_string_lossy().into_owned()).unwrap_or_default();
        let kind = match header.entry_type() {
            EntryType::Directory => Kind::Folder,
            EntryType::Regular => {
                let mut bytes = Vec::new();
                entry.read_to_end(&mut bytes)?;
                Kind::File(bytes)
            }
            EntryType::Symlink => Kind::Link(link(&packed, &target)),
            // A second name of a file. Layers could say so; a link does as well and every tool copies it as one.
            EntryType::Link => Kind::Link(format!("/{}", merged(&plain(Path::new(&target))?))),
            other => bail!("{path} is neither file, folder nor link: {other:?}"),
        };
        let known_folder = kind == Kind::Folder && tree.contains(&path);
        if !known_folder {
            let mode = header.mode()? & 0o7777;
            tree.put(&path, Node { kind, mode, owner: 0 })?;
        }
    }
    Ok(newest)
}

/// Without `./` and a slash at the end.
fn plain(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().with_context(|| format!("{} is no UTF-8", path.display()))?;
    Ok(text.trim_start_matches("./").trim_end_matches('/').to_owned())
}

fn merged(path: &str) -> String {
    let first = path.split('/').next().unwrap_or_default();
    if MERGED.contains(&first) { format!("usr/{path}") } else { path.to_owned() }
}

/// A link that climbs out of a merged folder would climb from one level deeper: it becomes an absolute one.
fn link(from: &str, to: &str) -> String {
    if merged(from) == from || !to.starts_with("..") {
        return to.to_owned();
    }
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." | "" => {}
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::{control, files, link, merged};
    use crate::image::tree::{Kind, Tree};
    use tar::{Builder, EntryType, Header};

    fn package(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(Vec::new());
        for (kind, path, what) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(0o4755);
            header.set_mtime(path.len() as u64);
            header.set_size(0);
            if matches!(kind, EntryType::Symlink | EntryType::Link) {
                tar.append_link(&mut header, path, what).unwrap();
            } else {
                header.set_size(what.len() as u64);
                tar.append_data(&mut header, path, what.as_bytes()).unwrap();
            }
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn merged_folders() {
        for (path, place) in
            [("bin/sh", "usr/bin/sh"), ("lib64", "usr/lib64"), ("usr/bin/x", "usr/bin/x"), ("libx", "libx")]
        {
            assert_eq!(merged(path), place);
        }
        for (from, to, now) in [
            ("bin/sh", "dash", "dash"),
            ("lib/a/x.so", "../../usr/lib/y.so", "/usr/lib/y.so"),
            ("usr/lib/x", "../bin/y", "../bin/y"),
        ] {
            assert_eq!(link(from, to), now);
        }
    }

    #[test]
    fn files_links_and_second_names() {
        let tar = package(&[
            (EntryType::Directory, "./bin/", ""),
            (EntryType::Regular, "./bin/gunzip", "program"),
            (EntryType::Link, "./bin/uncompress", "./bin/gunzip"),
            (EntryType::Symlink, "./bin/zcat", "gunzip"),
            (EntryType::Regular, "./usr/share/man/gunzip.1", "page"),
        ]);
        let mut tree = Tree::default();
        let newest = files(&tar, &mut tree, |path| !path.starts_with("usr/share/man")).unwrap();
        assert_eq!(newest, "./usr/share/man/gunzip.1".len() as u64);
        let seen: Vec<_> = tree.nodes().map(|(path, node)| (path, node.mode, &node.kind)).collect();
        assert_eq!(
            seen,
            [
                ("usr", 0o755, &Kind::Folder),
                ("usr/bin", 0o755, &Kind::Folder),
                ("usr/bin/gunzip", 0o755, &Kind::File(b"program".to_vec())),
                ("usr/bin/uncompress", 0o777, &Kind::Link("/usr/bin/gunzip".to_owned())),
                ("usr/bin/zcat", 0o777, &Kind::Link("gunzip".to_owned())),
            ]
        );
        let device = package(&[(EntryType::Char, "./dev/null", "")]);
        assert!(files(&device, &mut tree, |_| true).is_err());
    }

    #[test]
    fn what_a_package_says() {
        let tar = package(&[(EntryType::Regular, "./control", "Package: sed\nVersion: 4.9\n more: x\n")]);
        let control = control(&tar).unwrap();
        assert_eq!(control.field("Version"), Some("4.9"));
        assert_eq!(control.field("Source"), None);
        assert!(super::control(&package(&[])).is_err());
    }
}
