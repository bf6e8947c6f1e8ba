use super::*;

const GOOD: &str = "\
---
id: acme.critic
version: 0.1.0
key: CRITIC
name: Cleo
role: Critic
description: Finds fault: kindly
expertise: [tests, names]
tools: Read, Grep
answer: critique
fields:
  - verdict: GOOD | BAD, The verdict
  - points: list, One fault an entry
  - score: number, From 0 to 10
judge:
  - pointer: /critique/points/*
    minLength: 5
    when: /critique/verdict is BAD, UGLY
    say: \"Say more: a word is no fault\"
---
You are Cleo.

## Analysis
Look at {task} given {context}.
";

#[test]
fn a_persona_is_parsed_whole() {
    let persona = Persona::parse(GOOD).unwrap();
    assert_eq!(persona.description, "Finds fault: kindly");
    assert_eq!(persona.expertise, ["tests", "names"]);
    assert_eq!(
        persona.tools.as_deref().unwrap().iter().map(ToolName::as_str).collect::<Vec<_>>(),
        ["Read", "Grep"]
    );
    let [rule] = persona.rules.as_slice() else { panic!("{:?}", persona.rules) };
    let expected = Rule {
        pointer: "/critique/points/*",
        check: Check::MinLength(5),
        when: Some(When { pointer: "/critique/verdict", is: vec!["BAD", "UGLY"] }),
        say: "Say more: a word is no fault",
    };
    assert_eq!(rule.borrow(), expected);
    let schema = answer::schema("CRITIC", &persona.own, &persona.fields);
    let at = |pointer: &str| schema.pointer(pointer).unwrap().to_string();
    assert_eq!(at("/properties/critique/properties/verdict/enum"), r#"["GOOD","BAD"]"#);
    assert_eq!(at("/properties/critique/required"), r#"["verdict","points","score"]"#);
    assert_eq!(at("/properties/persona/enum"), r#"["CRITIC"]"#);
    assert!(at("/required").contains("acceptanceCriteria"));
    manifest::parse(&serde_json::to_string(&persona.manifest(schema)).unwrap()).unwrap();
}

#[test]
fn a_mistake_is_named_by_its_line() {
    let check = |from: &str, to: &str, line: usize, part: &str| {
        assert!(GOOD.contains(from), "{from:?}");
        let mistake = Persona::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(mistake.line == line && mistake.message.contains(part), "{from:?} -> {to:?}: {mistake}");
    };
    check("key: CRITIC", "key: critic", 4, "a persona key must be");
    check("id: acme.critic", "id: critic", 2, "a plugin id must be");
    check("name: Cleo\n", "", 1, "lacks 'name'");
    check("role: Critic", "role:", 6, "has to be a text");
    check("tools: Read, Grep", "tools: [Read, a b]", 9, "a tool name must be");
    check("role: Critic", "model: opus", 6, "'model' is none of");
    check("answer: critique", "answer: risks", 10, "no other field has");
    check("answer: critique", "answer: two words", 10, "one word");
    check("GOOD | BAD,", "GOOD,", 12, "a field is");
    check("score: number, From", "score: number From", 14, "a field is");
    check("/critique/points/*", "/critique/pints", 16, "leads nowhere");
    check("pointer: /critique/points/*", "pointer: points", 16, "leads nowhere");
    check("minLength: 5", "minLength: five", 17, "has to be a number");
    check("minLength: 5", "maxLength: 5", 17, "no 'maxLength'");
    check("    minLength: 5\n", "", 16, "lacks a check");
    check("minLength: 5", "minLength: 5\n    minItems: 2", 18, "one check");
    check("is BAD", "= BAD", 18, "'when' is");
    check("/critique/verdict is", "/verdict is", 18, "leads nowhere");
    check("    say: \"Say more: a word is no fault\"\n", "", 16, "lacks 'say'");
    check("{task}", "it", 23, "{task}");
}

#[test]
fn the_shipped_personas_are_personas() {
    for markdown in [
        include_str!("../../../../plugins/personas/staff-engineer.md"),
        include_str!("../../../../plugins/personas/team-member.md"),
    ] {
        let persona = Persona::parse(markdown).unwrap();
        assert!(persona.rules.len() >= 5 && persona.prompts.system.len() > 1000, "{}", persona.key);
    }
}
