//! The system calls that no crate of ours offers safely, each wrapped once. All `unsafe` of this crate is here.

use rustix::process::Pid;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// Version of Landlock of the running kernel, 0 without it.
#[expect(
    unsafe_code,
    reason = "the landlock crate hides the version on purpose; masks and the table need it"
)]
pub(crate) fn landlock_abi() -> u32 {
    const VERSION: libc::c_ulong = 1;
    // SAFETY: with this flag the call takes no memory and makes nothing.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION) };
    u32::try_from(abi).unwrap_or(0)
}

/// Says whether it is empty afterwards.
#[expect(unsafe_code, reason = "rustix knows only capabilities by name; the kernel may know more")]
pub(crate) fn clear_bounding_set() -> bool {
    // The kernel answers EINVAL from the first number on that is no capability.
    (0..=63).all(|capability: libc::c_ulong| {
        // SAFETY: takes numbers only.
        let answer = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        answer == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
    })
}

/// A child made by [`fork_into`].
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    /// Readable when the child has ended.
    pub(crate) pidfd: OwnedFd,
}

/// Forks into new namespaces (`flags` may be 0). `None` is the child.
///
/// Invariant: the caller has one thread, so that the child may allocate.
#[expect(unsafe_code, reason = "clone with namespaces and a pidfd is in no library")]
pub(crate) fn fork_into(flags: libc::c_int) -> io::Result<Option<Child>> {
    let mut pidfd: RawFd = -1;
    let flags = libc::c_long::from(flags | libc::CLONE_PIDFD | libc::SIGCHLD);
    // SAFETY: no stack is given, so this is a fork: the child has a copy of everything, and this process one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0usize, &raw mut pidfd, 0usize, 0usize) };
    match pid {
        0 => Ok(None),
        1.. => {
            // SAFETY: the kernel has just made this descriptor for us.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            Ok(Some(Child { pid, pidfd }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process at once: nothing is flushed or run that belongs to the process it was forked from.
#[expect(unsafe_code, reason = "std's exit runs the handlers of the process we were forked from")]
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes a number.
    unsafe { libc::_exit(code) }
}

/// Closes every descriptor from `first` on.
#[expect(
    unsafe_code,
    reason = "closes descriptors behind the back of their owners; callers have just forked"
)]
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: the callers go on to use only descriptors below `first`.
    match unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Marks every descriptor from `first` on to be closed by the next program.
#[expect(unsafe_code, reason = "not in rustix")]
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: closes nothing now.
    let answer =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Makes `from` also known as the number `to`, without close-on-exec.
#[expect(unsafe_code, reason = "rustix's dup2 wants an owner of the target")]
pub(crate) fn duplicate_to(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    // SAFETY: the callers have just forked and own all numbers.
    match unsafe { libc::dup2(from.as_raw_fd(), to) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes over a descriptor that whoever started this process left open for it.
#[expect(unsafe_code, reason = "a number on the command line becomes a descriptor")]
pub(crate) fn take_inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow ends within this line; a closed number is an error of the call.
    rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, rustix::io::FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and the command line gives it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Takes over an inherited descriptor and closes every other one but the standard streams.
///
/// Invariant: called first, before this process has opened anything.
pub(crate) fn keep_only(number: RawFd) -> io::Result<OwnedFd> {
    const PLACE: RawFd = 3;
    let given = take_inherited(number)?;
    if number != PLACE {
        duplicate_to(given.as_fd(), PLACE)?;
    }
    // Its number is closed below, or is the place itself.
    std::mem::forget(given);
    close_from(PLACE + 1)?;
    take_inherited(PLACE)
}

/// Leaves a descriptor open in the program that `command` starts, under the same number. It has to stay open here until
/// then.
#[expect(unsafe_code, reason = "pre_exec is unsafe")]
pub fn inherit(command: &mut Command, number: RawFd) {
    let keep = move || {
        // SAFETY: open until the command was started; the call is safe between fork and exec.
        Ok(rustix::io::fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, rustix::io::FdFlags::empty())?)
    };
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(keep) };
}

