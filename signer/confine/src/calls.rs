//! Seccomp: which system calls this process can still make. What is not listed does not exist for it (`ENOSYS`, so
//! that a newer library falls back); what would lead out of the sandbox is refused (`EPERM`).

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::{ConfineError, Confinement, Reach};

/// What services of this kind need: files, sockets that are open already, threads, time, memory.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Files.
    libc::SYS_read, libc::SYS_write, libc::SYS_readv, libc::SYS_writev, libc::SYS_pread64,
    libc::SYS_pwrite64, libc::SYS_preadv, libc::SYS_pwritev, libc::SYS_preadv2, libc::SYS_pwritev2,
    libc::SYS_close, libc::SYS_close_range, libc::SYS_openat, libc::SYS_openat2, libc::SYS_lseek,
    libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_faccessat, libc::SYS_faccessat2, libc::SYS_readlinkat, libc::SYS_getdents64,
    libc::SYS_getcwd, libc::SYS_mkdirat, libc::SYS_unlinkat, libc::SYS_renameat,
    libc::SYS_renameat2, libc::SYS_linkat, libc::SYS_fchmod, libc::SYS_fchmodat, libc::SYS_fchown,
    libc::SYS_fchownat, libc::SYS_utimensat, libc::SYS_umask, libc::SYS_ftruncate,
    libc::SYS_fallocate, libc::SYS_fadvise64, libc::SYS_fsync, libc::SYS_fdatasync,
    libc::SYS_sync_file_range, libc::SYS_flock, libc::SYS_fcntl, libc::SYS_ioctl, libc::SYS_dup,
    libc::SYS_dup3, libc::SYS_pipe2, libc::SYS_sendfile, libc::SYS_copy_file_range,
    libc::SYS_splice, libc::SYS_memfd_create, libc::SYS_chdir, libc::SYS_fchdir,
    libc::SYS_fgetxattr, libc::SYS_getxattr, libc::SYS_lgetxattr, libc::SYS_sync,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_eventfd2, libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime, libc::SYS_timerfd_gettime, libc::SYS_signalfd4,
    libc::SYS_inotify_init1, libc::SYS_inotify_add_watch, libc::SYS_inotify_rm_watch,
    libc::SYS_futex, libc::SYS_futex_waitv, libc::SYS_nanosleep, libc::SYS_clock_nanosleep,
    // Sockets; `socket`, `connect` and `listen` have conditions.
    libc::SYS_accept, libc::SYS_accept4, libc::SYS_bind, libc::SYS_getsockname,
    libc::SYS_getpeername, libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_socketpair,
    libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_sendmmsg, libc::SYS_recvfrom,
    libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_shutdown,
    // Memory.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect,
    libc::SYS_madvise, libc::SYS_msync, libc::SYS_mincore, libc::SYS_mlock, libc::SYS_mlock2,
    libc::SYS_munlock, libc::SYS_mlockall, libc::SYS_munlockall, libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    // For the second filter, which refuses a third.
    libc::SYS_seccomp,
    // Threads, time, itself; `clone` and `tgkill` have conditions.
    libc::SYS_set_tid_address, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid, libc::SYS_getpgid,
    libc::SYS_getsid, libc::SYS_getuid, libc::SYS_geteuid, libc::SYS_getgid, libc::SYS_getegid,
    libc::SYS_getresuid, libc::SYS_getresgid, libc::SYS_getgroups, libc::SYS_exit,
    libc::SYS_exit_group, libc::SYS_wait4, libc::SYS_waitid, libc::SYS_prctl,
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending, libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend,
    libc::SYS_sigaltstack, libc::SYS_restart_syscall, libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min, libc::SYS_getpriority, libc::SYS_getcpu,
    libc::SYS_getrlimit, libc::SYS_getrusage, libc::SYS_times, libc::SYS_clock_gettime,
    libc::SYS_clock_getres, libc::SYS_gettimeofday, libc::SYS_getitimer, libc::SYS_setitimer,
    libc::SYS_timer_create, libc::SYS_timer_settime, libc::SYS_timer_gettime,
    libc::SYS_timer_delete, libc::SYS_getrandom, libc::SYS_uname, libc::SYS_sysinfo,
    // System V semaphores and shared memory: modules that speak to a daemon of their own.
    libc::SYS_shmget, libc::SYS_shmat, libc::SYS_shmdt, libc::SYS_shmctl, libc::SYS_semget,
    libc::SYS_semop, libc::SYS_semtimedop, libc::SYS_semctl,
];

