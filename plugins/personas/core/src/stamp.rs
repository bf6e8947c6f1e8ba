//! What is stamped in, and its form: parts, each a little-endian `u32` length and that many bytes of UTF-8; a list is a
//! part that holds parts.

use crate::rule::Rule;
use alloc::vec::Vec;

/// Marks the slot in the core's data.
pub const MAGIC: [u8; 16] = *b"vteam-persona-01";

/// Everything that makes one persona.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The manifest's body, JSON.
    pub describe: &'a str,
    pub system_prompt: &'a str,
    /// With `{task}` and `{context}`.
    pub analysis_prompt: &'a str,
    /// JSON Schema.
    pub answer_schema: &'a str,
    pub rules: Vec<Rule<'a>>,
}

impl<'a> Stamp<'a> {
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for text in [self.describe, self.system_prompt, self.analysis_prompt, self.answer_schema] {
            push(&mut out, text.as_bytes());
        }
        let rules: Vec<Vec<u8>> = self.rules.iter().map(Rule::pack).collect();
        push(&mut out, &list(rules.iter().map(Vec::as_slice)));
        out
    }

    /// `None` for bytes that `pack` did not make.
    #[must_use]
    pub fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let mut parts = Parts(bytes);
        let stamp = Self {
            describe: parts.text()?,
            system_prompt: parts.text()?,
            analysis_prompt: parts.text()?,
            answer_schema: parts.text()?,
            rules: Parts(parts.next()?).map(Rule::unpack).collect::<Option<_>>()?,
        };
        Some(stamp)
    }
}

/// Reads parts, one after the other.
pub(crate) struct Parts<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (part, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(part)
    }
}

impl<'a> Parts<'a> {
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        core::str::from_utf8(self.next()?).ok()
    }
}

pub(crate) fn push(out: &mut Vec<u8>, part: &[u8]) {
    // A part is a text of one Markdown file, far below 4 GiB; a cut one would not unpack.
    out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(part);
}

pub(crate) fn list<'p>(parts: impl Iterator<Item = &'p [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    parts.for_each(|part| push(&mut out, part));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::{Check, When};

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else_is() {
        let stamp = Stamp {
            describe: "{}",
            system_prompt: "You are …",
            analysis_prompt: "",
            answer_schema: "{\"type\":\"object\"}",
            rules: vec![
                Rule { pointer: "/a", check: Check::MinItems(2), when: None, say: "two" },
                Rule {
                    pointer: "/b/*",
                    check: Check::Contains(vec!["x", ""]),
                    when: Some(When { pointer: "/c", is: vec!["HIGH"] }),
                    say: "",
                },
            ],
        };
        let bytes = stamp.pack();
        assert_eq!(Stamp::unpack(&bytes), Some(stamp));
        for end in 0..bytes.len() {
            assert_eq!(Stamp::unpack(&bytes[..end]), None, "cut at {end}");
        }
    }
}
