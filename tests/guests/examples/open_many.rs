//! Opens the same file again and again and keeps it.

guests::guest!("open-many", ["fs.read"], |_, _| {
    let mut open = Vec::new();
    loop {
        match std::fs::File::open("/workspace/file") {
            Ok(file) => open.push(file),
            Err(error) => return guests::done(format!("{} open, then {error}", open.len())),
        }
    }
});
