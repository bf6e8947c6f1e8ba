//! The lock file: one package a line, sorted, each with its version, digest and place in the archive.

use anyhow::{Context, bail};
use model::id::Digest;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) package: String,
    pub(crate) version: String,
    /// `debian` or `debian-security`: which archive the path is of.
    pub(crate) archive: String,
    pub(crate) digest: Digest,
    pub(crate) path: String,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lock(Vec<Entry>);

const HEAD: &str = "\
# Packages of the images, with the version, digest and place of each in Debian's archives.
# Written by `cargo xtask image --update-lock`; not edited by hand.
";

impl Lock {
    /// Of this repository, for this architecture.
    pub(crate) fn place() -> PathBuf {
        let name = format!("images/packages.{}.lock", crate::image::config::architecture());
        crate::machine::repository().join(name)
    }

    pub(crate) fn read() -> anyhow::Result<Self> {
        let place = Self::place();
        let text = std::fs::read_to_string(&place).with_context(|| {
            format!("{} is missing: cargo xtask image --update-lock writes it", place.display())
        })?;
        Self::parse(&text).with_context(|| format!("{}", place.display()))
    }

    pub(crate) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.package.cmp(&b.package));
        Self(entries)
    }

    pub(crate) fn write(&self, place: &Path) -> anyhow::Result<()> {
        if let Some(folder) = place.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(place, self.text()).with_context(|| format!("cannot write {}", place.display()))
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.0
    }

    pub(crate) fn entry(&self, package: &str) -> anyhow::Result<&Entry> {
        let found = self.0.iter().find(|entry| entry.package == package);
        found.with_context(|| format!("{package} is not in the lock file: cargo xtask image --update-lock"))
    }

    pub(super) fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ok(Self::new(lines.map(entry).collect::<Result<_, _>>()?))
    }

    pub(super) fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for Entry { package, version, archive, digest, path } in &self.0 {
            text.push_str(&format!("{package} {version} {archive} {} {path}\n", digest.as_str()));
        }
        text
    }
}

fn entry(line: &str) -> anyhow::Result<Entry> {
    let words: Vec<&str> = line.split(' ').collect();
    let [package, version, archive, digest, path] = words.as_slice() else {
        bail!("not five words: {line}");
    };
    // It becomes a file's name and a part of an address.
    if path.starts_with('/') || path.split('/').any(|part| part.is_empty() || part == "..") {
        bail!("not a place in an archive: {path}");
    }
    Ok(Entry {
        package: (*package).to_owned(),
        version: (*version).to_owned(),
        archive: (*archive).to_owned(),
        digest: digest.parse().with_context(|| format!("digest of {package}"))?,
        path: (*path).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::Lock;

    #[test]
    fn what_is_written_is_read() {
        let hex = "0".repeat(64);
        let lines = format!(
            "sed 4.9-1 debian sha256:{hex} pool/s/sed.deb\nbash 5.2-1 debian-security sha256:{hex} pool/b/bash.deb\n"
        );
        let lock = Lock::parse(&lines).unwrap();
        assert_eq!(lock.entries()[0].package, "bash");
        assert_eq!(Lock::parse(&lock.text()).unwrap(), lock);
        assert!(lock.entry("zsh").is_err());
    }

    #[test]
    fn what_is_odd_is_refused() {
        let hex = "0".repeat(64);
        for line in [
            "bash 5.2-1 debian".to_owned(),
            "bash 5.2-1 debian sha256:00 pool/b.deb".to_owned(),
            format!("bash 5.2-1 debian sha256:{hex} ../b.deb"),
            format!("bash 5.2-1 debian sha256:{hex} /b.deb"),
        ] {
            assert!(Lock::parse(&line).is_err(), "{line}");
        }
    }
}