/// Moves the only thread of this process into a user and a mount namespace of its own.
#[expect(unsafe_code, reason = "rustix marks it unsafe for what shares descriptors, which is not asked for")]
pub(crate) fn own_mounts() -> io::Result<()> {
    // SAFETY: takes numbers only; neither descriptors nor memory stop being shared.
    match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Which mounts [`set_mount_attributes`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounts {
    ThisOne,
    ThisAndBelow,
}

/// Sets attributes of mounts.
#[expect(unsafe_code, reason = "mount_setattr is not in rustix")]
pub(crate) fn set_mount_attributes(path: &Path, mounts: Mounts, set: u64) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes outlive the call; the size is theirs.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            if mounts == Mounts::ThisAndBelow { libc::AT_RECURSIVE } else { 0 },
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Brings up the loopback interface of this network namespace.
#[expect(unsafe_code, reason = "an ioctl")]
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: all zeros is a valid value of this C structure.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed() as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call and is what SIOCSIFFLAGS takes.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A program with its arguments and variables, ready for the kernel.
#[derive(Debug)]
pub(crate) struct Image {
    path: CString,
    arguments: Vec<CString>,
    variables: Vec<CString>,
}

impl Image {
    /// # Errors
    /// When a text holds a zero byte.
    pub(crate) fn new(path: &str, arguments: &[String], variables: &[String]) -> io::Result<Self> {
        let text = |text: &String| CString::new(text.as_str()).map_err(io::Error::from);
        Ok(Self {
            path: CString::new(path)?,
            arguments: arguments.iter().map(text).collect::<io::Result<_>>()?,
            variables: variables.iter().map(text).collect::<io::Result<_>>()?,
        })
    }

    /// Becomes this program; returns only to say why not.
    #[expect(unsafe_code, reason = "execve")]
    pub(crate) fn execute(&self) -> io::Error {
        let ended = |texts: &[CString]| -> Vec<*const libc::c_char> {
            texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
        };
        let (arguments, variables) = (ended(&self.arguments), ended(&self.variables));
        // SAFETY: both arrays end with a null and point to texts that live as long as `self`.
        unsafe { libc::execve(self.path.as_ptr(), arguments.as_ptr(), variables.as_ptr()) };
        io::Error::last_os_error()
    }
}

/// Signals are asked for, not delivered: those given are blocked, and [`next_signal`] returns them.
#[expect(unsafe_code, reason = "signal sets")]
pub(crate) fn block_signals(signals: &[libc::c_int]) {
    // SAFETY: the set is initialised before use and outlives the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Signals are asked for, not delivered: those given are blocked, and [`read_signal`] finds them in what is made here.
/// A blocked signal also reaches the first process of a PID namespace, which has no default action.
#[expect(unsafe_code, reason = "signalfd is in no library of ours")]
pub(crate) fn signals(which: &[libc::c_int]) -> io::Result<OwnedFd> {
    block_signals(which);
    // SAFETY: the set is initialised before use and outlives the call; the descriptor is new and nobody else's.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in which {
            libc::sigaddset(&raw mut set, *signal);
        }
        match libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd)),
        }
    }
}

