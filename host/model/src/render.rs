//! The only way out for [`Untrusted`] text: each function makes it harmless for one kind of reader.
//!
//! Control characters, bidirectional overrides and zero-width characters are made visible, never dropped: a reader must
//! see that something was there (Trojan Source, CVE-2021-42574; terminal escapes, ECMA-48).

use crate::Untrusted;

/// For a terminal, many lines: newlines and tabs stay, everything else that does not print is shown as `\u{..}`.
#[must_use]
pub fn terminal(text: &Untrusted) -> String {
    visible(text.raw(), |c| c == '\n' || c == '\t')
}

/// For a log line, a table cell, a metric label or a Kubernetes message field: one line, at most `max` characters.
/// A cut is marked with `…`.
#[must_use]
pub fn line(text: &Untrusted, max: usize) -> String {
    let shown = visible(text.raw(), |_| false);
    if shown.chars().count() <= max {
        return shown;
    }
    shown.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

/// For an HTML text node or a quoted attribute.
#[must_use]
pub fn html(text: &Untrusted) -> String {
    let mut out = String::with_capacity(text.len());
    for c in terminal(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Command line as a person would type it: each argument quoted where a POSIX shell would need it. Never cut.
#[must_use]
pub fn argv(arguments: &[Untrusted]) -> String {
    arguments.iter().map(argument).collect::<Vec<_>>().join(" ")
}

fn argument(text: &Untrusted) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !text.is_empty() && text.raw().chars().all(plain) {
        return text.raw().to_owned();
    }
    format!("'{}'", terminal(text).replace('\'', "'\\''"))
}

fn visible(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if keep(c) => out.push(c),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if hidden(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// Controls (Cc), format characters that hide or reorder (Cf), separators that break lines, tags and fillers.
fn hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_active_or_hidden_survives() {
        let check = |raw: &str, shown: &str| assert_eq!(terminal(&raw.into()), shown, "{raw:?}");
        check("plain\n\ttext ü 漢", "plain\n\ttext ü 漢");
        check("\u{1b}[2Jgone", "\\u{1b}[2Jgone");
        check("a\rb", "a\\rb");
        check("\u{9b}31m", "\\u{9b}31m");
        check("x\u{202e}evil\u{200b}", "x\\u{202e}evil\\u{200b}");
        assert_eq!(line(&"a\nb".into(), 10), "a\\nb");
        assert_eq!(line(&"abcdef".into(), 4), "abc…");
        assert_eq!(html(&"<b a='\"'>&".into()), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(argv(&["git".into(), "a b".into(), "it's".into(), "".into()]), "git 'a b' 'it'\\''s' ''");
    }
}
