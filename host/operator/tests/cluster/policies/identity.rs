//! Who made a session.

use crate::people::Project;
use serde_json::{Value, json};

const POLICY: &str = "vteam-created-by";

fn session(name: &str, by: Option<&str>) -> Value {
    let annotations = by.map(|by| json!({"vteam.ambient-code/created-by": by}));
    json!({"apiVersion": resources::API_VERSION, "kind": "AgenticSession",
        "metadata": {"name": name, "annotations": annotations}, "spec": {"prompt": "p"}})
}

#[test]
fn nobody_speaks_for_another() {
    let project = Project::new("identity");
    let (editor, admin, root) = (project.person("editor"), project.person("admin"), project.root());
    let write = "leave it out, or write editor";
    editor.may_not_create(&session("theirs", Some("admin")), POLICY, write);
    editor.may_not_create(&session("nobodys", Some("")), POLICY, write);
    root.may_not_create(&session("for-another", Some("editor")), POLICY, "created-by");
    editor.creates(&session("mine", Some("editor")));
    editor.creates(&session("unknown", None));

    let fixed = "is fixed once a session exists";
    for (name, value) in [("mine", "admin"), ("unknown", "editor")] {
        let value = format!("vteam.ambient-code/created-by={value}");
        for person in [&editor, &admin, &root] {
            person.may_not(&["annotate", "--overwrite", "as", name, &value], &Value::Null, POLICY, fixed);
        }
    }
    editor.may_not(
        &["annotate", "as", "mine", "vteam.ambient-code/created-by-"],
        &Value::Null,
        POLICY,
        fixed,
    );
    // Others may work with it, and leave it as it is.
    admin.may(&["annotate", "as", "mine", "note=seen"], &Value::Null);
    admin.may(
        &["patch", "as", "mine", "--type=merge", "-p", r#"{"spec":{"operatingMode":"Stopped"}}"#],
        &Value::Null,
    );
}
