//! Unified diffs in git's format, made by the host for people, `git apply` and `patch`. Pure.

use model::id::Digest;
use similar::TextDiff;
use std::time::Duration;

/// Files above this are named, not shown.
const SHOWN_BYTES: usize = 4 << 20;
/// What is found by then is shown: still a diff, if not the shortest.
const EFFORT: Duration = Duration::from_secs(2);

/// One side of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side<'a> {
    pub bytes: &'a [u8],
    pub mode: Mode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Executable,
    /// The bytes are the link's target.
    Link,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Patch {
    pub text: String,
    pub added: u64,
    pub removed: u64,
}

/// The change of one file; empty when there is none.
#[must_use]
pub fn patch(path: &str, before: Option<Side<'_>>, after: Option<Side<'_>>) -> Patch {
    let mut patch = Patch::default();
    if before == after {
        return patch;
    }
    let (old, new) = (name("a/", path), name("b/", path));
    patch.text = format!("diff --git {old} {new}\n");
    match (before, after) {
        (None, Some(side)) => patch.text.push_str(&format!("new file mode {}\n", side.mode.octal())),
        (Some(side), None) => patch.text.push_str(&format!("deleted file mode {}\n", side.mode.octal())),
        (Some(before), Some(after)) if before.mode != after.mode => {
            patch.text.push_str(&format!(
                "old mode {}\nnew mode {}\n",
                before.mode.octal(),
                after.mode.octal()
            ));
        }
        _ => {}
    }
    patch.text.push_str(&index(before, after));
    let old = if before.is_some() { old } else { "/dev/null".to_owned() };
    let new = if after.is_some() { new } else { "/dev/null".to_owned() };
    patch.body(&old, &new, before.map_or(&[], |s| s.bytes), after.map_or(&[], |s| s.bytes));
    patch
}

impl Patch {
    fn body(&mut self, old: &str, new: &str, before: &[u8], after: &[u8]) {
        if before == after {
            return;
        }
        let (Some(before_text), Some(after_text)) = (text(before), text(after)) else {
            self.text.push_str(&format!("Binary files {old} and {new} differ\n"));
            return;
        };
        if before.len().max(after.len()) > SHOWN_BYTES {
            let (was, is) = (before.len(), after.len());
            self.text.push_str(&format!(
                "Files {old} ({was} bytes) and {new} ({is} bytes) differ; too large to show\n"
            ));
            return;
        }
        let diff = TextDiff::configure().timeout(EFFORT).diff_lines(before_text, after_text);
        for change in diff.iter_all_changes() {
            match change.tag() {
                similar::ChangeTag::Insert => self.added += 1,
                similar::ChangeTag::Delete => self.removed += 1,
                similar::ChangeTag::Equal => {}
            }
        }
        self.text.push_str(&diff.unified_diff().context_radius(3).header(old, new).to_string());
        if !self.text.ends_with('\n') {
            self.text.push('\n');
        }
    }
}

/// Git's `index` line with SHA-256 of the plain bytes, zeros for a side that is not there: whoever takes the change over
/// checks by it what it replaces and what it writes. None for a change of permissions alone.
fn index(before: Option<Side<'_>>, after: Option<Side<'_>>) -> String {
    if before.map(|side| side.bytes) == after.map(|side| side.bytes) {
        return String::new();
    }
    let hex = |side: Option<Side<'_>>| {
        side.map_or_else(|| "0".repeat(64), |s| Digest::of(s.bytes).hex().to_owned())
    };
    let mode = match (before, after) {
        (Some(old), Some(new)) if old.mode == new.mode => format!(" {}", new.mode.octal()),
        _ => String::new(),
    };
    format!("index {}..{}{mode}\n", hex(before), hex(after))
}

impl Mode {
    const fn octal(self) -> &'static str {
        match self {
            Self::Plain => "100644",
            Self::Executable => "100755",
            Self::Link => "120000",
        }
    }
}

/// As git decides it: no NUL; and UTF-8, so that it can be shown.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// Quoted as git does where a plain name would be misread.
fn name(side: &str, path: &str) -> String {
    if !path.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
        return format!("{side}{path}");
    }
    let mut quoted = format!("\"{side}");
    for c in path.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                for byte in c.to_string().bytes() {
                    quoted.push_str(&format!("\\{byte:03o}"));
                }
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_git_s() {
        let check =
            |path: &str, before: Option<(&[u8], Mode)>, after: Option<(&[u8], Mode)>, expected: &str| {
                let before = before.map(|(bytes, mode)| Side { bytes, mode });
                let after = after.map(|(bytes, mode)| Side { bytes, mode });
                let text = patch(path, before, after).text;
                let shown: String =
                    text.split_inclusive('\n').filter(|line| !line.starts_with("index ")).collect();
                assert_eq!(shown, expected, "{path}");
            };
        use Mode::{Executable, Link, Plain};
        check("same", Some((b"a", Plain)), Some((b"a", Plain)), "");
        check(
            "new",
            None,
            Some((b"a\n", Plain)),
            "diff --git a/new b/new\nnew file mode 100644\n--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+a\n",
        );
        check(
            "gone",
            Some((b"a", Plain)),
            None,
            "diff --git a/gone b/gone\ndeleted file mode 100644\n--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n\\ No newline at end of file\n",
        );
        check(
            "m",
            Some((b"a", Plain)),
            Some((b"a", Executable)),
            "diff --git a/m b/m\nold mode 100644\nnew mode 100755\n",
        );
        check(
            "bin",
            None,
            Some((b"\0", Plain)),
            "diff --git a/bin b/bin\nnew file mode 100644\nBinary files /dev/null and b/bin differ\n",
        );
        check(
            "q\"\n",
            None,
            Some((b"t", Link)),
            "diff --git \"a/q\\\"\\n\" \"b/q\\\"\\n\"\nnew file mode 120000\n--- /dev/null\n+++ \"b/q\\\"\\n\"\n@@ -0,0 +1 @@\n+t\n\\ No newline at end of file\n",
        );
    }

    #[test]
    fn both_sides_are_named_by_their_digests() {
        let side = |bytes, mode| Some(Side { bytes, mode });
        let line =
            |before, after| patch("f", before, after).text.lines().nth(1).unwrap_or_default().to_owned();
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let changed = line(side(b"a".as_slice(), Mode::Plain), side(b"b".as_slice(), Mode::Plain));
        assert_eq!(changed, format!("index {}..{} 100644", a.hex(), b.hex()));
        let text = patch("f", None, side(b"".as_slice(), Mode::Plain)).text;
        assert!(text.ends_with(&format!("index {}..{}\n", "0".repeat(64), Digest::of(b"").hex())), "{text}");
        let mode =
            patch("f", side(b"a".as_slice(), Mode::Plain), side(b"a".as_slice(), Mode::Executable)).text;
        assert!(!mode.contains("index"), "{mode}");
    }

    #[test]
    fn lines_are_counted() {
        let side = |bytes| Some(Side { bytes, mode: Mode::Plain });
        let patch = patch("f", side(b"a\nb\nc\n"), side(b"a\nx\ny\nc\n"));
        assert_eq!((patch.added, patch.removed), (2, 1));
    }
}
