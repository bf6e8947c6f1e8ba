//! Lists of system calls. A call that is in no list does not exist for whoever is confined (`ENOSYS`), which covers
//! what future kernels add, `io_uring` and `clone3` (its flags are out of a filter's sight; C libraries fall back).

use libc::*;

pub(super) type Calls = &'static [c_long];

/// Memory, threads, time, signals and work on what is already open.
#[rustfmt::skip]
pub(super) const BASE: Calls = &[
    SYS_brk, SYS_capget, SYS_clock_getres, SYS_clock_gettime, SYS_clock_nanosleep, SYS_clone, SYS_close,
    SYS_close_range, SYS_copy_file_range, SYS_dup, SYS_dup3, SYS_epoll_create1, SYS_epoll_ctl, SYS_epoll_pwait,
    SYS_epoll_pwait2, SYS_eventfd2, SYS_exit, SYS_exit_group, SYS_fadvise64, SYS_fallocate, SYS_fcntl, SYS_fdatasync,
    SYS_flock, SYS_fstat, SYS_fsync, SYS_ftruncate, SYS_futex, SYS_futex_waitv, SYS_get_robust_list, SYS_getcpu,
    SYS_getegid, SYS_geteuid, SYS_getgid, SYS_getgroups, SYS_getitimer, SYS_getpgid, SYS_getpid, SYS_getppid,
    SYS_getpriority, SYS_getrandom, SYS_getresgid, SYS_getresuid, SYS_getrlimit, SYS_getrusage, SYS_getsid, SYS_gettid,
    SYS_gettimeofday, SYS_getuid, SYS_ioctl, SYS_lseek, SYS_madvise, SYS_membarrier, SYS_memfd_create, SYS_mincore,
    SYS_mlock, SYS_mlock2, SYS_mlockall, SYS_mmap, SYS_mprotect, SYS_mremap, SYS_msync, SYS_munlock, SYS_munlockall,
    SYS_munmap, SYS_nanosleep, SYS_pipe2, SYS_pkey_alloc, SYS_pkey_free, SYS_pkey_mprotect, SYS_ppoll, SYS_prctl,
    SYS_pread64, SYS_preadv, SYS_preadv2, SYS_prlimit64, SYS_pselect6, SYS_pwrite64, SYS_pwritev, SYS_pwritev2,
    SYS_read, SYS_readahead, SYS_readv, SYS_restart_syscall, SYS_rseq, SYS_rt_sigaction, SYS_rt_sigpending,
    SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_sched_get_priority_max,
    SYS_sched_get_priority_min, SYS_sched_getaffinity, SYS_sched_getattr, SYS_sched_getparam, SYS_sched_getscheduler,
    SYS_sched_rr_get_interval, SYS_sched_setaffinity, SYS_sched_yield, SYS_sendfile, SYS_set_robust_list,
    SYS_set_tid_address, SYS_setitimer, SYS_setpriority, SYS_sigaltstack, SYS_signalfd4, SYS_splice,
    SYS_sync_file_range, SYS_sysinfo, SYS_tee, SYS_tgkill, SYS_timer_create, SYS_timer_delete, SYS_timer_getoverrun,
    SYS_timer_gettime, SYS_timer_settime, SYS_timerfd_create, SYS_timerfd_gettime, SYS_timerfd_settime, SYS_times,
    SYS_umask, SYS_uname, SYS_vmsplice, SYS_write, SYS_writev,
    MAP_SHADOW_STACK, FUTEX_WAKE_2, FUTEX_WAIT_2, FUTEX_REQUEUE_2,
];

/// Names in the file system. What they reach is decided by mounts and Landlock.
#[rustfmt::skip]
pub(super) const FILES: Calls = &[
    SYS_chdir, SYS_faccessat, SYS_faccessat2, SYS_fchdir, SYS_fchmod, SYS_fchown, SYS_fgetxattr, SYS_flistxattr,
    SYS_fremovexattr, SYS_fsetxattr, SYS_fstatfs, SYS_getcwd, SYS_getdents64, SYS_getxattr, SYS_inotify_add_watch,
    SYS_inotify_init1, SYS_inotify_rm_watch, SYS_lgetxattr, SYS_linkat, SYS_listxattr, SYS_llistxattr, SYS_mkdirat,
    SYS_newfstatat, SYS_openat, SYS_readlinkat, SYS_renameat2, SYS_statfs, SYS_statx, SYS_symlinkat, SYS_sync,
    SYS_syncfs, SYS_truncate, SYS_unlinkat, SYS_utimensat, CACHESTAT,
];

/// Changes of owner, times and attributes by path: Landlock does not see these.
#[rustfmt::skip]
pub(super) const METADATA: Calls = &[
    SYS_fchownat, SYS_lremovexattr, SYS_lsetxattr, SYS_removexattr, SYS_setxattr,
];

/// Changes of mode by path.
pub(super) const MODES: Calls = &[SYS_fchmodat, FCHMODAT2];

/// Changes of all of these by descriptor.
pub(super) const OPEN_METADATA: Calls =
    &[SYS_fchmod, SYS_fchown, SYS_fremovexattr, SYS_fsetxattr, SYS_utimensat];

/// Only cap-std's kind of user: a filter cannot see the mode in its structure, so programs do not get it.
pub(super) const OPENAT2: Calls = &[SYS_openat2];

