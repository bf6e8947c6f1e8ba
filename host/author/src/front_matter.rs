//! The head of a Markdown persona: `key: value` lines between two lines `---`.
//!
//! It looks like YAML and is read line by line, because people write descriptions with colons in them. A value is the
//! rest of its line, a list in brackets, or indented lines below: items that begin with `-`, or text that goes on.

use crate::persona::Mistake;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    /// From 1.
    pub(crate) line: usize,
    pub(crate) value: Value<'a>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Text(String),
    List(Vec<Item<'a>>),
}

/// One item of a list: the text after its dash, and further lines below it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Item<'a> {
    pub(crate) line: usize,
    pub(crate) lines: Vec<(usize, &'a str)>,
}

/// The entries, and the body with the number of its first line.
pub(crate) fn split(markdown: &str) -> Result<(Vec<Entry<'_>>, usize, Vec<&str>), Mistake> {
    let lines: Vec<&str> = markdown.lines().collect();
    let Some((_, rest)) = lines.split_first().filter(|(first, _)| first.trim_end() == "---") else {
        return Err(Mistake::new(1, "a persona begins with a line '---' and its front matter"));
    };
    let Some(end) = rest.iter().position(|l| l.trim_end() == "---") else {
        return Err(Mistake::new(1, "the front matter has no second line '---' that ends it"));
    };
    let (head, body) = rest.split_at(end);
    Ok((entries(head)?, end + 3, body.iter().skip(1).copied().collect()))
}

fn entries<'a>(head: &[&'a str]) -> Result<Vec<Entry<'a>>, Mistake> {
    let mut entries: Vec<Entry<'a>> = Vec::new();
    for (index, raw) in head.iter().enumerate() {
        let (line, text) = (index + 2, raw.trim());
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let indented = raw.starts_with([' ', '\t']) || text.starts_with("- ");
        match entries.last_mut() {
            Some(open) if indented => go_on(open, line, text),
            None if indented => {
                return Err(Mistake::new(line, "an indented line has to follow a 'key:' line"));
            }
            _ => {
                let entry = begin(line, text)?;
                if entries.iter().any(|e| e.key == entry.key) {
                    return Err(Mistake::new(line, format!("'{}' is given twice", entry.key)));
                }
                entries.push(entry);
            }
        }
    }
    Ok(entries)
}

fn begin(line: usize, text: &str) -> Result<Entry<'_>, Mistake> {
    let Some((key, value)) = pair(text) else {
        return Err(Mistake::new(line, format!("expected 'key: value', found {text:?}")));
    };
    let value = match value.strip_prefix('[').and_then(|v| v.strip_suffix(']')) {
        Some(inner) => Value::List(inline(line, inner)),
        None if value == ">" || value == "|" => Value::Text(String::new()),
        None => Value::Text(unquoted(value).to_owned()),
    };
    Ok(Entry { key, line, value })
}

fn go_on<'a>(open: &mut Entry<'a>, line: usize, text: &'a str) {
    let item = text.strip_prefix("- ").map(str::trim_start);
    match (&mut open.value, item) {
        (Value::Text(value), Some(item)) if value.is_empty() => {
            open.value = Value::List(vec![Item { line, lines: vec![(line, item)] }]);
        }
        (Value::Text(value), _) => {
            if !value.is_empty() {
                value.push(' ');
            }
            value.push_str(text);
        }
        (Value::List(items), Some(item)) => items.push(Item { line, lines: vec![(line, item)] }),
        (Value::List(items), None) => {
            items.iter_mut().last().into_iter().for_each(|i| i.lines.push((line, text)))
        }
    }
}

fn inline(line: usize, inner: &str) -> Vec<Item<'_>> {
    let items = inner.split(',').map(str::trim).filter(|i| !i.is_empty());
    items.map(|item| Item { line, lines: vec![(line, item)] }).collect()
}

/// `key: value`, where the key is a plain word.
pub(crate) fn pair(text: &str) -> Option<(&str, &str)> {
    let (key, value) = text.split_once(':')?;
    let word = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    word.then_some((key, value.trim()))
}

/// The words of a list in brackets or of a text with commas.
pub(crate) fn words(text: &str) -> Vec<&str> {
    let inner = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    inner.split(',').map(|w| unquoted(w.trim())).filter(|w| !w.is_empty()).collect()
}

pub(crate) fn unquoted(text: &str) -> &str {
    let inner = |q: char| text.strip_prefix(q)?.strip_suffix(q);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

impl Item<'_> {
    pub(crate) fn text(&self) -> String {
        let lines: Vec<&str> = self.lines.iter().map(|(_, l)| *l).collect();
        unquoted(&lines.join(" ")).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_line_by_line() {
        let (entries, first, body) = split(
            "---\nname: Stella\ndescription: Use her: early, and \"often\"\n# note\nlong: >\n  one\n  two: three\n\
             tools: [Read, 'Grep']\nlist:\n  - a: 1\n    b: 2\n- c\n---\n\nBody\n",
        )
        .unwrap();
        let text = |t: &str| Value::Text(t.to_owned());
        let item = |line, lines: &[(usize, &'static str)]| Item { line, lines: lines.to_vec() };
        let expected = [
            ("name", 2, text("Stella")),
            ("description", 3, text("Use her: early, and \"often\"")),
            ("long", 5, text("one two: three")),
            ("tools", 8, Value::List(vec![item(8, &[(8, "Read")]), item(8, &[(8, "'Grep'")])])),
            ("list", 9, Value::List(vec![item(10, &[(10, "a: 1"), (11, "b: 2")]), item(12, &[(12, "c")])])),
        ];
        let expected: Vec<Entry<'_>> =
            expected.into_iter().map(|(key, line, value)| Entry { key, line, value }).collect();
        assert_eq!((entries, first, body), (expected, 14, vec!["", "Body"]));
    }

    #[test]
    fn a_broken_head_is_named_by_its_line() {
        let check = |markdown: &str, line: usize, part: &str| {
            let mistake = split(markdown).unwrap_err();
            assert_eq!(mistake.line, line, "{mistake}");
            assert!(mistake.message.contains(part), "{mistake}");
        };
        check("", 1, "begins with");
        check("# Title", 1, "begins with");
        check("---\nname: x", 1, "second line");
        check("---\nname x\n---", 2, "expected 'key: value'");
        check("---\n  - x\n---", 2, "has to follow");
        check("---\na: 1\na: 2\n---", 3, "twice");
    }
}
