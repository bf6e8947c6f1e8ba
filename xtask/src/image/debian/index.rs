//! Which packages are needed for those that are wanted, by the indices that apt has fetched and judged.

use super::{APT_HELPER, SUITE, lock::Entry};
use crate::run::Run;
use anyhow::{Context, bail};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The parts of an index entry that matter here.
#[derive(Debug, Clone)]
struct Stanza {
    entry: Entry,
    /// Alternatives, all of which but one may be missing.
    depends: Vec<Vec<String>>,
    provides: Vec<String>,
}

#[derive(Debug, Default)]
struct Index {
    /// All versions on offer.
    packages: BTreeMap<String, Vec<Stanza>>,
    /// Virtual package to packages.
    providers: BTreeMap<String, BTreeSet<String>>,
}

/// The wanted packages and what they depend on, but not what is left out and what only that needs.
pub(crate) fn resolve(wanted: &[&str], left_out: &[&str]) -> anyhow::Result<Vec<Entry>> {
    let mut index = Index::default();
    for (archive, text) in fetched()? {
        text.split("\n\n").filter(|text| !text.trim().is_empty()).try_for_each(|text| {
            let stanza = stanza(text, &archive)?;
            index.add(stanza);
            anyhow::Ok(())
        })?;
    }
    index.close(wanted, left_out, newer)
}

/// Archive and text of each index of the suite.
fn fetched() -> anyhow::Result<Vec<(String, String)>> {
    let format = "$(LABEL) $(CODENAME) $(COMPONENT) $(ARCHITECTURE) $(FILENAME)";
    let listed = Run::new("apt-get")
        .args(["indextargets", "--format", format, "Created-By: Packages", "Origin: Debian"])
        .text()
        .context("apt is needed to choose packages: run this on Debian")?;
    let suites = [SUITE.to_owned(), format!("{SUITE}-updates"), format!("{SUITE}-security")];
    let mut found = Vec::new();
    for line in listed.lines() {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [label, codename, "main", architecture, file] = words.as_slice() else { continue };
        let ours = *architecture == crate::image::config::architecture();
        if ours && suites.iter().any(|suite| suite == codename) {
            found.push((label.to_lowercase(), Run::new(APT_HELPER).args(["cat-file", file]).text()?));
        }
    }
    if found.is_empty() {
        bail!("the package sources have no Debian {SUITE}, or `apt-get update` was never run");
    }
    Ok(found)
}

fn stanza(text: &str, archive: &str) -> anyhow::Result<Stanza> {
    let fields: BTreeMap<&str, &str> =
        text.lines().filter(|line| !line.starts_with(' ')).filter_map(|line| line.split_once(": ")).collect();
    let field = |name: &str| fields.get(name).copied().with_context(|| format!("no {name} in:\n{text}"));
    let digest = format!("sha256:{}", field("SHA256")?);
    let mut depends = Vec::new();
    for name in ["Pre-Depends", "Depends"] {
        let clauses = fields.get(name).copied().unwrap_or_default();
        depends.extend(clauses.split(", ").filter(|c| !c.is_empty()).map(|clause| names(clause, '|')));
    }
    Ok(Stanza {
        entry: Entry {
            package: field("Package")?.to_owned(),
            version: field("Version")?.to_owned(),
            archive: archive.to_owned(),
            digest: digest.parse()?,
            path: field("Filename")?.to_owned(),
        },
        depends,
        provides: names(fields.get("Provides").copied().unwrap_or_default(), ','),
    })
}

/// Versions are not looked at: the packages of one suite fit each other.
fn names(list: &str, separator: char) -> Vec<String> {
    let bare = |name: &str| name.trim().split([' ', '(', ':']).next().unwrap_or_default().to_owned();
    list.split(separator).map(bare).filter(|name| !name.is_empty()).collect()
}

impl Index {
    fn add(&mut self, stanza: Stanza) {
        let package = stanza.entry.package.clone();
        for provided in &stanza.provides {
            self.providers.entry(provided.clone()).or_default().insert(package.clone());
        }
        self.packages.entry(package).or_default().push(stanza);
    }