/// The same by their older names, which only some machines have.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    libc::SYS_open, libc::SYS_creat, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access,
    libc::SYS_readlink, libc::SYS_mkdir, libc::SYS_rmdir, libc::SYS_unlink, libc::SYS_rename,
    libc::SYS_link, libc::SYS_chmod, libc::SYS_chown, libc::SYS_lchown, libc::SYS_utime,
    libc::SYS_utimes, libc::SYS_futimesat, libc::SYS_getdents, libc::SYS_dup2, libc::SYS_pipe,
    libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait,
    libc::SYS_eventfd, libc::SYS_inotify_init, libc::SYS_getpgrp, libc::SYS_alarm,
    libc::SYS_pause, libc::SYS_time, libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Ways out, refused by name so that a try is seen for what it is.
#[rustfmt::skip]
const REFUSED: &[i64] = &[
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev, libc::SYS_pidfd_getfd, libc::SYS_kcmp, libc::SYS_unshare,
    libc::SYS_setns, libc::SYS_mount, libc::SYS_umount2, libc::SYS_pivot_root, libc::SYS_chroot,
    libc::SYS_open_by_handle_at, libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_settimeofday,
    libc::SYS_clock_settime, libc::SYS_adjtimex, libc::SYS_clock_adjtime, libc::SYS_sethostname,
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setresuid, libc::SYS_setresgid,
    libc::SYS_setgroups, libc::SYS_capset, libc::SYS_kill, libc::SYS_tkill,
    libc::SYS_rt_sigqueueinfo, libc::SYS_pidfd_send_signal, libc::SYS_personality, libc::SYS_seccomp,
];
#[cfg(target_arch = "x86_64")]
const REFUSED_OLDER: &[i64] = &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_iopl, libc::SYS_ioperm];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_OLDER: &[i64] = &[];

/// Flags that make a namespace.
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWCGROUP;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Confines the calling thread; returns what the kernel lacks.
pub(crate) fn enforce(allowed: &Confinement) -> Result<Option<String>, ConfineError> {
    let (known, ways_out) = programs(allowed)?;
    // The newest filter's word counts where both refuse, so the one that says EPERM comes last.
    match seccompiler::apply_filter(&known).and_then(|()| seccompiler::apply_filter(&ways_out)) {
        Ok(()) => Ok(None),
        Err(error) => Ok(Some(format!("seccomp ({error})"))),
    }
}

fn programs(allowed: &Confinement) -> Result<(BpfProgram, BpfProgram), BackendError> {
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    let (nosys, perm) = (errno(libc::ENOSYS), errno(libc::EPERM));
    let known = SeccompFilter::new(known(allowed)?, nosys, SeccompAction::Allow, target)?;
    let out = SeccompFilter::new(ways_out(allowed)?, SeccompAction::Allow, perm, target)?;
    Ok((known.try_into()?, out.try_into()?))
}

fn errno(number: i32) -> SeccompAction {
    SeccompAction::Errno(number.unsigned_abs())
}

