//! Tries each path of the input, one a line, in each way that could change or leave the workspace.

#[cfg(target_os = "wasi")]
fn attempts(path: &str) -> Vec<(&'static str, bool)> {
    use std::fs;
    let write = fs::OpenOptions::new().write(true).create(true).truncate(true).open(path);
    vec![
        ("read", fs::read(path).is_ok()),
        ("list", fs::read_dir(path).is_ok()),
        ("write", write.is_ok()),
        ("append", fs::OpenOptions::new().append(true).open(path).is_ok()),
        ("remove", fs::remove_file(path).is_ok()),
        ("rename", fs::rename(path, "/workspace/renamed").is_ok()),
        ("link", fs::hard_link(path, "/workspace/linked").is_ok()),
        ("mkdir", fs::create_dir(format!("{path}.d")).is_ok()),
    ]
}

guests::guest!("escape", ["fs.read"], |input, _| {
    let mut done = Vec::new();
    for path in input.lines() {
        done.extend(
            attempts(path).into_iter().filter(|(_, ok)| *ok).map(|(what, _)| format!("{what} {path}")),
        );
    }
    guests::done(done.join("\n"))
});
