//! Says what it sees of its surroundings.

guests::guest!("ambient", [], |_, _| {
    let environment = std::env::vars().count();
    let arguments = std::env::args().count();
    let root = std::fs::read_dir("/").map_or(0, Iterator::count);
    let workspace = std::fs::read_dir("/workspace").is_ok();
    guests::done(format!(
        "{environment} variables, {arguments} arguments, {root} entries, workspace {workspace}"
    ))
});
