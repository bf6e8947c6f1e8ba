//! What programs get, and how they end. Everything is run in both modes: in namespaces, and with Landlock alone.

use crate::launcher::{Launcher, bash, program};
use protocol::exec::{Exit, FromExec, Network, Program, Refusal, ToExec};

const ALONE: &[&str] = &["--mask", "no-userns"];

fn both(check: impl Fn(&mut Launcher)) {
    for flags in [&[], ALONE] {
        check(&mut Launcher::start(flags));
    }
}

#[test]
fn every_property_holds_on_this_host_in_both_modes() {
    both(|launcher| {
        let broken: Vec<_> = launcher.properties.iter().filter(|property| !property.holds).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        assert_eq!(launcher.properties.len(), 7);
        assert!(launcher.programs.contains_key("bash"));
    });
}

#[test]
fn every_property_holds_for_a_user_without_privileges() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for flags in [&[], ALONE] {
        let mut launcher = Launcher::start_as(65_534, flags);
        let broken: Vec<_> = launcher.properties.iter().filter(|property| !property.holds).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        assert_eq!(launcher.run(bash("id -u; touch made; ls")).stdout, "65534\nmade\n");
    }
}

#[test]
fn every_property_holds_where_the_session_leader_is_in_another_pid_namespace() {
    for flags in [&[], ALONE] {
        let mut launcher = Launcher::start_in_a_pid_namespace(flags);
        let broken: Vec<_> = launcher.properties.iter().filter(|property| !property.holds).collect();
        assert!(broken.is_empty(), "{broken:#?}");
        assert_eq!(launcher.run(bash("(setsid sleep 1000 &) ; echo done")).stdout, "done\n");
    }
}

#[test]
fn streams_codes_and_folders() {
    both(|launcher| {
        let ended = launcher.run(bash("echo out; echo err >&2; exit 3"));
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str(), ended.code()), ("out\n", "err\n", 3));
        let cat = Program { stdin: Some("given\n".repeat(20_000)), ..program(&["cat"]) };
        assert_eq!(launcher.run(cat).stdout.len(), 120_000);
        assert_eq!(launcher.run(bash("cat; echo end")).stdout, "end\n");
        assert_eq!(
            launcher.run(bash("kill -9 $$")).exit,
            Some(Exit::Signal { signal: "SIGKILL".to_owned() })
        );
        launcher.run(bash("echo kept > file; echo x > $HOME/h; echo y > $TMPDIR/t"));
        assert_eq!(std::fs::read_to_string(launcher.workspace().join("file")).unwrap(), "kept\n");
        assert_eq!(launcher.run(bash("cat file ~/h $TMPDIR/t")).stdout, "kept\nx\ny\n");
    });
}

#[test]
fn what_is_built_can_be_run_and_committed() {
    const BUILT: &str = "built\nbuilt\nc\n";
    let script = "printf '#!/bin/sh\\necho built' > built; chmod +x built; ./built; cp -p built copy; ./copy; \
                  git init -q g && cd g && git -c user.name=a -c user.email=b commit -q --allow-empty -m c && git log --format=%s";
    if rustix::process::geteuid().is_root() {
        assert_eq!(Launcher::start_as(65_534, ALONE).run(bash(script)).stdout, BUILT);
        assert_eq!(Launcher::start_as(65_534, &[]).run(bash(script)).stdout, BUILT);
    }
    assert_eq!(Launcher::start(&[]).run(bash(script)).stdout, BUILT);
}

#[test]
fn variables_are_ours_and_the_programs() {
    both(|launcher| {
        let mut asked = program(&["env"]);
        asked.env.insert("EXTRA".to_owned(), "1".to_owned());
        let text = launcher.run(asked).stdout;
        let mut names: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
        names.sort_unstable();
        assert_eq!(names, ["EXTRA", "GIT_CONFIG_NOSYSTEM", "HOME", "LANG", "PATH", "TERM", "TMPDIR", "USER"]);
    });
}

#[test]
fn where_a_shell_stood_is_reported_as_the_runner_names_it() {
    both(|launcher| {
        let stood = |launcher: &mut Launcher, script: &str| {
            launcher.run(Program { report_cwd: true, ..bash(script) }).cwd
        };
        assert_eq!(stood(launcher, "mkdir -p a/b; cd a/b").as_deref(), Some("/workspace/a/b"));
        assert_eq!(stood(launcher, "cd a; trap 'cd /' EXIT; false").as_deref(), Some("/"));
        assert_eq!(stood(launcher, "mkdir -p deep/er/still").as_deref(), Some("/workspace"));
        assert_eq!(stood(launcher, "cd a; exec ls").as_deref(), Some("/workspace/a"));
        assert_eq!(stood(launcher, "true").as_deref(), Some("/workspace"));
        assert_eq!(stood(launcher, "mkdir gone; cd gone; rmdir ../gone"), None);
        assert_eq!(launcher.run(bash("cd a")).cwd, None);
        let below = Program { cwd: "/workspace/a".to_owned(), ..program(&["ls"]) };
        assert_eq!(launcher.run(below).stdout, "b\n");
    });
}

#[test]
fn what_cannot_start_says_why() {
    both(|launcher| {
        let refused = |launcher: &mut Launcher, asked: Program| launcher.try_run(asked).unwrap_err();
        for name in ["no-such-program", "/workspace/own", "./own", "/usr/bin/../../workspace/own"] {
            std::fs::write(launcher.workspace().join("own"), "").unwrap();
            assert_eq!(refused(launcher, program(&[name])), Refusal::NotFound { program: name.to_owned() });
        }
        for cwd in ["/etc", "workspace", "/workspace/../etc", "/workspace/absent"] {
            let asked = Program { cwd: cwd.to_owned(), ..program(&["ls"]) };
            assert!(matches!(refused(launcher, asked), Refusal::Invalid { .. }), "{cwd}");
        }
        assert!(matches!(refused(launcher, program(&[])), Refusal::Invalid { .. }));
        assert!(matches!(refused(launcher, program(&["echo", "a\0b"])), Refusal::Invalid { .. }));
    });
}

