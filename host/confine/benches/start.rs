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
    row("plain", plain, plain);
    for (name, flags) in [("namespaces", &[][..]), ("Landlock alone", &["--mask", "no-userns"])] {
        let started = Instant::now();
        let mut launcher = Launcher::start(flags);
        println!("row | launcher, {name}: ready, its canaries run | {:.1?} | once |", started.elapsed());
        row(name, measure(|| drop(launcher.run(program(&["true"])))), plain);
    }
}

fn row(how: &str, median: Duration, plain: Duration) {
    let ratio = median.as_secs_f64() / plain.as_secs_f64();
    println!("row | `true`, {how}: start to end | {median:.1?} | {ratio:.1} times plain |");
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
