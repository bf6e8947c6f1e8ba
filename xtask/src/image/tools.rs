//! The image for native programs: a small Debian in which no package manager ran.

use crate::image::{
    base,
    debian::{self, Lock},
    python,
    sbom::Parts,
    tree::Tree,
};
use anyhow::bail;

/// What the image is for; `docs/images.md` lists it. What these need comes along.
pub(crate) const WANTED: &[&str] = &[
    "base-files",
    "bash",
    "ca-certificates",
    "coreutils",
    "curl",
    "dash",
    "debianutils",
    "diffutils",
    "findutils",
    "gawk",
    "git",
    "grep",
    "gzip",
    "libc-bin",
    "make",
    "openssl",
    "patch",
    "perl-base",
    "python3",
    "sed",
    "tar",
];

/// Asked for by the above, and not in the image.
pub(crate) const LEFT_OUT: &[&str] = &[
    // For maintainer scripts, none of which runs.
    "debconf",
    "dpkg",
    // git's manual, and 50 MB of Perl for its mail and Subversion commands; perl-base is in.
    "git-man",
    "liberror-perl",
    "perl",
];

/// What no program of the image reads.
const UNREAD: &[&str] = &[
    "etc/bash_completion.d/",
    "usr/share/applications/",
    "usr/share/bash-completion/",
    "usr/share/binfmts/",
    "usr/share/bug/",
    "usr/share/doc-base/",
    "usr/share/info/",
    "usr/share/lintian/",
    "usr/share/locale/",
    "usr/share/man/",
    "usr/share/menu/",
    "usr/share/pixmaps/",
    "usr/share/zsh/",
];

/// What update-alternatives would have linked.
const ALTERNATIVES: &[(&str, &str)] = &[
    ("usr/bin/awk", "gawk"),
    ("usr/bin/nawk", "gawk"),
    ("usr/bin/which", "which.debianutils"),
    ("usr/sbin/rmt", "rmt-tar"),
];

/// Where a pod mounts the folder from which the runner hands over the launcher, and a session's files.
pub(crate) const LAUNCHER: &str = "run/vteam";
pub(crate) const WORKSPACE: &str = "workspace";
const HOME: &str = "home/vteam";

/// Fills the tree; the time of its newest file.
pub(crate) fn fill(tree: &mut Tree, parts: &mut Parts, lock: &Lock) -> anyhow::Result<u64> {
    let entries: Vec<_> = lock.entries().iter().collect();
    let mut newest = 0;
    for (entry, file) in entries.iter().zip(debian::fetch(&entries)?) {
        let unpacked = debian::unpack(&file, tree, wanted)?;
        newest = newest.max(unpacked.newest);
        base::record(tree, parts, entry, &unpacked.control)?;
    }
    finish(tree)?;
    let dangling = tree.dangling();
    if !dangling.is_empty() {
        bail!("links that lead nowhere: {}", dangling.join(", "));
    }
    python::add_byte_code(tree)?;
    Ok(newest)
}

/// Of a package's documentation only its licence stays.
fn wanted(path: &str) -> bool {
    let documentation = path.strip_prefix("usr/share/doc/");
    let read = documentation.is_none_or(|rest| !rest.contains('/') || rest.ends_with("/copyright"));
    read && !UNREAD.iter().any(|folder| path.starts_with(folder))
}

/// What maintainer scripts would have done.
fn finish(tree: &mut Tree) -> anyhow::Result<()> {
    for folder in debian::MERGED {
        tree.link(folder, &format!("usr/{folder}"))?;
    }
    for (path, to) in ALTERNATIVES {
        tree.link(path, to)?;
    }
    let bundle = base::bundle(tree)?;
    tree.add(base::BUNDLE, bundle)?;
    if let Some(profile) = tree.file("usr/share/base-files/profile").map(<[u8]>::to_vec) {
        tree.add("etc/profile", profile)?;
    }
    tree.add("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")?;
    base::lay(tree, &format!("/{HOME}"), "/bin/bash")?;
    tree.prune(|path| !path.starts_with("usr/share/"));
    for folder in [HOME, WORKSPACE, LAUNCHER] {
        tree.own(folder, 0o755)?;
    }
    Ok(())
}
