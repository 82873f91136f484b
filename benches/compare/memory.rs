//! Counts the bytes that this process has allocated and not freed. The allocator's own overhead and
//! the kernel's socket buffers are not included.

#![expect(unsafe_code, reason = "an allocator that counts is unsafe to implement")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering::Relaxed};

struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// True while allocations are counted. It is false while time is measured.
static IS_COUNTING: AtomicBool = AtomicBool::new(false);
/// The bytes allocated since counting began, less those freed.
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(bytes: usize, sign: isize) {
    if IS_COUNTING.load(Relaxed) {
        BYTES.fetch_add(sign * bytes.cast_signed(), Relaxed);
    }
}

// SAFETY: each call is forwarded to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(layout.size(), -1);
        count(size, 1);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller upholds the same contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Turns counting on or off.
pub fn set_counting(on: bool) {
    IS_COUNTING.store(on, Relaxed);
}

/// Returns the counted bytes. Only differences between two calls are meaningful.
pub fn allocated() -> isize {
    BYTES.load(Relaxed)
}
