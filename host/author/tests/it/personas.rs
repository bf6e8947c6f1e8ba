use crate::built;
use engine::{Judgement, Leaf};
use model::limits::Limits;
use serde_json::{Value, json};

/// What a persona may weigh: sixteen of them fit one ConfigMap of 1 MiB, with room for names and labels.
const PERSONA_BYTES: usize = 40 << 10;

const SHIPPED: [(&str, &str, &str); 2] = [
    ("STAFF_ENGINEER", "Stella", include_str!("../../../../plugins/personas/staff-engineer.md")),
    ("TEAM_MEMBER", "Taylor", include_str!("../../../../plugins/personas/team-member.md")),
];

#[tokio::test]
async fn the_shipped_personas_speak_for_themselves() {
    let limits = Limits::shipped().call;
    for (key, name, markdown) in SHIPPED {
        let component = tokio::task::spawn_blocking(move || built::persona(markdown)).await.unwrap();
        assert!(component.len() <= PERSONA_BYTES, "{key} has {} bytes", component.len());
        // The shared vocabulary, which has no function.
        assert_eq!(manifest::admit(&component, PERSONA_BYTES).unwrap().imports, ["vteam:plugin/types@0.1.0"]);
        let persona = built::load(&component);
        let said = persona.manifest().persona.clone().unwrap();
        assert_eq!((said.key.as_str(), said.name.as_str()), (key, name));

        let schema: Value = serde_json::from_str(&persona.answer_schema(&limits).await.unwrap()).unwrap();
        assert_eq!(schema, said.answer_schema);

        let system = persona.system_prompt("task".to_owned(), Vec::new(), &limits).await.unwrap();
        assert!(system.raw().starts_with(&format!("You are {name},")), "{}", system.raw());

        // More than the core's memory holds at first: nothing of the prompt is written over.
        let task = "é{context}".repeat(100_000);
        let context = vec![("context".to_owned(), json!("a \"quoted\" context").to_string())];
        let prompt = persona.analysis_prompt(task.clone(), context, &limits).await.unwrap();
        assert!(prompt.raw().contains(&format!("<task>\n{task}\n</task>")));
        assert!(prompt.raw().contains("<context>\na \"quoted\" context\n</context>"));
        assert!(prompt.raw().starts_with("Assess") || prompt.raw().starts_with("Look at"));
    }
}

fn leaves(pointer: &str, value: &Value, out: &mut Vec<Leaf>) {
    let below =
        |out: &mut Vec<Leaf>, key: &str, value: &Value| leaves(&format!("{pointer}/{key}"), value, out);
    match value {
        Value::Object(object) if !object.is_empty() => object.iter().for_each(|(k, v)| below(out, k, v)),
        Value::Array(items) if !items.is_empty() => {
            items.iter().enumerate().for_each(|(i, v)| below(out, &i.to_string(), v))
        }
        scalar => out.push(Leaf { pointer: pointer.to_owned(), value: scalar.to_string() }),
    }
}

#[tokio::test]
async fn the_judge_is_a_gate() {
    let component = tokio::task::spawn_blocking(|| built::persona(SHIPPED[0].2)).await.unwrap();
    let persona = built::load(&component);
    let good = json!({
        "persona": "STAFF_ENGINEER",
        "analysis": "The parser in src/parse.rs accepts an empty key: ".repeat(6),
        "concerns": [], "recommendations": ["Refuse an empty key"], "requiredComponents": ["parser"],
        "estimatedComplexity": "LOW", "dependencies": [], "risks": [],
        "acceptanceCriteria": ["`parse(\"=1\")` returns an error", "`cargo test -p parser` passes"],
        "technicalDetails": {
            "approach": "A check", "alternatives": [], "affectedCode": ["src/parse.rs"], "performance": "none",
            "testStrategy": "A unit test", "rollout": "With the next release",
        },
    });
    let check = async |pointer: &str, value: Value, expected: &[&str]| {
        let mut answer = good.clone();
        if let Some(place) = answer.pointer_mut(pointer) {
            *place = value;
        }
        let mut flat = Vec::new();
        leaves("", &answer, &mut flat);
        let said = match persona.judge(flat, Vec::new(), &Limits::shipped().call).await.unwrap() {
            Judgement::Accept => Vec::new(),
            Judgement::Revise(reasons) => reasons.into_iter().map(|r| r.raw().to_owned()).collect(),
        };
        assert_eq!(said.len(), expected.len(), "{pointer}: {said:?}");
        expected.iter().zip(said).for_each(|(part, said)| assert!(said.contains(part), "{pointer}: {said}"));
    };
    check("/none", json!(null), &[]).await;
    check("/analysis", json!("short"), &["too short"]).await;
    check("/acceptanceCriteria", json!([]), &["at least two"]).await;
    check("/acceptanceCriteria/0", json!("It works as expected."), &["cannot be checked"]).await;
    check("/estimatedComplexity", json!("HIGH"), &["at least two risks", "at least one alternative"]).await;
    check("/technicalDetails/testStrategy", json!("None"), &["testStrategy"]).await;
}

#[tokio::test]
async fn another_module_is_not_the_core() {
    let markdown = SHIPPED[0].2;
    let check = |core: &[u8], part: &str| {
        let error = author::stamp(core, markdown).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains(part), "{error}: {cause}");
    };
    check(b"", "not a core WebAssembly module");
    check(b"\0asm\x0d\0\x01\0", "component");
    check(b"\0asm\x01\0\0\0", "no memory");
    let stamped_core = tokio::task::spawn_blocking(built::core).await.unwrap();
    let slot = stamped_core.windows(16).position(|w| w == b"vteam-persona-01").unwrap();
    let mut blank = stamped_core.clone();
    blank[slot..slot + 16].fill(0);
    check(&blank, "has 0 slots");
}
