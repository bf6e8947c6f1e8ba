//! What every image has: users, a folder for temporary files, and certificates where it speaks TLS.

use crate::image::{
    debian::{self, Control, Entry},
    sbom::Parts,
    tree::{Tree, USER},
};
use anyhow::bail;
use std::path::Path;

const MOZILLA: &str = "usr/share/ca-certificates/mozilla/";
const CA_CERTIFICATES: &str = "ca-certificates";

/// Names for the numbers that programs run with, and `/tmp`.
pub(crate) fn lay(tree: &mut Tree, home: &str, shell: &str) -> anyhow::Result<()> {
    let passwd = format!(
        "root:x:0:0:root:/root:{shell}\n\
         vteam:x:{USER}:{USER}:vteam:{home}:{shell}\n\
         nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    );
    tree.add("etc/passwd", passwd)?;
    tree.add("etc/group", format!("root:x:0:\nvteam:x:{USER}:\nnogroup:x:65534:\n"))?;
    tree.folder("tmp", 0o1777)
}

/// Where every TLS library of Debian, and rustls' platform verifier, looks first.
pub(crate) const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";

/// What the package's maintainer script would put together: all authorities that Mozilla trusts, in the order of their
/// names.
pub(crate) fn bundle(package: &Tree) -> anyhow::Result<Vec<u8>> {
    let mut bundle = Vec::new();
    for (path, _) in package.nodes().filter(|(path, _)| path.starts_with(MOZILLA)) {
        if let Some(certificate) = package.file(path) {
            bundle.extend_from_slice(certificate.trim_ascii());
            bundle.push(b'\n');
        }
    }
    if bundle.is_empty() {
        bail!("{CA_CERTIFICATES} holds no certificates");
    }
    Ok(bundle)
}

/// The bundle alone, for an image that holds nothing else of Debian.
pub(crate) fn add_certificates(
    tree: &mut Tree,
    parts: &mut Parts,
    lock: &debian::Lock,
) -> anyhow::Result<()> {
    let entry = lock.entry(CA_CERTIFICATES)?;
    let files = debian::fetch(&[entry])?;
    let mut package = Tree::default();
    for file in &files {
        let unpacked = debian::unpack(file, &mut package, |_| true)?;
        record(tree, parts, entry, &unpacked.control)?;
    }
    let copyright = format!("usr/share/doc/{CA_CERTIFICATES}/copyright");
    if let Some(text) = package.file(&copyright) {
        tree.add(&copyright, text)?;
    }
    tree.add(BUNDLE, bundle(&package)?)
}

/// A package for the SBOM, and for scanners that look for what dpkg would have written.
pub(crate) fn record(
    tree: &mut Tree,
    parts: &mut Parts,
    entry: &Entry,
    control: &Control,
) -> anyhow::Result<()> {
    parts.add_debian(entry, control);
    tree.add(&format!("var/lib/dpkg/status.d/{}", entry.package), control.text.clone())
}

/// The licence of what is ours.
pub(crate) fn add_licence(tree: &mut Tree, repository: &Path) -> anyhow::Result<()> {
    tree.add("usr/share/doc/vteam/copyright", std::fs::read(repository.join("LICENSE"))?)
}

#[cfg(test)]
mod tests {
    use super::{bundle, lay};
    use crate::image::tree::Tree;

    #[test]
    fn a_bundle_is_in_the_order_of_names() {
        let mut package = Tree::default();
        package.add("usr/share/ca-certificates/mozilla/b.crt", "B\n\n").unwrap();
        package.add("usr/share/ca-certificates/mozilla/a.crt", "A").unwrap();
        package.add("usr/share/doc/x", "no certificate").unwrap();
        assert_eq!(bundle(&package).unwrap(), b"A\nB\n");
        assert!(bundle(&Tree::default()).is_err());
    }

    #[test]
    fn the_user_has_a_name_and_a_place_for_temporary_files() {
        let mut tree = Tree::default();
        lay(&mut tree, "/home/vteam", "/bin/bash").unwrap();
        let passwd = String::from_utf8(tree.file("etc/passwd").unwrap().to_vec()).unwrap();
        assert!(passwd.contains("vteam:x:65532:65532:vteam:/home/vteam:/bin/bash\n"), "{passwd}");
        assert!(tree.nodes().any(|(path, node)| path == "tmp" && node.mode == 0o1777));
    }
}
