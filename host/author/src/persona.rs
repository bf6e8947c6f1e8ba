//! A persona as its author writes it, checked, and stamped into the core.

use crate::{
    answer::{self, Field, FieldKind},
    component::{self, BuildError},
    front_matter::{self, Entry, Item, Value, pair, unquoted, words},
    sections::{self, Prompts},
    slot,
};
use manifest::{FORMAT, Kind, Manifest};
use model::id::{PersonaKey, PluginId, ToolName};
use persona_core::{
    rule::{Check, Rule, When},
    stamp::Stamp,
};
use std::{fmt, str::FromStr};

/// What is wrong with a Markdown persona, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct Mistake {
    /// From 1.
    pub line: usize,
    pub message: String,
}

impl Mistake {
    pub(crate) fn new(line: usize, message: impl fmt::Display) -> Self {
        Self { line, message: message.to_string() }
    }
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum StampError {
    /// The author has to mend the Markdown.
    #[error(transparent)]
    Markdown(#[from] Mistake),
    /// The core is not the one that this crate knows.
    #[error("the persona core cannot be stamped")]
    Core(#[from] slot::NoSlot),
    #[error("the persona core cannot be made a component")]
    Encode(#[from] BuildError),
}

/// Makes a component of the prebuilt core and a Markdown persona. It has no manifest yet: see [`crate::finish`].
///
/// # Errors
/// When the Markdown is not a persona, or the core is not ours.
pub fn stamp(core: &[u8], markdown: &str) -> Result<Vec<u8>, StampError> {
    let persona = Persona::parse(markdown)?;
    let schema = answer::schema(persona.key.as_str(), &persona.own, &persona.fields);
    let describe = serde_json::to_string(&persona.manifest(schema.clone())).unwrap_or_default();
    let stamp = Stamp {
        describe: &describe,
        system_prompt: &persona.prompts.system,
        analysis_prompt: &persona.prompts.analysis,
        answer_schema: &schema.to_string(),
        rules: persona.rules.iter().map(OwnedRule::borrow).collect(),
    };
    Ok(component::encode(&slot::fill(core, &stamp.pack())?)?)
}

#[derive(Debug)]
struct Persona {
    id: PluginId,
    version: String,
    key: PersonaKey,
    name: String,
    role: String,
    description: String,
    expertise: Vec<String>,
    tools: Option<Vec<ToolName>>,
    /// Name and fields of the role's own object.
    own: String,
    fields: Vec<Field>,
    rules: Vec<OwnedRule>,
    prompts: Prompts,
}

const KEYS: [&str; 11] = [
    "id",
    "version",
    "key",
    "name",
    "role",
    "description",
    "expertise",
    "tools",
    "answer",
    "fields",
    "judge",
];

impl Persona {
    fn parse(markdown: &str) -> Result<Self, Mistake> {
        let (entries, first, body) = front_matter::split(markdown)?;
        if let Some(odd) = entries.iter().find(|e| !KEYS.contains(&e.key)) {
            return Err(Mistake::new(odd.line, format!("'{}' is none of {}", odd.key, KEYS.join(", "))));
        }
        let head = Head { entries };
        let own = head.text("answer")?;
        if answer::is_shared(&own.0) || pair(&format!("{}:", own.0)).is_none() {
            return Err(Mistake::new(
                own.1,
                "'answer' names the role's own object: one word that no other field has",
            ));
        }
        let fields = head.items("fields").iter().map(field).collect::<Result<Vec<_>, _>>()?;
        if fields.is_empty() {
            return Err(Mistake::new(own.1, format!("'fields' has to list what '{}' holds", own.0)));
        }
        let rules =
            head.items("judge").iter().map(|item| rule(item, &own.0, &fields)).collect::<Result<_, _>>()?;
        Ok(Self {
            id: head.id("id")?,
            version: head.text("version")?.0,
            key: head.id("key")?,
            name: head.text("name")?.0,
            role: head.text("role")?.0,
            description: head.text("description")?.0,
            expertise: head.list("expertise").unwrap_or_default().into_iter().map(|(_, text)| text).collect(),
            tools: head.tools()?,
            own: own.0,
            fields,
            rules,
            prompts: sections::prompts(first, &body)?,
        })
    }

    fn manifest(&self, answer_schema: serde_json::Value) -> Manifest {
        Manifest {
            manifest: FORMAT,
            id: self.id.clone(),
            version: self.version.clone(),
            kind: Kind::Persona,
            description: self.description.clone(),
            tools: Vec::new(),
            persona: Some(manifest::Persona {
                key: self.key.clone(),
                name: self.name.clone(),
                role: self.role.clone(),
                expertise: self.expertise.clone(),
                tools: self.tools.clone(),
                answer_schema,
            }),
            asks: Vec::new(),
            settings: None,
            limits: None,
        }
    }
}

/// Entries of the front matter by name.
struct Head<'a> {
    entries: Vec<Entry<'a>>,
}

impl Head<'_> {
    fn get(&self, key: &str) -> Option<&Entry<'_>> {
        self.entries.iter().find(|e| e.key == key)
    }

    /// A text that has to be there, and its line.
    fn text(&self, key: &str) -> Result<(String, usize), Mistake> {
        match self.get(key) {
            Some(Entry { value: Value::Text(text), line, .. }) if !text.is_empty() => {
                Ok((text.clone(), *line))
            }
            Some(entry) => Err(Mistake::new(entry.line, format!("'{key}' has to be a text"))),
            None => Err(Mistake::new(1, format!("the front matter lacks '{key}'"))),
        }
    }

    fn id<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<T, Mistake> {
        let (text, line) = self.text(key)?;
        text.parse().map_err(|error| Mistake::new(line, format!("{text:?}: {error}")))
    }

    /// A list, or a text with commas: `Read, Grep`.
    fn list(&self, key: &str) -> Option<Vec<(usize, String)>> {
        Some(match self.get(key)? {
            Entry { value: Value::Text(text), line, .. } => {
                words(text).iter().map(|w| (*line, (*w).to_owned())).collect()
            }
            Entry { value: Value::List(items), .. } => items.iter().map(|i| (i.line, i.text())).collect(),
        })
    }

    fn items(&self, key: &str) -> &[Item<'_>] {
        match self.get(key) {
            Some(Entry { value: Value::List(items), .. }) => items,
            _ => &[],
        }
    }

    fn tools(&self) -> Result<Option<Vec<ToolName>>, Mistake> {
        let parse = |(line, name): (usize, String)| {
            name.parse().map_err(|error| Mistake::new(line, format!("{name:?}: {error}")))
        };
        self.list("tools").map(|names| names.into_iter().map(parse).collect()).transpose()
    }
}

/// `name: kind, description`, where the kind is `text`, `list`, `number` or `A | B | C`.
fn field(item: &Item<'_>) -> Result<Field, Mistake> {
    let text = item.text();
    let wrong =
        || Mistake::new(item.line, "a field is 'name: kind, description' with text, list, number or 'A | B'");
    let (name, rest) = pair(&text).ok_or_else(wrong)?;
    let (kind, description) = rest.split_once(',').ok_or_else(wrong)?;
    let kind = match kind.trim() {
        "text" => FieldKind::Text,
        "list" => FieldKind::List,
        "number" => FieldKind::Number,
        values if values.contains('|') => {
            FieldKind::OneOf(values.split('|').map(|v| v.trim().to_owned()).collect())
        }
        _ => return Err(wrong()),
    };
    Ok(Field { name: name.to_owned(), kind, description: description.trim().to_owned() })
}

/// A rule as its author writes it.
#[derive(Debug)]
struct OwnedRule {
    pointer: String,
    check: OwnedCheck,
    when: Option<(String, Vec<String>)>,
    say: String,
}

#[derive(Debug)]
enum OwnedCheck {
    MinItems(u32),
    MinLength(u32),
    Contains(Vec<String>),
    Excludes(Vec<String>),
}

fn rule(item: &Item<'_>, own: &str, fields: &[Field]) -> Result<OwnedRule, Mistake> {
    let (mut pointer, mut check, mut when, mut say) = (None, None, None, None);
    let at = |line: usize, text: &str| match text.starts_with('/') && answer::has(text, own, fields) {
        true => Ok(text.to_owned()),
        false => Err(Mistake::new(
            line,
            format!("{text:?} leads nowhere in the answer: a pointer is '/field' or '/field/*'"),
        )),
    };
    for &(line, text) in &item.lines {
        let (key, value) = pair(text).ok_or_else(|| Mistake::new(line, "expected 'key: value'"))?;
        let value = unquoted(value);
        let count = || value.parse().map_err(|_| Mistake::new(line, format!("'{key}' has to be a number")));
        let list = || words(value).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let found = match key {
            "pointer" => pointer.replace(at(line, value)?).is_some(),
            "say" => say.replace(value.to_owned()).is_some(),
            "minItems" => check.replace(OwnedCheck::MinItems(count()?)).is_some(),
            "minLength" => check.replace(OwnedCheck::MinLength(count()?)).is_some(),
            "contains" => check.replace(OwnedCheck::Contains(list())).is_some(),
            "excludes" => check.replace(OwnedCheck::Excludes(list())).is_some(),
            "when" => {
                let (place, is) = value
                    .split_once(" is ")
                    .ok_or_else(|| Mistake::new(line, "'when' is '/field is VALUE' or '/field is A, B'"))?;
                let is = words(is).into_iter().map(str::to_owned).collect();
                when.replace((at(line, place.trim())?, is)).is_some()
            }
            _ => return Err(Mistake::new(line, format!("a rule has no '{key}'"))),
        };
        if found {
            return Err(Mistake::new(line, "a rule has one pointer, one check, one 'when' and one 'say'"));
        }
    }
    let lacks = |what: &str| Mistake::new(item.line, format!("the rule lacks {what}"));
    Ok(OwnedRule {
        pointer: pointer.ok_or_else(|| lacks("'pointer'"))?,
        check: check.ok_or_else(|| lacks("a check: minItems, minLength, contains or excludes"))?,
        when,
        say: say.ok_or_else(|| lacks("'say', which the model is told"))?,
    })
}

impl OwnedRule {
    fn borrow(&self) -> Rule<'_> {
        Rule {
            pointer: &self.pointer,
            check: match &self.check {
                OwnedCheck::MinItems(n) => Check::MinItems(*n),
                OwnedCheck::MinLength(n) => Check::MinLength(*n),
                OwnedCheck::Contains(words) => Check::Contains(words.iter().map(String::as_str).collect()),
                OwnedCheck::Excludes(words) => Check::Excludes(words.iter().map(String::as_str).collect()),
            },
            when: self
                .when
                .as_ref()
                .map(|(pointer, is)| When { pointer, is: is.iter().map(String::as_str).collect() }),
            say: &self.say,
        }
    }
}

#[cfg(test)]
mod tests;
