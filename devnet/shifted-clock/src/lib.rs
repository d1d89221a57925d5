//! A wall clock for tests that one process alone sees, and that can be set while it runs: loaded with `LD_PRELOAD`, it adds to
//! `CLOCK_REALTIME` what the first eight bytes of a file say (seconds, a little-endian signed number). It never touches the clocks
//! that nobody can set: `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` are the machine's own. It is never shipped.
//!
//! `SHIFTED_CLOCK` in the environment names the file. It is mapped when the program is loaded, before that gives up its right to
//! open files.

use std::ffi::CStr;
use std::ptr;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use libc::{c_int, clockid_t, time_t, timespec};

/// The file's first bytes; null without one.
static SHIFT: AtomicPtr<AtomicI64> = AtomicPtr::new(ptr::null_mut());

const NAME: &CStr = c"SHIFTED_CLOCK";

/// Runs before the program's own `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static LOAD: extern "C" fn() = load;

extern "C" fn load() {
    // SAFETY: nothing else runs yet; the name and what `getenv` gives are strings that end in a zero byte, the file's number is
    // what `open` gave, and the mapping is never taken away.
    unsafe {
        let file = libc::getenv(NAME.as_ptr());
        if file.is_null() {
            return;
        }
        let opened = libc::open(file, libc::O_RDONLY | libc::O_CLOEXEC);
        let bytes = size_of::<AtomicI64>();
        let at = libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ, libc::MAP_SHARED, opened, 0);
        libc::close(opened);
        if at == libc::MAP_FAILED {
            // A test that believes in a clock that is not there would say nothing.
            libc::abort();
        }
        SHIFT.store(at.cast(), Ordering::Release);
    }
}

fn shift() -> i64 {
    let at = SHIFT.load(Ordering::Acquire);
    // SAFETY: it is null, or a mapping of eight aligned bytes that stays for the process's life.
    let shift = unsafe { at.as_ref() };
    shift.map_or(0, |shift| shift.load(Ordering::Relaxed))
}

/// As the C library's, but for `CLOCK_REALTIME`.
///
/// # Safety
/// `to` must be valid for a write, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, to: *mut timespec) -> c_int {
    // SAFETY: the kernel looks at the pointer itself, and writes it alone.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, to) };
    // SAFETY: the kernel has just written to it, or it is null.
    let time = unsafe { to.as_mut() };
    if let Some(time) = time.filter(|_| done == 0 && clock == libc::CLOCK_REALTIME) {
        time.tv_sec = time.tv_sec.saturating_add(shift());
    }
    if done == 0 { 0 } else { -1 }
}

/// As the C library's.
///
/// # Safety
/// `to` must be valid for a write, or null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(to: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: it is ours to write to.
    unsafe { clock_gettime(libc::CLOCK_REALTIME, &raw mut now) };
    // SAFETY: the caller promises that it can be written, or it is null.
    if let Some(to) = unsafe { to.as_mut() } {
        *to = now.tv_sec;
    }
    now.tv_sec
}