    fn close(
        &self,
        wanted: &[&str],
        left_out: &[&str],
        newer: impl Fn(&str, &str) -> bool,
    ) -> anyhow::Result<Vec<Entry>> {
        let mut chosen: BTreeMap<String, Entry> = BTreeMap::new();
        let mut queue: VecDeque<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
        while let Some(name) = queue.pop_front() {
            if chosen.contains_key(&name) {
                continue;
            }
            let stanza = self.newest(&name, &newer)?;
            chosen.insert(name.clone(), stanza.entry.clone());
            for alternatives in &stanza.depends {
                let met = |n: &String| {
                    chosen.contains_key(n) || queue.contains(n) || left_out.contains(&n.as_str())
                };
                if alternatives.iter().any(|name| met(name) || self.provided(name).any(met)) {
                    continue;
                }
                let first = alternatives.iter().find_map(|name| {
                    if self.packages.contains_key(name) { Some(name) } else { self.provided(name).next() }
                });
                queue.push_back(
                    first.with_context(|| format!("{name} needs {}", alternatives.join(" or ")))?.clone(),
                );
            }
        }
        Ok(chosen.into_values().collect())
    }

    fn provided(&self, name: &str) -> impl Iterator<Item = &String> {
        self.providers.get(name).into_iter().flatten()
    }

    fn newest(&self, name: &str, newer: impl Fn(&str, &str) -> bool) -> anyhow::Result<&Stanza> {
        let versions = self.packages.get(name).with_context(|| format!("there is no package {name}"))?;
        let newest = versions
            .iter()
            .reduce(|best, next| if newer(&next.entry.version, &best.entry.version) { next } else { best });
        newest.with_context(|| format!("there is no version of {name}"))
    }
}

fn newer(one: &str, other: &str) -> bool {
    one != other && Run::new("dpkg").args(["--compare-versions", one, "gt", other]).succeeds()
}

#[cfg(test)]
mod tests {
    use super::{Index, stanza};

    fn index(packages: &[(&str, &str, &str)]) -> Index {
        let mut index = Index::default();
        for (package, version, more) in packages {
            let hex = "0".repeat(64);
            let text = format!(
                "Package: {package}\nVersion: {version}\nDescription: x\n more: y\nFilename: pool/{package}.deb\nSHA256: {hex}\n{more}"
            );
            index.add(stanza(&text, "debian").unwrap());
        }
        index
    }

    fn close(index: &Index, wanted: &[&str], left_out: &[&str]) -> Vec<String> {
        let chosen = index.close(wanted, left_out, |one, other| one > other).unwrap();
        chosen.into_iter().map(|entry| format!("{} {}", entry.package, entry.version)).collect()
    }

    #[test]
    fn what_is_needed_comes_along_in_its_newest_version() {
        let index = index(&[
            ("git", "1", "Depends: libc6 (>= 2.3), perl:any, awk"),
            ("libc6", "2", ""),
            ("libc6", "3", ""),
            ("perl", "1", "Pre-Depends: modules\n"),
            ("modules", "1", ""),
            ("gawk", "1", "Provides: awk"),
            ("mawk", "1", "Provides: awk"),
        ]);
        let all = ["gawk 1", "git 1", "libc6 3", "modules 1", "perl 1"];
        assert_eq!(close(&index, &["git"], &[]), all);
        assert_eq!(close(&index, &["git", "mawk"], &["perl"]), ["git 1", "libc6 3", "mawk 1"]);
        assert!(index.close(&["zsh"], &[], |_, _| false).is_err());
    }

    #[test]
    fn one_of_several_is_enough() {
        let index = index(&[
            ("a", "1", "Depends: gone | b | c"),
            ("b", "1", ""),
            ("c", "1", ""),
            ("d", "1", "Depends: gone"),
        ]);
        assert_eq!(close(&index, &["a"], &[]), ["a 1", "b 1"]);
        assert_eq!(close(&index, &["c", "a"], &[]), ["a 1", "c 1"]);
        assert!(index.close(&["d"], &[], |_, _| false).is_err());
    }
}
