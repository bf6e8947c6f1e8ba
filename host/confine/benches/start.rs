//! What confinement costs: start to end of `true`, plain and confined.

#![expect(clippy::print_stdout, reason = "a measurement is printed")]

#[expect(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/launcher.rs"]
mod launcher;

use launcher::{Launcher, program};
use std::process::Command;
use std::time::{Duration, Instant};

const RUNS: usize = 300;

fn main() {
    let plain = measure(|| drop(Command::new("/usr/bin/true").status()));
    println!("plain: {plain:?} (median of {RUNS})");
    for (name, flags) in [("namespaces", &[][..]), ("Landlock alone", &["--mask", "no-userns"])] {
        let started = Instant::now();
        let mut launcher = Launcher::start(flags);
        println!("{name}: launcher ready with canaries after {:?}", started.elapsed());
        let confined = measure(|| drop(launcher.run(program(&["true"]))));
        println!("{name}: {confined:?}, {:?} more than plain", confined.saturating_sub(plain));
    }
}

fn measure(mut run: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    times.get(RUNS / 2).copied().unwrap_or_default()
}