#[test]
fn too_much_output_is_dropped_and_counted() {
    both(|launcher| {
        let ended =
            launcher.run(Program { output_bytes: 1000, ..bash("yes | head -c 300000; echo end >&2") });
        assert_eq!(ended.stdout.len() + ended.stderr.len(), 1000);
        assert_eq!(ended.dropped_bytes, 300_004 - 1000);
        assert_eq!(ended.code(), 0);
    });
}

#[test]
fn the_whole_tree_goes_with_its_call() {
    both(|launcher| {
        // What stays would hold the output open, and the call would not end before the test does.
        let daemons =
            "(setsid bash -c 'trap \"\" HUP TERM INT; sleep 900' &) ; (sleep 900 &) ; nohup sleep 900 & ";
        let ended = launcher.run(bash(&format!("{daemons} echo started")));
        assert_eq!((ended.stdout.as_str(), ended.code()), ("started\n", 0));
        let ended = launcher.run(Program { timeout_ms: 300, ..bash(&format!("{daemons} sleep 900")) });
        assert_eq!(ended.exit, Some(Exit::TimedOut));
        let stopped = Program { timeout_ms: 300, report_cwd: true, ..bash("kill -STOP $$") };
        assert_eq!(launcher.run(stopped).exit, Some(Exit::TimedOut));
    });
}

#[test]
fn several_at_once_and_one_killed() {
    both(|launcher| {
        let slow = launcher.begin(bash("echo up; sleep 900"));
        while !matches!(launcher.hear(), Some(FromExec::Output { id, .. }) if id == slow) {}
        assert_eq!(launcher.run(program(&["echo", "meanwhile"])).stdout, "meanwhile\n");
        launcher.say(&ToExec::Kill { id: slow });
        let ended = launcher.hear();
        assert!(
            matches!(ended, Some(FromExec::Exited { id, exit: Exit::Killed, .. }) if id == slow),
            "{ended:?}"
        );
    });
}

#[test]
fn when_the_runner_goes_everything_goes() {
    both(|launcher| {
        let fifo = launcher.workspace().join("alive");
        let id = launcher.begin(bash("mkfifo alive; echo made; exec sleep 900 > alive"));
        while !matches!(launcher.hear(), Some(FromExec::Output { id: of, .. }) if of == id) {}
        // Both ends meet: from now on the end of the stream is the end of the program.
        let mut alive = std::fs::File::open(fifo).unwrap();
        assert!(launcher.hang_up().success());
        assert_eq!(std::io::Read::read(&mut alive, &mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_program_that_nobody_listens_to_waits_and_loses_nothing() {
    both(|launcher| {
        let asked = Program { output_bytes: 64 << 20, ..bash("head -c 20000000 /dev/zero | tr '\\0' x") };
        assert_eq!(launcher.run(asked).stdout.len(), 20_000_000);
    });
}

#[test]
fn usage_is_bounded() {
    for mode in [&[], ALONE] {
        let limits = [
            "--limit",
            "processes=64",
            "--limit",
            "disk-bytes=50000000",
            "--limit",
            "memory-bytes=300000000",
        ];
        let mut launcher = Launcher::start(&[mode, &limits].concat());
        let bomb = launcher.run(program(&["perl", "-e", "fork while 1"]));
        assert!(bomb.exit == Some(Exit::Killed), "{bomb:?}");
        let hog = launcher.run(program(&["perl", "-e", "my @x; push @x, 'x' x 1e6 while 1"]));
        assert_ne!(hog.exit, Some(Exit::Code { code: 0 }), "{hog:?}");
        let disk = launcher.run(bash("while :; do head -c 9000000 /dev/zero > f$RANDOM$RANDOM; done"));
        assert_eq!(disk.exit, Some(Exit::Killed));
        assert!(disk.stderr.contains("folders hold more than"), "{disk:?}");
    }
}

#[test]
fn loopback_works_between_calls_and_leads_nowhere_else() {
    let mut launcher = Launcher::start(&[]);
    let loopback = |script: &str| Program {
        network: Network::Loopback,
        ..program(&["perl", "-MIO::Socket::INET", "-e", script])
    };
    let serve = "my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => '127.0.0.1', LocalPort => 4000) or die; \
                 $| = 1; print 'up'; my $c = $s->accept; print $c 'hello'; close $c";
    let server = launcher.begin(loopback(serve));
    while !matches!(launcher.hear(), Some(FromExec::Output { id, .. }) if id == server) {}
    let dial =
        launcher.begin(loopback("my $c = IO::Socket::INET->new('127.0.0.1:4000') or die $!; print <$c>"));
    let mut heard = false;
    let mut ended = 0;
    while ended < 2 {
        match launcher.hear().unwrap() {
            FromExec::Output { id, bytes, .. } if id == dial => heard = bytes == b"hello",
            FromExec::Exited { .. } => ended += 1,
            _ => {}
        }
    }
    assert!(heard);
    let away = launcher.run(loopback("IO::Socket::INET->new('192.0.2.1:80') or die \"$!\""));
    assert!(away.stderr.contains("unreachable"), "{away:?}");
}

#[test]
fn loopback_needs_a_network_namespace() {
    let mut launcher = Launcher::start(ALONE);
    let refusal = launcher.try_run(Program { network: Network::Loopback, ..program(&["true"]) }).unwrap_err();
    assert!(refusal.to_string().contains("sockets does not hold"), "{refusal}");
}
