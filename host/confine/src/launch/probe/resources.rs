//! More than is allowed.

use super::Found;
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the launcher may take to notice what the kernel does not refuse: it looks ten times a second, but among
/// so many threads of a busy machine its turn comes late. Only where no bound holds is all of it waited for.
const PATIENCE: Duration = Duration::from_secs(15);
const BEYOND: u64 = 64;

/// `arguments`: how many processes, bytes of memory, bytes of a file and open files there may be.
pub(super) fn resources(found: &mut Found, arguments: &[String]) {
    let limits: Vec<u64> = arguments.iter().filter_map(|text| text.parse().ok()).collect();
    let [processes, memory_bytes, file_bytes, open_files] = limits.as_slice() else {
        found.when(true, "run without knowing its limits");
        return;
    };
    large_file(found, *file_bytes);
    memory(found, *memory_bytes);
    files(found, *open_files);
    threads(found, *processes);
}

fn large_file(found: &mut Found, bytes: u64) {
    crate::sys::ignore_signal(libc::SIGXFSZ);
    let path = std::env::temp_dir().join(format!("canary-large-{}", std::process::id()));
    let made = File::create(&path).and_then(|file| file.set_len(bytes + 1));
    found.when(made.is_ok(), &format!("make a file of {} bytes", bytes + 1));
    let _ = std::fs::remove_file(&path);
}

fn memory(found: &mut Found, bytes: u64) {
    let mut room: Vec<u8> = Vec::new();
    let got = usize::try_from(bytes + (1 << 20)).is_ok_and(|bytes| room.try_reserve_exact(bytes).is_ok());
    found.when(got, &format!("have more than {bytes} bytes of memory"));
}

fn files(found: &mut Found, most: u64) {
    let opened: Vec<File> = (0..most + BEYOND).map_while(|_| File::open("/dev/null").ok()).collect();
    found.when(opened.len() as u64 >= most, &format!("open {} files", opened.len()));
}

fn threads(found: &mut Found, most: u64) {
    let enough = Arc::new(AtomicBool::new(false));
    let start = |_| {
        let enough = Arc::clone(&enough);
        let wait = move || {
            while !enough.load(Ordering::Relaxed) {
                std::thread::park_timeout(PATIENCE);
            }
        };
        std::thread::Builder::new().stack_size(16 << 10).spawn(wait).ok()
    };
    // The sum of all programs of a session may be bound, so that others take their share.
    let started: Vec<_> = (0..most + BEYOND).map_while(start).collect();
    if started.len() as u64 >= most + BEYOND {
        std::thread::sleep(PATIENCE);
        found.when(true, &format!("start {} threads", started.len()));
    }
    enough.store(true, Ordering::Relaxed);
    for thread in started {
        thread.thread().unpark();
        let _ = thread.join();
    }
}
