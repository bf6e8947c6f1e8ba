//! Programs against the machine that they run on.

use super::{allow_bypass, bash, finished, script, shown};
use crate::world::{World, phase};
use model::lifecycle::Phase;
use serde_json::json;
use std::path::PathBuf;

/// Each says `escaped` where it got what it wanted. `DATA` is the server's data folder, `HOST` the folder around it,
/// `PORT` the server's.
const ATTEMPTS: [(&str, &str); 14] = [
    ("the token", "cat DATA/token && echo esc''aped"),
    ("the log", "cat DATA/vteam.db > /dev/null && echo esc''aped"),
    ("the keys", "cat DATA/keys/* && echo esc''aped"),
    ("the journal", "ls DATA/sessions ../journal /workspace/../journal ../baseline && echo esc''aped"),
    ("a file of the user", "cat HOST/secret && echo esc''aped"),
    ("it through a link", "ln -sfn HOST/secret l; cat l && echo esc''aped"),
    ("it by a hard link", "ln HOST/secret h && echo esc''aped"),
    ("it by the root of another process", "cat /proc/*/root/HOST/secret && echo esc''aped"),
    ("the server by TCP", "(echo > /dev/tcp/127.0.0.1/PORT) && echo esc''aped"),
    ("the server by UDP", "(echo > /dev/udp/127.0.0.1/PORT) && echo esc''aped"),
    (
        "the runner's socket",
        "perl -MSocket -e 'socket(S, AF_UNIX, SOCK_STREAM, 0) && connect(S, sockaddr_un(\"DATA/run/runner.sock\")) && print \"esc\".\"aped\"'",
    ),
    (
        "other processes' memory and variables",
        "for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline | grep -q 'vteam-run[n]er' && echo esc''aped; grep -l 'vteam-run[n]er' $p/maps && echo esc''aped; done 2>/dev/null; true",
    ),
    ("an old descriptor", "for f in 3 4 5 6 7 8 9 10; do (: >&$f) 2>/dev/null && echo esc''aped; done; true"),
    ("everybody's end", "kill -9 -1"),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reaches_nothing_of_its_host() -> anyhow::Result<()> {
    // The server's address is known only once it listens, so the first attempts are of a script that is put in place then.
    let mut world = World::up(&script(&[])).await;
    let port = world.url.rsplit(':').next().unwrap_or_default().to_owned();
    std::fs::write(world.dir.path().join("secret"), "the secret of the user")?;
    let real = |text: &str| {
        text.replace("DATA", &world.data().to_string_lossy())
            .replace("HOST", &world.dir.path().to_string_lossy())
            .replace("PORT", &port)
    };
    let mut calls: Vec<_> = ATTEMPTS.iter().map(|(_, command)| bash(real(command))).collect();
    calls.push(bash("echo still alive"));
    std::fs::write(world.dir.path().join("script.yaml"), script(&calls))?;
    world.stop();
    world.start().await?;
    allow_bypass(&world).await?;
    world.create("reach", json!({ "prompt": "go", "permissionMode": "bypass" })).await?;
    let log = world.settled("reach").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    let shown = shown(&log);
    for ((name, _), text) in ATTEMPTS.iter().zip(&shown) {
        assert!(!text.contains("escaped"), "{name}: {text}");
        assert!(!text.contains("the secret of the user") && !text.contains(&world.token), "{name}: {text}");
    }
    assert!(shown.last().is_some_and(|text| text.contains("still alive")), "{shown:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_outlives_neither_its_call_nor_its_session() -> anyhow::Result<()> {
    // A number that no other test sleeps for.
    let nap = format!("{}", 700_000_000 + std::process::id());
    let daemon = format!("(setsid nohup sleep {nap} >/dev/null 2>&1 &) ; sleep 0.1; echo left");
    let background = json!({ "command": format!("sleep {nap}"), "run_in_background": true });
    let world = World::up(&script(&[
        bash(daemon),
        bash(format!("cat /proc/*/cmdline | tr '\\0' ' ' | grep -c 'sleep {}[{}]'", &nap[..8], &nap[8..])),
        ("Bash", background),
    ]))
    .await;
    allow_bypass(&world).await?;
    world.create("stay", json!({ "prompt": "go", "permissionMode": "bypass" })).await?;
    let log = world.settled("stay").await;
    assert_eq!(phase(&log), Some(Phase::Completed));
    let shown = shown(&log);
    assert!(shown[0].contains("left"), "{shown:?}");
    assert!(shown[1].ends_with("\\n0\"}]"), "the daemon is there: {shown:?}");
    world.until("stay", "end of every program", |_| sleeping(&nap).is_empty()).await;
    Ok(())
}

/// Processes of this machine with this argument.
fn sleeping(nap: &str) -> Vec<PathBuf> {
    let all = std::fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    all.filter(|path| {
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|argument| argument == nap.as_bytes())
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_bomb_ends_with_its_call() -> anyhow::Result<()> {
    let bomb = json!({ "command": "b() { b | b & }; b; sleep 1000", "timeout": 3000 });
    let world = World::up(&script(&[("Bash", bomb), bash("echo still alive")])).await;
    allow_bypass(&world).await?;
    world.create("bomb", json!({ "prompt": "go", "permissionMode": "bypass" })).await?;
    let log = world.settled("bomb").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", finished(&log));
    assert!(shown(&log)[1].contains("still alive"), "{:?}", shown(&log));
    Ok(())
}
