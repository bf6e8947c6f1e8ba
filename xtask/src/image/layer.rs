//! A tree as a layer: a gzipped tar whose bytes depend on the tree and the time given, and on nothing else.

use crate::image::tree::{Kind, Node, Tree};
use flate2::{Compression, GzBuilder};
use model::id::Digest;
use std::io::Write;
use tar::{Builder, EntryType, Header};

pub(crate) struct Layer {
    /// Of the tar before compression: what the image's configuration names.
    pub(crate) diff_id: Digest,
    pub(crate) compressed: Vec<u8>,
}

/// gzip, not zstd: containerd has read zstd since 1.5, but registries and scanners of old do not.
pub(crate) fn layer(tree: &Tree, time: u64, level: Compression) -> anyhow::Result<Layer> {
    let plain = tar(tree, time)?;
    // Without a name, a time or an operating system in its header.
    let mut gzip = GzBuilder::new().write(Vec::new(), level);
    gzip.write_all(&plain)?;
    Ok(Layer { diff_id: Digest::of(&plain), compressed: gzip.finish()? })
}

fn tar(tree: &Tree, time: u64) -> anyhow::Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    for (path, node) in tree.nodes() {
        append(&mut tar, path, node, time)?;
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, node: &Node, time: u64) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(node.mode);
    header.set_uid(node.owner.into());
    header.set_gid(node.owner.into());
    header.set_mtime(time);
    header.set_size(0);
    match &node.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), std::io::empty())?;
        }
        Kind::File(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        Kind::Link(to) => {
            header.set_entry_type(EntryType::Symlink);
            tar.append_link(&mut header, path, to)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::layer;
    use crate::image::tree::Tree;
    use flate2::Compression;
    use std::io::Read;

    fn tree(order: &[&str]) -> Tree {
        let mut tree = Tree::default();
        for path in order {
            tree.add(path, format!("bytes of {path}")).unwrap();
        }
        tree.own("data", 0o700).unwrap();
        tree.link("bin", "usr/bin").unwrap();
        tree
    }

    #[test]
    fn bytes_depend_on_the_tree_alone() {
        let long = format!("usr/{}/x", "long/".repeat(40));
        let one = layer(&tree(&["usr/bin/b", "usr/bin/a", &long]), 7, Compression::fast()).unwrap();
        let two = layer(&tree(&[&long, "usr/bin/a", "usr/bin/b"]), 7, Compression::fast()).unwrap();
        assert_eq!(one.diff_id, two.diff_id);
        assert_eq!(one.compressed, two.compressed);
        let later = layer(&tree(&["usr/bin/a"]), 8, Compression::fast()).unwrap();
        assert_ne!(later.diff_id, layer(&tree(&["usr/bin/a"]), 7, Compression::fast()).unwrap().diff_id);
    }

    #[test]
    fn entries_are_sorted_and_owned_by_numbers() {
        let packed = layer(&tree(&["usr/bin/a"]), 7, Compression::fast()).unwrap().compressed;
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut plain).unwrap();
        let mut archive = tar::Archive::new(plain.as_slice());
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let entry = entry.unwrap();
            let header = entry.header();
            assert_eq!(header.mtime().unwrap(), 7);
            assert_eq!(header.username().unwrap(), Some(""));
            let path = entry.path().unwrap().display().to_string();
            seen.push(format!("{path} {} {:o}", header.uid().unwrap(), header.mode().unwrap()));
        }
        assert_eq!(seen, ["bin 0 777", "data/ 65532 700", "usr/ 0 755", "usr/bin/ 0 755", "usr/bin/a 0 644"]);
    }
}
