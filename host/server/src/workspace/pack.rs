//! A folder as an archive that a session on another machine can begin with: what a private copy of it here would hold.

use super::{LeftOut, PrepareError, copy, folder};
use flate2::{Compression, write::GzEncoder};
use std::{
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};
use tar::{Builder, EntryType, Header};

/// What an archive holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Packed {
    pub files: u64,
    /// Of the files, before they were compressed.
    pub bytes: u64,
    pub left_out: LeftOut,
}

/// Writes a folder as tar, compressed with gzip, without what its ignore files leave out unless that is wanted, and never
/// with `own`, the data of a server on this machine.
///
/// # Errors
/// When it is no folder to work on, cannot be read, or `to` takes no more.
pub fn pack(path: &Path, include_ignored: bool, own: &Path, to: impl Write) -> Result<Packed, PrepareError> {
    folder(path, own)?;
    let tar = Builder::new(GzEncoder::new(to, Compression::fast()));
    let mut archive = Archive { tar, files: 0, bytes: 0 };
    // Its compressed size is what counts, and that is for `to` to say.
    let rules = copy::Rules { include_ignored, baseline_only: false, own, max_bytes: u64::MAX };
    let left_out = copy::tree(path, &mut archive, &rules)?;
    let Archive { tar, files, bytes } = archive;
    let finished = tar.into_inner().and_then(GzEncoder::finish).and_then(|mut to| to.flush());
    finished.map_err(|error| match error.kind() {
        io::ErrorKind::FileTooLarge => PrepareError::TooLarge { limit: u64::MAX },
        _ => PrepareError::io(path)(error),
    })?;
    Ok(Packed { files, bytes, left_out })
}

struct Archive<W: Write> {
    tar: Builder<GzEncoder<W>>,
    files: u64,
    bytes: u64,
}

impl<W: Write> copy::Sink for Archive<W> {
    fn folder(&mut self, at: &Path) -> io::Result<()> {
        self.tar.append_data(&mut header(EntryType::Directory, 0o755, 0), named(at)?, io::empty())
    }

    fn link(&mut self, at: &Path, target: &Path) -> io::Result<()> {
        named(target)?;
        self.tar.append_link(&mut header(EntryType::Symlink, 0o777, 0), named(at)?, target)
    }

    fn file(&mut self, from: &Path, at: &Path) -> io::Result<()> {
        let (source, data) = copy::open(from)?;
        let mode = if data.permissions().mode() & 0o100 == 0 { 0o644 } else { 0o755 };
        let mut header = header(EntryType::Regular, mode, data.len());
        self.tar.append_data(&mut header, named(at)?, Whole { source, left: data.len() })?;
        self.files += 1;
        self.bytes += data.len();
        Ok(())
    }
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

/// A name that every system can have.
fn named(path: &Path) -> io::Result<&Path> {
    let why = "its name is no UTF-8: rename it, or leave it out with an ignore file";
    path.to_str().map(|_| path).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, why))
}

/// As many bytes as were said before: others would move into the next file's place.
struct Whole<R> {
    source: R,
    left: u64,
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.source.read(buffer.get_mut(..most).unwrap_or_default())?;
        if read == 0 && most > 0 {
            return Err(io::Error::other("it became shorter while it was read"));
        }
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::{collections::BTreeMap, ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, os::unix::fs::symlink};

    fn packed(path: &Path, include_ignored: bool, own: &Path) -> (Packed, BTreeMap<String, (u32, String)>) {
        let mut bytes = Vec::new();
        let packed = pack(path, include_ignored, own, &mut bytes).unwrap();
        let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        let mut files = BTreeMap::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            if let Some(target) = entry.link_name().unwrap() {
                content = format!("-> {}", target.display());
            }
            let path = entry.path().unwrap().display().to_string();
            files.insert(path, (entry.header().mode().unwrap(), content));
        }
        (packed, files)
    }

    #[test]
    fn an_archive_is_what_a_copy_would_be() {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name);
        for folder in [".git", "sub", "target", "own", "empty"] {
            fs::create_dir(at(folder)).unwrap();
        }
        fs::write(at(".git/config"), "x").unwrap();
        fs::write(at(".gitignore"), "target\n").unwrap();
        fs::write(at("target/big"), "big").unwrap();
        fs::write(at("own/token"), "secret").unwrap();
        fs::write(at("sub/run.sh"), "run").unwrap();
        fs::set_permissions(at("sub/run.sh"), fs::Permissions::from_mode(0o700)).unwrap();
        symlink("../.gitignore", at("sub/link")).unwrap();
        symlink("/etc/passwd", at("outside")).unwrap();
        let long = "n".repeat(120);
        fs::write(at(&long), "long").unwrap();

        let (packed_up, files) = packed(home.path(), false, &at("own"));
        let file = |mode, text: &str| (mode, text.to_owned());
        let expected = BTreeMap::from([
            (".gitignore".to_owned(), file(0o644, "target\n")),
            ("empty".to_owned(), file(0o755, "")),
            (long, file(0o644, "long")),
            ("sub".to_owned(), file(0o755, "")),
            ("sub/link".to_owned(), file(0o777, "-> ../.gitignore")),
            ("sub/run.sh".to_owned(), file(0o755, "run")),
        ]);
        assert_eq!(files, expected);
        assert_eq!((packed_up.files, packed_up.bytes), (3, 14));
        assert_eq!(packed_up.left_out, LeftOut { git: 1, links: 1, own: 1, special: 0 });
        let (_, all) = packed(home.path(), true, &at("own"));
        assert!(all.contains_key("target/big") && !all.contains_key(".git/config"));
    }

    #[test]
    fn what_cannot_be_packed_says_what_to_do() {
        let home = tempfile::tempdir().unwrap();
        let check = |expected: &str| {
            let error = pack(home.path(), false, Path::new("/no/such/data"), Vec::new()).unwrap_err();
            let chain = telemetry::field::chain(&error);
            assert!(chain.contains(expected), "{chain}");
        };
        fs::write(home.path().join(OsStr::from_bytes(b"caf\xe9")), "").unwrap();
        check("no UTF-8: rename it");
        let error = pack(Path::new("/"), false, home.path(), Vec::new()).unwrap_err();
        assert!(matches!(error, PrepareError::Machine));
    }

    #[test]
    fn a_file_that_shrinks_is_no_whole_one() {
        let mut whole = Whole { source: b"abc".as_slice(), left: 5 };
        assert!(whole.read_to_end(&mut Vec::new()).is_err());
        let mut bytes = Vec::new();
        Whole { source: b"abcde".as_slice(), left: 3 }.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, b"abc");
    }
}