fn known(allowed: &Confinement) -> Result<Rules, BackendError> {
    let mut rules: Rules = ALLOWED.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    // Threads only. Where flags lie in memory they cannot be seen: `clone3` does not exist, libraries fall back.
    let looked_at = flags(libc::CLONE_THREAD | NAMESPACES);
    let thread = word(0, SeccompCmpOp::MaskedEq(looked_at), libc::CLONE_THREAD)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![thread])?]);
    // A process may end itself (abort), and nobody else.
    let own = word(0, SeccompCmpOp::Eq, own_pid())?;
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![own])?]);
    // Limits may be looked at and lowered, of this process alone.
    let own = [word(0, SeccompCmpOp::Eq, 0)?, word(0, SeccompCmpOp::Eq, own_pid())?];
    let own = own.map(|condition| SeccompRule::new(vec![condition]));
    rules.insert(libc::SYS_prlimit64, own.into_iter().collect::<Result<_, _>>()?);
    rules.insert(libc::SYS_socket, Vec::new());
    if allowed.reach != Reach::Nobody {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if !allowed.listen.is_empty() {
        rules.insert(libc::SYS_listen, Vec::new());
    }
    Ok(rules)
}

fn ways_out(allowed: &Confinement) -> Result<Rules, BackendError> {
    let refused = REFUSED.iter().chain(REFUSED_OLDER);
    let mut rules: Rules = refused.map(|call| (*call, Vec::new())).collect();
    if allowed.reach == Reach::Nobody {
        rules.insert(libc::SYS_connect, Vec::new());
    }
    if allowed.listen.is_empty() {
        rules.insert(libc::SYS_listen, Vec::new());
    }
    // New processes.
    let process = word(0, SeccompCmpOp::MaskedEq(flags(libc::CLONE_THREAD)), 0)?;
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![process])?]);
    // What `harden` did stays done.
    let undo = [libc::PR_SET_DUMPABLE, libc::PR_SET_PTRACER];
    let undo = undo.map(|option| SeccompRule::new(vec![word(0, SeccompCmpOp::Eq, option)?]));
    rules.insert(libc::SYS_prctl, undo.into_iter().collect::<Result<_, _>>()?);
    // A message may open a connection by the way, unseen by whoever watches `connect`.
    let fast = |argument| {
        let open = SeccompCmpOp::MaskedEq(flags(libc::MSG_FASTOPEN));
        SeccompRule::new(vec![word(argument, open, libc::MSG_FASTOPEN)?])
    };
    for (call, argument) in [(libc::SYS_sendto, 3), (libc::SYS_sendmsg, 2), (libc::SYS_sendmmsg, 3)]
    {
        rules.insert(call, vec![fast(argument)?]);
    }
    rules.insert(libc::SYS_socket, sockets(allowed)?);
    Ok(rules)
}

/// Sockets that cannot be made.
fn sockets(allowed: &Confinement) -> Result<Vec<SeccompRule>, BackendError> {
    // Families beside the allowed ones: packets, kernel crypto, netlink, virtual machines.
    let mut families = Vec::new();
    if allowed.reach != Reach::Nobody {
        families.push(libc::AF_UNIX);
    }
    if !allowed.listen.is_empty() || matches!(allowed.reach, Reach::Port(_) | Reach::Network) {
        families.extend([libc::AF_INET, libc::AF_INET6]);
    }
    let other: Result<Vec<_>, _> =
        families.iter().map(|family| word(0, SeccompCmpOp::Ne, *family)).collect();
    let mut sockets = Vec::new();
    match other? {
        none if none.is_empty() => return Ok(sockets),
        other => sockets.push(SeccompRule::new(other)?),
    }
    // No datagrams but with a network HSM: they need no connection to leave.
    if allowed.reach != Reach::Network {
        let unix = word(0, SeccompCmpOp::Ne, libc::AF_UNIX)?;
        let kind = SeccompCmpOp::MaskedEq(0xf);
        let stream = |kind_wanted| word(1, kind.clone(), kind_wanted);
        for kind_refused in [libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET] {
            sockets.push(SeccompRule::new(vec![unix.clone(), stream(kind_refused)?])?);
        }
    }
    Ok(sockets)
}

/// A condition on the lower half of an argument, which is all of these that the kernel looks at.
fn word(argument: u8, op: SeccompCmpOp, value: i32) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, flags(value))
}

fn flags(value: i32) -> u64 {
    u64::from(value.cast_unsigned())
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}
