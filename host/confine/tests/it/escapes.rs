//! What a hostile program tries, with the languages that are there. The canaries try the same and more; these go the
//! way that an agent's shell would.

use crate::launcher::{Launcher, bash, program};
use protocol::exec::{Network, Program};

fn check(flags: &[&str], attempts: &[(&str, Program)]) {
    let mut launcher = Launcher::start(flags);
    let secret = launcher.folder.path().join("secret");
    std::fs::write(&secret, "the secret").unwrap();
    for (name, asked) in attempts {
        let argv = asked.argv.iter().map(|text| text.replace("SECRET", &secret.to_string_lossy())).collect();
        let ended = launcher.run(Program { argv, ..asked.clone() });
        assert!(
            !ended.stdout.contains("escaped") && !ended.stdout.contains("the secret"),
            "{name}: {ended:?}"
        );
    }
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), "the secret");
    assert_eq!(launcher.run(program(&["echo", "well"])).stdout, "well\n");
}

fn perl(script: &str) -> Program {
    program(&["perl", "-MSocket", "-e", script])
}

fn loopback(asked: Program) -> Program {
    Program { network: Network::Loopback, ..asked }
}

fn attempts() -> Vec<(&'static str, Program)> {
    vec![
        ("read outside", bash("cat SECRET")),
        ("read outside through a link", bash("ln -s SECRET l; cat l")),
        ("read outside through a hard link", bash("ln SECRET h && cat h")),
        ("read outside relatively", bash("cat ../secret ../../../../../../SECRET")),
        ("write outside", bash("echo changed >> SECRET && echo escaped")),
        (
            "remove outside",
            bash("rm -f SECRET && test ! -e /usr && echo escaped; mv SECRET . && echo escaped"),
        ),
        ("change the mode outside", bash("test -e SECRET && chmod 777 SECRET && echo escaped")),
        (
            "change the mode of the system",
            bash("chmod 755 /usr/bin/env && echo escaped; chmod 666 /dev/null && echo escaped"),
        ),
        (
            "change it by descriptor",
            perl("open(F, '<', '/usr/bin/env') and chmod(0755, *F) and print 'escaped'"),
        ),
        ("read accounts", bash("cat /etc/shadow /etc/ssh/*_key && echo escaped")),
        ("write the system", bash("touch /usr/bin/x && echo escaped; touch /etc/x && echo escaped")),
        ("write the kernel's settings", bash("echo x > /proc/sys/kernel/core_pattern && echo escaped")),
        (
            "read other environments",
            bash(
                "for p in /proc/[0-9]*; do [ $p = /proc/$$ ] || cat $p/environ 2>/dev/null; done | tr '\\0' '\\n' | grep -q CARGO && echo escaped",
            ),
        ),
        ("end its guard", bash("kill -9 $PPID; kill -9 1; sleep 0.1; kill -0 $PPID 2>/dev/null; true")),
        ("open TCP", perl("socket(S, AF_INET, SOCK_STREAM, 0) and print 'escaped'")),
        ("open MPTCP", perl("socket(S, AF_INET, SOCK_STREAM, 262) and print 'escaped'")),
        ("open UDP", perl("socket(S, AF_INET, SOCK_DGRAM, 0) and print 'escaped'")),
        ("open Unix", perl("socket(S, AF_UNIX, SOCK_STREAM, 0) and print 'escaped'")),
        ("pair datagram sockets", perl("socketpair(A, B, AF_UNIX, SOCK_DGRAM, 0) and print 'escaped'")),
        ("open TCP by bash", bash("echo > /dev/tcp/127.0.0.1/22 && echo escaped")),
        ("become another", perl("$> = 1; $> == 1 and print 'escaped'")),
        ("make a set-uid file", bash("cp /bin/true t; chmod u+s t; [ -u t ] && echo escaped; rm t")),
        ("make a namespace", bash("unshare -U true && echo escaped; unshare -m true && echo escaped")),
        ("mount", bash("mkdir -p m; mount -t tmpfs x m && echo escaped")),
        (
            "use a descriptor",
            bash("for f in 3 4 5 6 7 8 9 10 200; do (: >&$f) 2>/dev/null && echo escaped; done"),
        ),
        ("use a terminal", bash("(: > /dev/tty) 2>/dev/null && echo escaped")),
        ("trace its guard", perl("syscall(101, 16, getppid(), 0, 0) == 0 and print 'escaped'")),
        (
            "call by the other numbers of x32",
            perl("my $fd = syscall(0x40000000 + 41, 2, 1, 0); $fd >= 0 and print 'escaped'"),
        ),
    ]
}

#[test]
fn in_namespaces() {
    let mut all = attempts();
    all.extend([
        ("loopback: MPTCP", loopback(perl("socket(S, AF_INET, SOCK_STREAM, 262) and print 'escaped'"))),
        ("loopback: Unix", loopback(perl("socket(S, AF_UNIX, SOCK_STREAM, 0) and print 'escaped'"))),
        (
            "loopback: fast open",
            loopback(perl(
                "socket(S, AF_INET, SOCK_STREAM, 0) or die; \
                 defined send(S, 'x', 0x20000000, sockaddr_in(80, inet_aton('192.0.2.1'))) and print 'escaped'",
            )),
        ),
    ]);
    check(&[], &all);
}

#[test]
fn with_landlock_alone() {
    check(&["--mask", "no-userns"], &attempts());
}
