//! Counts the memory that an input takes at its highest, on the thread that runs it. It never refuses any.
#![allow(unsafe_code, reason = "an allocator is written in no other way")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

#[global_allocator]
static COUNTING: Counting = Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The most that this thread had at once while it ran, in bytes, beside what it had before; what was asked for counts,
/// whether it was ever written to or not.
pub(crate) fn peak(run: impl FnOnce()) -> usize {
    LIVE.set(0);
    PEAK.set(0);
    run();
    PEAK.get().max(0).unsigned_abs()
}

struct Counting;

// SAFETY: each call is passed to the system's allocator as it came. Beside it two numbers of this thread are changed, which
// take no memory and have nothing to drop.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grow(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        grow(0, layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grow(layout.size(), 0);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        grow(size, layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(block, layout, size) }
    }
}

/// A layout is never larger than an `isize`.
fn grow(more: usize, less: usize) {
    let live = LIVE.get() + more.cast_signed() - less.cast_signed();
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}