/// The next signal that came, if one did.
pub(crate) fn read_signal(from: &OwnedFd) -> io::Result<Option<libc::c_int>> {
    let mut info = [0; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(from, &mut info) {
        // Its number is the first field.
        Ok(_) => {
            Ok(info.first_chunk::<4>().and_then(|number| i32::try_from(u32::from_ne_bytes(*number)).ok()))
        }
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for one of the blocked signals.
#[expect(unsafe_code, reason = "signal sets")]
pub(crate) fn next_signal(signals: &[libc::c_int]) -> libc::c_int {
    // SAFETY: the set is initialised before use and outlives the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
    }
}

/// A request to end (SIGTERM) that comes from now on waits for [`release_termination`]. The first process of a container
/// would not get it at all before it has a handler.
pub fn hold_termination() {
    block_signals(&[libc::SIGTERM]);
}

/// Lets it through to the calling thread.
#[expect(unsafe_code, reason = "signal sets")]
pub fn release_termination() {
    // SAFETY: the set is initialised before use and outlives the calls.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Nothing blocked, nothing ignored: what a program expects to start with.
#[expect(unsafe_code, reason = "signal sets")]
pub(crate) fn reset_signals() {
    // SAFETY: numbers that are no signal are refused by the call; the set is initialised before use.
    unsafe {
        for signal in 1..=64 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// What became of a child: `waitpid` with the raw status, of any child, cloned ones too.
#[expect(unsafe_code, reason = "rustix hides the event bits of traced children")]
pub(crate) fn wait_any() -> io::Result<Option<(libc::pid_t, libc::c_int)>> {
    let mut status = 0;
    // SAFETY: the status outlives the call.
    match unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::WNOHANG) } {
        0 => Ok(None),
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Some((pid, status))),
    }
}

/// Asks to be told when this child is about to end, while its working directory can still be read, and when it becomes
/// another program.
#[expect(unsafe_code, reason = "ptrace")]
pub(crate) fn watch_end(pid: libc::pid_t) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_TRACEEXEC | libc::PTRACE_O_EXITKILL;
    // SAFETY: takes numbers only.
    match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0usize, libc::c_long::from(options)) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Lets a watched child go on: with the signal that it stopped for, or still stopped when its group is to be stopped.
#[expect(unsafe_code, reason = "ptrace")]
pub(crate) fn let_go_on(pid: libc::pid_t, signal: libc::c_int, stay_stopped: bool) {
    let request = if stay_stopped { libc::PTRACE_LISTEN } else { libc::PTRACE_CONT };
    // SAFETY: takes numbers only; a child that is gone is no error here.
    unsafe { libc::ptrace(request, pid, 0usize, libc::c_long::from(signal)) };
}

/// Sends a signal to whoever this process may send it, itself left out.
#[expect(unsafe_code, reason = "rustix's kill has no `everybody`")]
pub(crate) fn signal_everybody(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: takes numbers only.
    match unsafe { libc::kill(-1, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets `target`'s number name what `by` names; what it named is closed here.
#[expect(unsafe_code, reason = "rustix's dup2 wants the target mutable and owned")]
pub(crate) fn replace(target: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both are open; the number of `target` stays open and owned by whoever owned it.
    match unsafe { libc::dup3(by.as_raw_fd(), target.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes a system call that takes numbers, or addresses that the kernel refuses; for canaries. The answer is the error
/// number, 0 without one.
#[expect(unsafe_code, reason = "a canary makes calls that nobody wraps")]
pub(crate) fn attempt(call: libc::c_long, arguments: [usize; 4]) -> i32 {
    let [a, b, c, d] = arguments;
    // SAFETY: callers pass numbers, null, or addresses of constants that end with a zero.
    match unsafe { libc::syscall(call, a, b, c, d, 0usize, 0usize) } {
        -1 => io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO),
        _ => 0,
    }
}

/// Whether this process leads a session of its own.
#[expect(
    unsafe_code,
    reason = "rustix's getsid takes 0, a leader outside this PID namespace, for impossible"
)]
pub(crate) fn leads_its_session() -> bool {
    // SAFETY: takes a number.
    unsafe { libc::getsid(0) == libc::getpid() }
}

/// Ignores a signal.
#[expect(unsafe_code, reason = "signals")]
pub(crate) fn ignore_signal(signal: libc::c_int) {
    // SAFETY: takes numbers only.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

#[expect(unsafe_code, reason = "sysconf")]
pub(crate) fn page_bytes() -> u64 {
    // SAFETY: takes a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
