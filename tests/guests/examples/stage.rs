//! Stages one change for each line of the input: write, delete or rename, and answers with what it was told.

#[cfg(target_os = "wasi")]
fn stage(line: &str) -> String {
    use guests::bindings::vteam::plugin::changes;
    let words: Vec<&str> = line.split(' ').collect();
    let base = |path: &str| changes::digest(path).map(Option::unwrap_or_default);
    let result = match words.as_slice() {
        ["write", path, content] => {
            changes::digest(path).and_then(|base| changes::write(path, content.as_bytes(), base.as_deref()))
        }
        ["create", path, content] => changes::write(path, content.as_bytes(), None),
        ["big", path, bytes] => changes::write(path, &vec![b'x'; bytes.parse().unwrap_or(0)], None),
        ["delete", path] => base(path).and_then(|base| changes::delete(path, &base)),
        ["rename", source, target] => base(source).and_then(|base| changes::rename(source, target, &base)),
        _ => return "?".to_owned(),
    };
    result.map_or_else(|error| format!("{error:?}"), |()| "staged".to_owned())
}

guests::guest!("stage", ["fs.read", "fs.write"], |input, _| {
    guests::done(input.lines().map(stage).collect::<Vec<_>>().join("\n"))
});
