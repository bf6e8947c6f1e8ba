//! The judge's rules: a small closed language over the flattened answer.
//!
//! A pointer is an RFC 6901 pointer in which a part `*` stands for any one part.

use crate::{
    leaf::{Leaf, text},
    stamp::{Parts, list, push},
};
use alloc::{borrow::ToOwned, string::String, vec::Vec};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule<'a> {
    pub pointer: &'a str,
    pub check: Check<'a>,
    /// Only then does the rule count.
    pub when: Option<When<'a>>,
    /// What the model is told when it does not hold.
    pub say: &'a str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check<'a> {
    /// The array at the pointer has at least so many items.
    MinItems(u32),
    /// Each text at the pointer has at least so many characters.
    MinLength(u32),
    /// Some text at or below the pointer contains one of these, whatever the case.
    Contains(Vec<&'a str>),
    /// No text at or below the pointer contains one of these, whatever the case.
    Excludes(Vec<&'a str>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When<'a> {
    pub pointer: &'a str,
    /// The value there is one of these.
    pub is: Vec<&'a str>,
}

/// What each broken rule says, in order and each once.
#[must_use]
pub fn judge(rules: &[Rule<'_>], answer: &[Leaf<'_>]) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for rule in rules.iter().filter(|r| r.counts(answer) && !r.holds(answer)) {
        if !reasons.iter().any(|said| said == rule.say) {
            reasons.push(rule.say.to_owned());
        }
    }
    reasons
}

impl<'a> Rule<'a> {
    fn counts(&self, answer: &[Leaf<'_>]) -> bool {
        self.when.as_ref().is_none_or(|when| {
            answer.iter().any(|l| {
                fits(when.pointer, l.pointer) == Some("") && when.is.contains(&text(l.json).as_ref())
            })
        })
    }

    fn holds(&self, answer: &[Leaf<'_>]) -> bool {
        let below =
            || answer.iter().filter(|l| fits(self.pointer, l.pointer).is_some()).map(|l| text(l.json));
        match &self.check {
            Check::MinItems(n) => items(self.pointer, answer) >= *n as usize,
            Check::MinLength(n) => {
                let mut at = answer.iter().filter(|l| fits(self.pointer, l.pointer) == Some("")).peekable();
                let expected = at.peek().is_some() || self.pointer.contains('*');
                expected && at.all(|l| text(l.json).trim().chars().count() >= *n as usize)
            }
            Check::Contains(words) => below().any(|t| mentions(&t, words)),
            Check::Excludes(words) => !below().any(|t| mentions(&t, words)),
        }
    }

    pub(crate) fn pack(&self) -> Vec<u8> {
        let (check, number, words): (&str, u32, &[&str]) = match &self.check {
            Check::MinItems(n) => ("minItems", *n, &[]),
            Check::MinLength(n) => ("minLength", *n, &[]),
            Check::Contains(words) => ("contains", 0, words),
            Check::Excludes(words) => ("excludes", 0, words),
        };
        let (when, is): (&str, &[&str]) = self.when.as_ref().map_or(("", &[]), |w| (w.pointer, &w.is));
        let texts = |t: &[&str]| list(t.iter().map(|t| t.as_bytes()));
        let mut out = Vec::new();
        push(&mut out, self.pointer.as_bytes());
        push(&mut out, check.as_bytes());
        push(&mut out, &number.to_le_bytes());
        push(&mut out, &texts(words));
        push(&mut out, when.as_bytes());
        push(&mut out, &texts(is));
        push(&mut out, self.say.as_bytes());
        out
    }

    pub(crate) fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let texts =
            |bytes: &'a [u8]| Parts(bytes).map(|t| core::str::from_utf8(t).ok()).collect::<Option<Vec<_>>>();
        let mut parts = Parts(bytes);
        let pointer = parts.text()?;
        let check = parts.text()?;
        let number = u32::from_le_bytes(parts.next()?.try_into().ok()?);
        let words = texts(parts.next()?)?;
        let check = match check {
            "minItems" => Check::MinItems(number),
            "minLength" => Check::MinLength(number),
            "contains" => Check::Contains(words),
            "excludes" => Check::Excludes(words),
            _ => return None,
        };
        let when = parts.text()?;
        let is = texts(parts.next()?)?;
        let when = (!when.is_empty()).then_some(When { pointer: when, is });
        Some(Self { pointer, check, when, say: parts.text()? })
    }
}

/// What is left of `pointer` below the pattern: empty when it is that very place, `None` when it lies elsewhere.
fn fits<'p>(pattern: &str, pointer: &'p str) -> Option<&'p str> {
    let mut rest = pointer;
    for part in pattern.split('/').skip(1) {
        let inside = rest.strip_prefix('/')?;
        let end = inside.find('/').unwrap_or(inside.len());
        if part != "*" && inside.get(..end)? != part {
            return None;
        }
        rest = inside.get(end..)?;
    }
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// Items of the array there. In a flattened answer they are the distinct parts that follow.
fn items(pattern: &str, answer: &[Leaf<'_>]) -> usize {
    let mut seen: Vec<&str> = Vec::new();
    for rest in answer.iter().filter_map(|l| fits(pattern, l.pointer)) {
        if let Some(item) = rest.strip_prefix('/').and_then(|r| r.split('/').next())
            && !seen.contains(&item)
        {
            seen.push(item);
        }
    }
    seen.len()
}

fn mentions(text: &str, words: &[&str]) -> bool {
    words.iter().any(|w| {
        w.is_empty() || text.as_bytes().windows(w.len()).any(|part| part.eq_ignore_ascii_case(w.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: [(&str, &str); 9] = [
        ("/analysis", "\"  a caf\\u00e9 \""),
        ("/concerns", "[]"),
        ("/risks/0", "\"data loss\""),
        ("/risks/1", "\"ok\""),
        ("/level", "\"HIGH\""),
        ("/own/steps/0/name", "\"Roll back\""),
        ("/own/steps/0/days", "3"),
        ("/own/steps/1/name", "\"x\""),
        ("/risksOther", "\"ignored\""),
    ];

    #[test]
    fn rules_hold_or_say_why() {
        let leaves: Vec<Leaf<'_>> = ANSWER.iter().map(|(pointer, json)| Leaf { pointer, json }).collect();
        let check = |pointer: &str, check: Check<'_>, when: Option<(&str, &str)>, holds: bool| {
            let when = when.map(|(pointer, is)| When { pointer, is: vec![is] });
            let rule = Rule { pointer, check: check.clone(), when, say: "no" };
            assert_eq!(judge(&[rule.clone(), rule], &leaves).is_empty(), holds, "{pointer} {check:?}");
        };
        check("/risks", Check::MinItems(2), None, true);
        check("/risks", Check::MinItems(3), None, false);
        check("/concerns", Check::MinItems(1), None, false);
        check("/absent", Check::MinItems(1), None, false);
        check("/own/steps", Check::MinItems(2), None, true);
        check("/own/*", Check::MinItems(2), None, true);
        check("/analysis", Check::MinLength(6), None, true);
        check("/analysis", Check::MinLength(7), None, false);
        check("/absent", Check::MinLength(1), None, false);
        check("/risks/*", Check::MinLength(2), None, true);
        check("/risks/*", Check::MinLength(3), None, false);
        check("/concerns/*", Check::MinLength(3), None, true);
        check("/own", Check::Contains(vec!["ROLL BACK"]), None, true);
        check("/risks", Check::Contains(vec!["ignored"]), None, false);
        check("/risks", Check::Excludes(vec!["ok"]), None, false);
        check("/risks", Check::Excludes(vec!["nope"]), None, true);
        check("/risks", Check::MinItems(3), Some(("/level", "HIGH")), false);
        check("/risks", Check::MinItems(3), Some(("/level", "LOW")), true);
        check("/risks", Check::MinItems(3), Some(("/absent", "LOW")), true);
    }

    #[test]
    fn a_reason_is_given_once() {
        let rule = Rule { pointer: "/x", check: Check::MinItems(1), when: None, say: "no" };
        assert_eq!(judge(&[rule.clone(), rule], &[]), ["no"]);
    }
}
