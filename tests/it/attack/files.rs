//! Repositories, archives and paths that mean to lead somewhere else.

use super::{allow_bypass, bash, doors::over_tcp, script, shown};
use crate::world::{World, folder, open_approval, phase, session};
use flate2::{Compression, write::GzEncoder};
use model::{
    event::{Event, Stored},
    lifecycle::Phase,
};
use reqwest::Method;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{FileTypeExt as _, symlink},
    path::Path,
};
use tar::{EntryType, Header};

const SECRET: &str = "the secret of the user";

/// What is there, links not followed, as `path` lines.
fn tree(at: &Path) -> Vec<String> {
    fn walk(root: &Path, at: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(at).into_iter().flatten().flatten() {
            found.push(entry.path().strip_prefix(root).expect("below").display().to_string());
            if entry.file_type().expect("a kind").is_dir() {
                walk(root, &entry.path(), found);
            }
        }
    }
    let mut found = Vec::new();
    walk(at, at, &mut found);
    found.sort();
    found
}

fn hostile_repository(at: &Path, secret: &Path) {
    folder(
        at,
        &[
            (".git/config", "[core]\n\tfsmonitor = touch pwned\n"),
            (".git/hooks/post-checkout", "#!/bin/sh\ntouch pwned\n"),
            ("sub/.git", "gitdir: ../../elsewhere\n"),
            ("src/main.txt", "text\n"),
            ("a\u{1b}]0;owned\u{7}b", "escape\n"),
        ],
    );
    symlink(secret, at.join("absolute")).expect("a link");
    symlink("../secret", at.join("up")).expect("a link");
    symlink("/proc/self/root", at.join("root")).expect("a link");
    symlink("src/../..", at.join("turn")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        at.join("fifo"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .expect("a FIFO");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_brings_nothing_active_in_and_an_agent_nothing_active_out() -> anyhow::Result<()> {
    let world = World::up(&script(&[
        bash("find . | sort; cat absolute up root/etc/passwd turn/secret .git/config; git status 2>&1 | head -1"),
        ("Read", json!({ "file_path": "absolute" })),
        ("Read", json!({ "file_path": ".git/config" })),
        ("Write", json!({ "file_path": ".git/hooks/pre-commit", "content": "#!/bin/sh\ntouch pwned\n" })),
        ("Write", json!({ "file_path": "sub/.git/config", "content": "[core]\n" })),
        bash(
            "mkdir -p .git/hooks src/.GIT; echo 'touch pwned' > .git/hooks/pre-commit; chmod +x .git/hooks/pre-commit; echo x > src/.GIT/config; ln -s ../../secret link; ln -s /etc etc; mkfifo pipe; echo changed > src/main.txt; ln src/main.txt second; echo new > fine",
        ),
    ]))
    .await;
    allow_bypass(&world).await?;
    let (project, secret) = (world.dir.path().join("project"), world.dir.path().join("secret"));
    fs::create_dir(&project)?;
    fs::write(&secret, SECRET)?;
    hostile_repository(&project, &secret);
    let before = tree(&project);
    let spec =
        json!({ "prompt": "go", "permissionMode": "bypass", "workspace": { "dir": { "path": project } } });
    world.create("repo", spec).await?;
    let log = world.settled("repo").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", shown(&log));
    let text = shown(&log).join("\n");
    assert!(!text.contains(SECRET) && !text.contains("fsmonitor"), "{text}");
    assert!(!text.contains("root:x:0"), "{text}");
    let found = shown(&log)[0].split("cat: ").next().unwrap_or_default().to_owned();
    assert!(found.contains("src/main.txt") && !found.contains(".git") && !found.contains("fifo"), "{found}");

    let diff = world.get(&format!("{}/diff", session("repo"))).await?.to_string();
    assert!(diff.contains("+new") && !diff.contains("pwned") && !diff.contains(SECRET), "{diff}");
    let applied = world.vteam(&["sessions", "apply", "repo", "--yes"]).output()?;
    let said = String::from_utf8(applied.stdout)? + &String::from_utf8(applied.stderr)?;
    assert!(!said.contains('\u{1b}') && !said.contains('\u{7}'), "{said:?}");
    let known = |path: &String| before.contains(path) || path == "fine";
    let after = tree(&project);
    assert!(after.iter().all(known), "{after:?}\n{said}");
    assert_eq!(fs::read_to_string(&secret)?, SECRET);
    assert!(fs::symlink_metadata(project.join("fifo"))?.file_type().is_fifo());
    assert_eq!(fs::read_to_string(project.join(".git/config"))?, "[core]\n\tfsmonitor = touch pwned\n");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_worked_on_itself_keeps_its_git() -> anyhow::Result<()> {
    let world = World::up(&script(&[
        bash("ls -A .git; cat .git/config sub/.git bare/config absolute up; echo done"),
        bash("rm -rf .git; mv .git away; echo 'touch pwned' > .git/hooks/post-checkout; echo x > sub/.git; mv sub moved; echo x > moved/.git; rm -rf sub; mv deep/down away; mkdir -p deep/down/.git; echo x > bare/config; mv bare other; touch build/ignored"),
        ("Write", json!({ "file_path": ".git/hooks/pre-commit", "content": "#!/bin/sh\ntouch pwned\n" })),
        bash("mkdir -p new/.git; echo '[core] fsmonitor = touch pwned' > new/.git/config; echo changed > src/main.txt"),
        ("Write", json!({ "file_path": "fine", "content": "new\n" })),
    ]))
    .await;
    allow_bypass(&world).await?;
    let (project, secret) = (world.dir.path().join("project"), world.dir.path().join("secret"));
    fs::create_dir(&project)?;
    fs::write(&secret, SECRET)?;
    hostile_repository(&project, &secret);
    let git = [
        (".gitignore", "build\n"),
        ("build/before", ""),
        ("bare/HEAD", ""),
        ("bare/objects/x", ""),
        ("bare/refs/x", ""),
        ("bare/config", "[core]\n\tfsmonitor = touch pwned\n"),
        ("deep/down/.git/HEAD", ""),
    ];
    folder(&project, &git);
    let spec = json!({ "prompt": "go", "permissionMode": "bypass", "workspace": { "dir": { "path": project, "inPlace": true } } });
    world.create("here", spec.clone()).await?;
    let log = world.settled("here").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", shown(&log));
    let text = shown(&log).join("\n");
    assert!(!text.contains(SECRET) && !text.contains("fsmonitor =") && !text.contains("gitdir"), "{text}");
    assert!(text.contains("done"), "{text}");

    assert_eq!(fs::read_to_string(project.join("src/main.txt"))?, "changed\n");
    assert_eq!(fs::read_to_string(project.join("fine"))?, "new\n");
    assert_eq!(fs::read_to_string(project.join(".git/config"))?, "[core]\n\tfsmonitor = touch pwned\n");
    assert!(
        project.join(".git/hooks/post-checkout").is_file() && !project.join(".git/hooks/pre-commit").exists()
    );
    assert_eq!(fs::read_to_string(project.join("sub/.git"))?, "gitdir: ../../elsewhere\n");
    assert_eq!(fs::read_to_string(project.join("bare/config"))?, "[core]\n\tfsmonitor = touch pwned\n");
    // A copy of what can be seen is all that moving comes to.
    assert!(project.join("deep/down/.git/HEAD").is_file());
    assert_eq!(fs::read_to_string(&secret)?, SECRET);

    let diff = world.get(&format!("{}/diff", session("here"))).await?.to_string();
    let named = [
        "+changed",
        "# new since the session began: \\\"new/.git\\\"",
        "# changed but ignored: \\\"build\\\"",
    ];
    assert!(named.iter().all(|part| diff.contains(part)), "{diff}");
    assert!(!diff.contains("sub/.git") && !diff.contains("bare/"), "{diff}");
    assert!(!diff.contains("absolute") && !diff.contains("pwned") && !diff.contains("hooks/"), "{diff}");
    let applied = world.vteam(&["sessions", "apply", "here", "--yes"]).output()?;
    assert_eq!(applied.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&applied.stderr).contains("works in its folder itself"));

    // Where a link stands for git's folder, nothing can lie over it.
    symlink("/tmp", project.join("src/.git"))?;
    world.create("link", spec).await?;
    let log = world.settled("link").await;
    assert_eq!(phase(&log), Some(Phase::Failed));
    assert!(serde_json::to_string(&log)?.contains("src/.git is a link"), "{log:?}");
    let around =
        json!({ "prompt": "go", "workspace": { "dir": { "path": world.dir.path(), "inPlace": true } } });
    let refused = world.create("around", around).await.expect_err("refused").to_string();
    assert!(refused.starts_with("422") && refused.contains("holds vteam's own data"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_further_runner_hides_nothing_of_what_the_first_did_in_a_folder() -> anyhow::Result<()> {
    let made = "mkdir -p src/objects src/refs; echo x > src/HEAD; echo '[core]' > src/config; echo changed > src/main; \
        truncate -s 300M big; mkdir -p $(printf 'd/%.0s' $(seq 210))";
    let late = json!({ "command": "sleep 2; mkdir -p late/.git", "run_in_background": true });
    let calls = [("Bash", late), bash(made), bash("ls src; echo again > again")];
    let turns = [(1, 0), (1, 1), (2, 0)];
    let uses = calls.iter().zip(turns).map(|((name, input), (prompt, turn))| {
        json!({ "when": { "prompt": prompt, "turn": turn }, "reply": [{ "tool_use": { "name": name, "input": input } }] })
    });
    let rules: Vec<Value> = uses.chain([json!({ "reply": [{ "text": "done" }] })]).collect();
    let world = World::up(&json!({ "name": "hostile", "rules": rules }).to_string()).await;
    allow_bypass(&world).await?;
    let project = world.dir.path().join("project");
    folder(&project, &[(".git/config", "[core]\n"), ("src/main", "before\n")]);
    let spec = json!({ "prompt": "go", "permissionMode": "bypass", "workspace": { "dir": { "path": project, "inPlace": true } } });
    world.create("here", spec).await?;
    world.settled("here").await;
    let diff = async || world.get(&format!("{}/diff", session("here"))).await.map(|diff| diff.to_string());
    let named = [
        "+changed",
        "# new since the session began: \\\"src\\\"",
        "# not compared: \\\"big\\\"",
        "nested too deep",
    ];
    let first = diff().await?;
    assert!(named.iter().all(|part| first.contains(part)), "{first}");
    world.post(&format!("{}/agui/run", session("here")), &json!({ "message": "more" })).await?;
    let log = world
        .until("here", "second run", |log| {
            let ended = log.iter().filter(|s| matches!(s.event, model::event::Event::RunFinished(_))).count();
            ended == 2 && phase(log).is_some_and(Phase::is_settled)
        })
        .await;
    assert!(shown(&log).join("\n").contains("HEAD"), "what the session made it sees: {:?}", shown(&log));
    let second = diff().await?;
    assert!(named.iter().all(|part| second.contains(part)) && second.contains("+again"), "{second}");
    // It was under way when its run ended.
    assert!(!project.join("late").exists() && !second.contains("late"), "{second}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_done_in_a_folder_whose_git_was_replaced_meanwhile() -> anyhow::Result<()> {
    let world = World::up(&script(&[
        ("Write", json!({ "file_path": "b", "content": "theirs\n" })),
        bash("echo theirs > .git/config"),
    ]))
    .await;
    let project = world.dir.path().join("project");
    folder(&project, &[(".git/config", "before\n"), ("a", "a\n")]);
    let spec = json!({ "prompt": "go", "workspace": { "dir": { "path": project, "inPlace": true } } });
    world.create("here", spec).await?;
    let log = world.until("here", "approval", |log| open_approval(log).is_some()).await;
    fs::rename(project.join(".git"), project.join("kept"))?;
    folder(&project, &[(".git/config", "new\n")]);
    world.decide("here", &open_approval(&log).expect("it waits"), json!({ "decision": "once" })).await?;
    let log = world.settled_allowing_all("here").await;
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", shown(&log));
    let text = shown(&log).join("\n");
    assert!(text.matches(".git was replaced or moved from outside").count() >= 2, "{text}");
    assert_eq!(fs::read_to_string(project.join(".git/config"))?, "new\n");
    assert!(!project.join("b").exists());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_folder_is_nobodys_workspace() -> anyhow::Result<()> {
    let world = World::up(&script(&[bash("find . -name token -o -name vteam.db -o -name '*.key'")])).await;
    allow_bypass(&world).await?;
    fs::write(world.dir.path().join("fine"), "fine")?;
    symlink(world.data(), world.dir.path().join("alias"))?;
    let spec = |path: &Path| json!({ "prompt": "go", "permissionMode": "bypass", "workspace": { "dir": { "path": path, "includeIgnored": true } } });
    for (n, path) in
        [world.data(), world.data().join("keys"), world.dir.path().join("alias/keys")].iter().enumerate()
    {
        let name = format!("inside-{n}");
        if world.create(&name, spec(path)).await.is_ok() {
            let log = world.settled(&name).await;
            assert_eq!(phase(&log), Some(Phase::Failed), "{}: {:?}", path.display(), shown(&log));
        }
    }
    world.create("around", spec(world.dir.path())).await?;
    let log = world.settled("around").await;
    let text = shown(&log).join("\n");
    for name in ["token", "vteam.db", ".key"] {
        assert!(!text.contains(name), "{text}");
    }
    Ok(())
}

/// One entry, whatever it is called.
fn entry(kind: EntryType, path: &str, link: Option<&str>, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    header.as_gnu_mut().expect("GNU").name[..path.len()].copy_from_slice(path.as_bytes());
    header.set_entry_type(kind);
    header.set_size(content.len() as u64);
    header.set_mode(0o7777);
    if let Some(link) = link {
        header.set_link_name_literal(link).expect("a link's name");
    }
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A tar, and at its end what a tar ends with.
fn packed(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(bytes).and_then(|()| gzip.write_all(&[0; 1024])).expect("packed");
    gzip.finish().expect("packed")
}

async fn from_archive(
    world: &World,
    name: &str,
    archive: Vec<u8>,
    interactive: bool,
) -> anyhow::Result<Vec<Stored>> {
    let put = world.request(Method::PUT, "/api/projects/default/archives").body(archive).send().await?;
    assert_eq!(put.status(), 201, "{name}");
    let blob = put.json::<Value>().await?["blob"].clone();
    let spec = json!({ "prompt": "go", "permissionMode": "bypass", "interactive": interactive,
        "workspace": { "archive": { "blob": blob } } });
    world.create(name, spec).await?;
    Ok(world.settled(name).await)
}

/// At once, with the reason: trying again would change nothing.
fn is_refused(name: &str, log: &[Stored]) {
    let ended = log.iter().filter_map(|stored| match &stored.event {
        Event::RunFinished(run) => Some((run.reason.word(), run.message.raw().contains("the archive"))),
        Event::RunnerLost(lost) => Some((format!("lost: {}", lost.message.raw()), false)),
        _ => None,
    });
    assert_eq!(
        ended.collect::<Vec<_>>(),
        [("WorkspaceInvalid".to_owned(), true)],
        "{name}: {:?}",
        shown(log)
    );
    assert_eq!(phase(log), Some(Phase::Failed), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_stays_in_its_workspace() -> anyhow::Result<()> {
    let world = World::up(&script(&[bash("find . -ls; cat */passwd passwd hard 2>&1")])).await;
    allow_bypass(&world).await?;
    let secret = world.dir.path().join("secret");
    fs::write(&secret, SECRET)?;
    let path = secret.to_str().expect("UTF-8");
    let fine = entry(EntryType::Regular, "fine", None, b"fine");
    for (name, bad) in [
        ("up", entry(EntryType::Regular, "../escaped", None, b"x")),
        ("deep-up", entry(EntryType::Regular, "a/../../escaped", None, b"x")),
        ("absolute", entry(EntryType::Regular, "/tmp/vteam-escaped", None, b"x")),
        ("through", ["a", "a/b"].map(|path| entry(EntryType::Regular, path, None, b"x")).concat()),
        ("long-name", entry(EntryType::GNULongName, "name", None, &[b'a'; 1 << 20])),
    ] {
        let log = from_archive(&world, name, packed(&[fine.clone(), bad].concat()), false).await?;
        is_refused(name, &log);
    }
    let none = b"\x1f\x8b\x08 no archive".to_vec();
    is_refused("none", &from_archive(&world, "none", none.clone(), false).await?);
    is_refused("talks", &from_archive(&world, "talks", none, true).await?);
    assert!(!Path::new("/tmp/vteam-escaped").exists());
    let links = [
        fine,
        entry(EntryType::Symlink, "l", Some("/etc"), b""),
        entry(EntryType::Regular, "l/passwd", None, b"ours"),
        entry(EntryType::Link, "hard", Some(path), b""),
        entry(EntryType::Symlink, "up", Some("../../.."), b""),
        entry(EntryType::Fifo, "fifo", None, b""),
        entry(EntryType::Block, "block", None, b""),
        entry(EntryType::Regular, ".git/hooks/post-checkout", None, b"#!/bin/sh\n"),
    ]
    .concat();
    let log = from_archive(&world, "links", packed(&links), false).await?;
    assert_eq!(phase(&log), Some(Phase::Completed), "{:?}", shown(&log));
    let text = shown(&log).join("\n");
    for bad in [SECRET, "root:x:0", "fifo", "block", "post-checkout", "rws"] {
        assert!(!text.contains(bad), "{bad}: {text}");
    }
    assert!(text.contains("ours") && text.contains("fine"), "{text}");
    assert!(!fs::read_to_string("/etc/passwd")?.contains("ours"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_path_of_the_api_leads_out_of_the_workspace() -> anyhow::Result<()> {
    let world = World::up(&script(&[bash(
        "ln -s /etc etc; ln -s .. up; mkdir -p d; mkfifo pipe; echo in > d/in; ln d/in d/two",
    )]))
    .await;
    allow_bypass(&world).await?;
    let spec = json!({ "prompt": "go", "interactive": true, "permissionMode": "bypass" });
    world.create("paths", spec).await?;
    world.until("paths", "waiting phase", |log| phase(log) == Some(Phase::Waiting)).await;
    let base = format!("{}/workspace", session("paths"));
    let ways = [
        "/../../../token",
        "/%2e%2e/%2e%2e/token",
        "/..%2f..%2f..%2ftoken",
        "/d/..%2f..%2fjournal",
        "/d/%2e%2e/%2e%2e/",
        "/%2fetc%2fpasswd",
        "//etc/passwd",
        "/etc/passwd",
        "/etc/",
        "/up/journal",
        "/up/",
        "/pipe",
        "/d/two",
        "/d%00/in",
        "/d/in%00",
        "/..",
        "/%ff",
        "/..%5c..%5ctoken",
    ];
    for way in ways {
        for (method, more) in [("GET", ""), ("PUT", "content-length: 0\r\n"), ("DELETE", "")] {
            // What is in the workspace may be replaced and removed, also links and names, but not what they lead to.
            let within = ["/pipe", "/d/two", "/etc/", "/up/", "/..%5c..%5ctoken"].contains(&way);
            if method != "GET" && within {
                continue;
            }
            let got = over_tcp(&world, method, &format!("{base}{way}"), more);
            assert!((400..500).contains(&got), "{method} {way}: {got}");
        }
    }
    let read = world.request(Method::GET, &format!("{base}/d")).send().await?;
    assert_eq!(read.status(), 200);
    let page =
        world.request(Method::PUT, &format!("{base}/page.html")).body("<script>1</script>").send().await?;
    assert_eq!(page.status(), 204);
    let page = world.request(Method::GET, &format!("{base}/page.html")).send().await?;
    let header = |name: &str| page.headers()[name].to_str().unwrap_or_default().to_owned();
    assert!(header("content-disposition").starts_with("attachment"));
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("x-content-type-options"), "nosniff");
    Ok(())
}
