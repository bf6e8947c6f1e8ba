//! A scalar of a flattened answer.

use alloc::{borrow::Cow, string::String};

#[derive(Debug, Clone, Copy)]
pub struct Leaf<'a> {
    /// RFC 6901.
    pub pointer: &'a str,
    /// JSON text of the scalar, or `[]` or `{}`.
    pub json: &'a str,
}

/// A JSON string's content (RFC 8259, section 7); any other value as it is written.
pub(crate) fn text(json: &str) -> Cow<'_, str> {
    let json = json.trim();
    let Some(inner) = json.strip_prefix('"').and_then(|j| j.strip_suffix('"')) else {
        return Cow::Borrowed(json);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(escaped(&mut chars)),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

fn escaped(chars: &mut core::str::Chars<'_>) -> char {
    match chars.next() {
        Some('n') => '\n',
        Some('t') => '\t',
        Some('r') => '\r',
        Some('b') => '\u{8}',
        Some('f') => '\u{c}',
        Some('u') => match unit(chars) {
            high @ 0xd800..0xdc00 => {
                let low = if chars.as_str().starts_with("\\u") {
                    chars.nth(1).map_or(0, |_| unit(chars))
                } else {
                    0
                };
                let pair = 0x10000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff);
                char::from_u32(pair)
                    .filter(|_| (0xdc00..0xe000).contains(&low))
                    .unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            unit => char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER),
        },
        Some(plain) => plain,
        None => char::REPLACEMENT_CHARACTER,
    }
}

fn unit(chars: &mut core::str::Chars<'_>) -> u32 {
    (0..4).fold(0, |sum, _| (sum << 4) | chars.next().and_then(|c| c.to_digit(16)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_strings_become_text() {
        let check = |json: &str, expected: &str| assert_eq!(text(json), expected, "{json}");
        check(r#""plain""#, "plain");
        check(r#""a\nb\t\"c\"\\ \/""#, "a\nb\t\"c\"\\ /");
        check(r#""\u00e9 \ud83d\ude00""#, "é 😀");
        check(r#""\ud83d!""#, "\u{fffd}!");
        check("12.5", "12.5");
        check("true", "true");
        check("[]", "[]");
        check("\"", "\"");
    }
}
