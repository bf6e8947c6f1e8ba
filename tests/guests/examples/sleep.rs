//! Waits an hour.

guests::guest!("sleep", [], |_, _| {
    std::thread::sleep(std::time::Duration::from_secs(3600));
    guests::done("slept")
});