/// Programs and processes of one's own.
#[rustfmt::skip]
pub(super) const PROCESSES: Calls = &[
    SYS_capset, SYS_execve, SYS_execveat, SYS_ioprio_get, SYS_ioprio_set, SYS_kill, SYS_landlock_add_rule,
    SYS_landlock_create_ruleset, SYS_landlock_restrict_self, SYS_mknodat, SYS_personality, SYS_pidfd_open,
    SYS_pidfd_send_signal, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_sched_setattr, SYS_sched_setparam,
    SYS_sched_setscheduler, SYS_seccomp, SYS_setfsgid, SYS_setfsuid, SYS_setgid, SYS_setgroups, SYS_setpgid,
    SYS_setregid, SYS_setresgid, SYS_setresuid, SYS_setreuid, SYS_setrlimit, SYS_setsid, SYS_setuid, SYS_tkill,
    SYS_wait4, SYS_waitid,
];

/// System V and POSIX message passing, which belong to an IPC namespace and not to a process.
#[rustfmt::skip]
pub(super) const IPC: Calls = &[
    SYS_mq_getsetattr, SYS_mq_notify, SYS_mq_open, SYS_mq_timedreceive, SYS_mq_timedsend, SYS_mq_unlink, SYS_msgctl,
    SYS_msgget, SYS_msgrcv, SYS_msgsnd, SYS_semctl, SYS_semget, SYS_semop, SYS_semtimedop, SYS_shmat, SYS_shmctl,
    SYS_shmdt, SYS_shmget,
];

/// Work on a socket that is there.
#[rustfmt::skip]
pub(super) const CONNECTED: Calls = &[
    SYS_getpeername, SYS_getsockname, SYS_getsockopt, SYS_recvfrom, SYS_recvmmsg, SYS_recvmsg, SYS_sendmmsg,
    SYS_sendmsg, SYS_sendto, SYS_setsockopt, SYS_shutdown, SYS_socketpair,
];

pub(super) const DIAL: Calls = &[SYS_connect, SYS_socket];

pub(super) const SERVE: Calls = &[SYS_accept, SYS_accept4, SYS_bind, SYS_listen];

/// Known and never for programs: they get `EPERM`, the launcher itself needs some of them.
#[rustfmt::skip]
pub(super) const REFUSED: Calls = &[
    SYS_acct, SYS_add_key, SYS_adjtimex, SYS_bpf, SYS_chroot, SYS_clock_adjtime, SYS_clock_settime, SYS_delete_module,
    SYS_fanotify_init, SYS_fanotify_mark, SYS_finit_module, SYS_fsconfig, SYS_fsmount, SYS_fsopen, SYS_fspick,
    SYS_init_module, SYS_io_uring_enter, SYS_io_uring_register, SYS_io_uring_setup, SYS_kcmp, SYS_kexec_load,
    SYS_keyctl, SYS_lookup_dcookie, SYS_migrate_pages, SYS_mount, SYS_mount_setattr, SYS_move_mount, SYS_move_pages,
    SYS_name_to_handle_at, SYS_nfsservctl, SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open, SYS_pidfd_getfd,
    SYS_pivot_root, SYS_process_madvise, SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_quotactl,
    SYS_reboot, SYS_request_key, SYS_setdomainname, SYS_sethostname, SYS_setns, SYS_settimeofday, SYS_swapoff,
    SYS_swapon, SYS_syslog, SYS_umount2, SYS_unshare, SYS_userfaultfd, SYS_vhangup,
];

// Numbers that some C libraries' headers do not name yet; they are the same on every architecture.
const CACHESTAT: c_long = 451;
const FCHMODAT2: c_long = 452;
const MAP_SHADOW_STACK: c_long = 453;
const FUTEX_WAKE_2: c_long = 454;
const FUTEX_WAIT_2: c_long = 455;
const FUTEX_REQUEUE_2: c_long = 456;

/// The same groups under their older names, which only this architecture has.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
pub(super) mod old {
    use super::Calls;
    use libc::*;

    pub(in super::super) const BASE: Calls = &[
        SYS_alarm, SYS_arch_prctl, SYS_dup2, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_getpgrp, SYS_pause,
        SYS_pipe, SYS_poll, SYS_select, SYS_signalfd, SYS_time,
    ];
    pub(in super::super) const FILES: Calls = &[
        SYS_access, SYS_creat, SYS_getdents, SYS_inotify_init, SYS_link, SYS_lstat, SYS_mkdir, SYS_open, SYS_readlink,
        SYS_rename, SYS_renameat, SYS_rmdir, SYS_stat, SYS_symlink, SYS_unlink,
    ];
    pub(in super::super) const METADATA: Calls = &[
        SYS_chown, SYS_futimesat, SYS_lchown, SYS_utime, SYS_utimes,
    ];
    pub(in super::super) const MODES: Calls = &[SYS_chmod];
    pub(in super::super) const PROCESSES: Calls = &[SYS_fork, SYS_mknod, SYS_vfork];
    pub(in super::super) const REFUSED: Calls = &[
        SYS_ioperm, SYS_iopl, SYS_kexec_file_load, SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs,
    ];
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) mod old {
    use super::Calls;

    pub(in super::super) const BASE: Calls = &[];
    pub(in super::super) const FILES: Calls = &[libc::SYS_renameat];
    pub(in super::super) const METADATA: Calls = &[];
    pub(in super::super) const MODES: Calls = &[];
    pub(in super::super) const PROCESSES: Calls = &[];
    pub(in super::super) const REFUSED: Calls = &[];
}
