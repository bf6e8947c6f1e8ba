//! The local scheduler with programs that only say what they were given.

use model::{
    id::{Epoch, SessionUid},
    lifecycle::Reason,
};
use resources::Source;
use secrecy::SecretString;
use server::{
    scheduler::{LocalScheduler, LocalSettings},
    sessions::{Launch, LaunchError, Launcher},
};
use std::{fs, path::Path, time::Duration};
use tokio::{sync::oneshot, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// Reads its token, says what it sees, and waits; `--token-fd` is its fourth argument, `--exec-fd` its sixth.
const RUNNER: &str = r#"#!/bin/bash
dir="$8"
cat <&"$4" > "$dir/tmp/token"
ls -l /proc/self/fd | grep -c -e socket > "$dir/tmp/sockets"
/usr/bin/env > "$dir/tmp/env"
echo "$@" > "$dir/tmp/arguments"
echo hello
mv "$dir/tmp/arguments" "$dir/tmp/ready"
exec sleep 1000
"#;

/// Ends when its socket does, like the real one.
const EXEC: &str = r#"#!/bin/bash
cat <&"$2" > /dev/null
touch "$4/../tmp/exec-ended"
"#;

fn scheduler(dir: &Path, runner: &str) -> LocalScheduler {
    let programs = dir.join("bin");
    fs::create_dir_all(&programs).unwrap();
    for (name, text) in [("vteam-runner", runner), ("vteam-exec", EXEC)] {
        let source = programs.join(format!("{name}.sh"));
        fs::write(&source, text).unwrap();
        // By a process of its own: a descriptor open for writing that another test's child inherits makes it "busy".
        let mut install = std::process::Command::new("install");
        assert!(
            install.args(["-m", "755"]).args([&source, &programs.join(name)]).status().unwrap().success()
        );
    }
    LocalScheduler::new(LocalSettings {
        data: dir.join("data"),
        sessions: dir.join("sessions"),
        socket: dir.join("runner.sock"),
        programs,
        plugins: "/no/such/plugins".into(),
        log: "info".to_owned(),
    })
}

fn launch(workspace: Source) -> (Launch, oneshot::Receiver<String>) {
    let (ended, exited) = oneshot::channel();
    let launch = Launch {
        uid: uid(),
        epoch: Epoch(1),
        token: SecretString::from("the-token"),
        workspace,
        workspace_bytes: 1 << 20,
        needs_programs: false,
        exited: Box::new(move |why| drop(ended.send(why))),
    };
    (launch, exited)
}

#[tokio::test]
async fn what_is_nobodys_workspace_is_refused_beforehand() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = scheduler(dir.path(), RUNNER);
    fs::create_dir_all(dir.path().join("data")).unwrap();
    let refuses = async |path: &Path| {
        scheduler.refuses(Source::Dir { path: path.to_owned(), include_ignored: false }).await
    };
    assert!(refuses(&dir.path().join("data")).await.is_some_and(|why| why.contains("vteam's own data")));
    assert_eq!(refuses(dir.path()).await, None, "what is its own in there is left out of the copy");
    assert!(
        scheduler.refuses(Source::InPlace { path: dir.path().to_owned() }).await.is_some(),
        "where nothing can be left out"
    );
}

fn uid() -> SessionUid {
    "s1".parse().unwrap()
}

async fn appears(path: &Path) {
    let seen = async {
        while !path.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{} does not appear", path.display()));
}

#[tokio::test]
async fn a_runner_has_what_it_was_given_and_ends_with_everything() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = scheduler(dir.path(), RUNNER);
    let (launch, exited) = launch(Source::Empty);
    scheduler.start(launch).await.unwrap();
    let session = dir.path().join("sessions/s1");
    appears(&session.join("tmp/ready")).await;
    assert_eq!(fs::read_to_string(session.join("tmp/token")).unwrap(), "the-token");
    assert_eq!(fs::read_to_string(session.join("tmp/sockets")).unwrap().trim(), "1");
    let env = fs::read_to_string(session.join("tmp/env")).unwrap();
    let own = ["PWD=", "SHLVL=", "_=", "OLDPWD="];
    assert!(env.lines().all(|line| own.iter().any(|name| line.starts_with(name))), "{env}");
    let arguments = fs::read_to_string(session.join("tmp/ready")).unwrap();
    assert!(!arguments.contains("the-token"), "{arguments}");
    assert_eq!(fs::read_to_string(session.join("logs/vteam-runner.log")).unwrap(), "hello\n");

    // Another server finds it.
    let other = LocalScheduler::new(LocalSettings {
        data: dir.path().join("data"),
        sessions: dir.path().join("sessions"),
        socket: dir.path().join("runner.sock"),
        programs: dir.path().join("bin"),
        plugins: "/no/such/plugins".into(),
        log: "info".to_owned(),
    });
    let (ended, adopted) = oneshot::channel();
    assert!(!other.adopt(uid(), Epoch(2), Box::new(|_| ())).await);
    assert!(other.adopt(uid(), Epoch(1), Box::new(move |why| drop(ended.send(why)))).await);

    other.kill(uid(), Epoch(1)).await;
    timeout(PATIENCE, exited).await.unwrap().unwrap();
    timeout(PATIENCE, adopted).await.unwrap().unwrap();
    appears(&session.join("tmp/exec-ended")).await;
    assert!(!other.adopt(uid(), Epoch(1), Box::new(|_| ())).await);
    scheduler.kill(uid(), Epoch(1)).await;
    scheduler.remove(uid()).await.unwrap();
    assert!(!session.exists());
    scheduler.remove(uid()).await.unwrap();
}

#[tokio::test]
async fn a_runner_that_ends_by_itself_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = scheduler(dir.path(), "#!/bin/sh\nexit 3\n");
    let (launch, exited) = launch(Source::Empty);
    scheduler.start(launch).await.unwrap();
    timeout(PATIENCE, exited).await.unwrap().unwrap();
    appears(&dir.path().join("sessions/s1/tmp/exec-ended")).await;
}

#[tokio::test]
async fn what_cannot_be_started_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let scheduler = scheduler(dir.path(), RUNNER);
    let (missing, _) = launch(Source::Dir { path: "/no/such/folder".into(), include_ignored: false });
    let error = scheduler.start(missing).await.unwrap_err();
    let LaunchError::Hopeless { reason, message } = error else { panic!("{error}") };
    assert_eq!(reason, Reason::Other("WorkspaceMissing".to_owned()));
    assert!(message.contains("/no/such/folder"), "{message}");
    fs::remove_file(dir.path().join("bin/vteam-exec")).unwrap();
    let (launch, _) = launch(Source::Empty);
    let error = scheduler.start(launch).await.unwrap_err();
    assert!(matches!(&error, LaunchError::Failed(message) if message.contains("vteam-exec")), "{error}");
}
