//! Which files a session's diff is about, and their digests.
//!
//! The form is git's (`git-diff(1)`, "generating patch text with -p"), with the SHA-256 of the plain bytes in each
//! `index` line. Only headers are read: contents are fetched whole and checked against the digest.

use model::id::Digest;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Relative to the workspace.
    pub(crate) path: String,
    pub(crate) content: Content,
}

impl Change {
    /// Whether the file is not there afterwards.
    pub(crate) fn goes(&self) -> bool {
        matches!(self.content, Content::Deleted { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Written {
        before: Option<Digest>,
        after: Digest,
        /// `None` where it stays as it is.
        executable: Option<bool>,
    },
    /// Permissions alone.
    Executable(bool),
    Deleted {
        before: Digest,
    },
    /// A link or something special.
    NotAFile,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the diff cannot be read at line {line}: {what}")]
pub(crate) struct NotADiff {
    pub(crate) line: usize,
    pub(crate) what: &'static str,
}

#[derive(Debug, Default)]
struct Header {
    line: usize,
    path: String,
    before: Option<Digest>,
    after: Option<Digest>,
    has_index: bool,
    /// Something says that the content changed.
    changes_content: bool,
    executable: Option<bool>,
    not_a_file: bool,
}

/// What comes after a file's header.
const CONTENT: [&str; 3] = ["@@ ", "Binary files ", "Files "];

/// # Errors
/// When a file's header is not of the form described above.
pub(crate) fn parse(diff: &str) -> Result<Vec<Change>, NotADiff> {
    let mut changes = Vec::new();
    let mut open: Option<Header> = None;
    let mut in_header = false;
    for (number, line) in diff.split('\n').enumerate() {
        let number = number + 1;
        if let Some(rest) = line.strip_prefix("diff --git ") {
            changes.extend(open.take().map(finish).transpose()?.flatten());
            let path = path(rest).ok_or(NotADiff { line: number, what: "no path" })?;
            open = Some(Header { line: number, path, ..Header::default() });
            in_header = true;
        } else if in_header && CONTENT.iter().any(|start| line.starts_with(start)) {
            in_header = false;
            open.iter_mut().for_each(|header| header.changes_content = true);
        } else if let (true, Some(header)) = (in_header, &mut open) {
            read_header(header, line).map_err(|what| NotADiff { line: number, what })?;
        }
    }
    changes.extend(open.map(finish).transpose()?.flatten());
    Ok(changes)
}

fn read_header(header: &mut Header, line: &str) -> Result<(), &'static str> {
    if let Some(rest) = line.strip_prefix("index ") {
        let digests = rest.split(' ').next().unwrap_or_default();
        let (before, after) = digests.split_once("..").ok_or("an index line without two digests")?;
        header.before = digest(before)?;
        header.after = digest(after)?;
        header.has_index = true;
        if let Some(mode) = rest.split(' ').nth(1) {
            note_kind(header, mode);
        }
    } else if let Some(mode) = line.strip_prefix("new file mode ").or_else(|| line.strip_prefix("new mode "))
    {
        note_kind(header, mode);
        header.executable = Some(mode == "100755");
    } else if let Some(mode) =
        line.strip_prefix("deleted file mode ").or_else(|| line.strip_prefix("old mode "))
    {
        note_kind(header, mode);
    }
    Ok(())
}

fn note_kind(header: &mut Header, mode: &str) {
    header.not_a_file |= !mode.starts_with("100");
}

fn digest(hex: &str) -> Result<Option<Digest>, &'static str> {
    if !hex.is_empty() && hex.bytes().all(|b| b == b'0') {
        return Ok(None);
    }
    format!("sha256:{hex}").parse().map(Some).map_err(|_| "an index line without SHA-256 digests")
}

/// `None` for a header that says of no change.
fn finish(header: Header) -> Result<Option<Change>, NotADiff> {
    let Header { line, path, before, after, has_index, changes_content, executable, not_a_file } = header;
    let content = match (before, after) {
        _ if not_a_file => Content::NotAFile,
        _ if changes_content && !has_index => {
            return Err(NotADiff { line, what: "a change without digests" });
        }
        (before, Some(after)) => Content::Written { before, after, executable },
        (Some(before), None) => Content::Deleted { before },
        (None, None) if !has_index => match executable {
            Some(executable) => Content::Executable(executable),
            None => return Ok(None),
        },
        (None, None) => return Err(NotADiff { line, what: "a file that is on neither side" }),
    };
    Ok(Some(Change { path, content }))
}

/// The path of `a/PATH b/PATH`, quoted or not. Both sides are the same: renames are told as two changes.
fn path(sides: &str) -> Option<String> {
    if sides.starts_with('"') {
        let (first, _) = unquote(sides)?;
        return first.strip_prefix("a/").map(str::to_owned);
    }
    let length = sides.len().checked_sub("a/ b/".len())? / 2;
    let name = sides.strip_prefix("a/")?.get(..length)?;
    (sides == format!("a/{name} b/{name}")).then(|| name.to_owned())
}

/// A C-quoted string at the start of `text`, and what follows it. Escapes: `\"`, `\\`, `\n`, `\t`, `\r` and friends, and
/// three octal digits for a byte.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut bytes = Vec::new();
    let mut rest = text.strip_prefix('"')?.bytes().enumerate();
    while let Some((at, byte)) = rest.next() {
        match byte {
            b'"' => return Some((String::from_utf8(bytes).ok()?, text.get(at + 2..)?)),
            b'\\' => bytes.push(unescape(&mut rest)?),
            byte => bytes.push(byte),
        }
    }
    None
}

fn unescape(rest: &mut impl Iterator<Item = (usize, u8)>) -> Option<u8> {
    let mut next = || rest.next().map(|(_, byte)| byte);
    Some(match next()? {
        b'a' => 7,
        b'b' => 8,
        b't' => b'\t',
        b'n' => b'\n',
        b'v' => 11,
        b'f' => 12,
        b'r' => b'\r',
        first @ b'0'..=b'3' => {
            let mut digit = || next().filter(|d| (b'0'..=b'7').contains(d)).map(|d| d - b'0');
            let (high, low) = (digit()?, digit()?);
            (first - b'0') << 6 | high << 3 | low
        }
        other @ (b'"' | b'\\') => other,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const Z: &str = "0000000000000000000000000000000000000000000000000000000000000000";

    fn check(diff: &str, expected: &[(&str, Content)]) {
        let expected: Vec<Change> = expected
            .iter()
            .map(|(path, content)| Change { path: (*path).to_owned(), content: content.clone() })
            .collect();
        assert_eq!(parse(diff).unwrap(), expected, "{diff}");
    }

    fn a() -> Digest {
        format!("sha256:{A}").parse().unwrap()
    }

    #[test]
    fn headers_say_what_changed() {
        check("", &[]);
        check(
            &format!(
                "diff --git a/x y b/x y\nindex {A}..{A} 100644\n--- a/x y\n+++ b/x y\n@@ -1 +1 @@\n-diff --git a/q b/q\n+index 1..2\n"
            ),
            &[("x y", Content::Written { before: Some(a()), after: a(), executable: None })],
        );
        check(
            &format!(
                "diff --git a/new b/new\nnew file mode 100755\nindex {Z}..{A}\ndiff --git a/old b/old\ndeleted file mode 100644\nindex {A}..{Z}\n"
            ),
            &[
                ("new", Content::Written { before: None, after: a(), executable: Some(true) }),
                ("old", Content::Deleted { before: a() }),
            ],
        );
        check(
            &format!("diff --git a/l b/l\nnew file mode 120000\nindex {Z}..{A}\n"),
            &[("l", Content::NotAFile)],
        );
        check("diff --git a/m b/m\n", &[]);
        check("diff --git a/m b/m\nold mode 100644\nnew mode 100755\n", &[("m", Content::Executable(true))]);
        check(
            &format!(
                "diff --git a/m b/m\nold mode 100755\nnew mode 100644\nindex {A}..{A}\n@@ -1 +1 @@\n-a\n+b\n"
            ),
            &[("m", Content::Written { before: Some(a()), after: a(), executable: Some(false) })],
        );
        check("diff --git a/m b/m\nold mode 120000\nnew mode 100755\n", &[("m", Content::NotAFile)]);
        check(
            &format!("diff --git \"a/\\303\\274\\n\\\"\" \"b/\\303\\274\\n\\\"\"\nindex {Z}..{A}\n"),
            &[("ü\n\"", Content::Written { before: None, after: a(), executable: None })],
        );
    }

    #[test]
    fn what_is_no_such_diff_is_refused() {
        let check = |diff: &str, line: usize| assert_eq!(parse(diff).unwrap_err().line, line, "{diff}");
        check("diff --git a/x b/y\n", 1);
        check("diff --git a/x b/x\nindex 12..34\n", 2);
        check(&format!("diff --git a/x b/x\nindex {Z}..{Z}\n"), 1);
        check("diff --git \"a/x\n", 1);
        check("diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", 1);
        check("diff --git a/x b/x\nBinary files a/x and b/x differ\n", 1);
    }
}
