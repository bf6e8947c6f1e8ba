//! Calls each host interface once and answers with what each said.

guests::guest!("everything", ["process", "fs.write", "state", "model"], |_, _| {
    use guests::bindings::vteam::plugin::{changes, config, model, process, state};
    let mut said = vec![
        format!("changes {:?}", changes::digest("file")),
        format!("state {:?} {:?}", state::set("key", b"value"), state::get("key")),
        format!("keys {:?} {:?}", state::keys(), state::delete("key")),
        format!("model {:?}", model::complete(r#"{"prompt":"hello","maxTokens":5}"#)),
        format!("model {:?}", model::complete(r#"{"pormpt":"hello"}"#)),
        format!("config {:?} {:?}", config::get("colour"), config::get("absent")),
        format!("attach {:?}", process::attach("none").map(|child| child.id())),
    ];
    said.push(format!("process {:?}", process::start(&["ls".to_owned()], &[]).map(|child| child.id())));
    guests::done(said.join("\n"))
});
