//! Memory of one call: handed out once and never taken back, because the host drops the whole instance afterwards.
//! New memory comes from `memory.grow` alone, so nothing is ever placed over the stamp.
#![expect(unsafe_code, reason = "an allocator")]

use core::{
    alloc::{GlobalAlloc, Layout},
    arch::wasm32::{memory_grow, unreachable},
    ptr::{null_mut, with_exposed_provenance_mut},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

const PAGE: usize = 64 << 10;

struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

#[global_allocator]
static MEMORY: Bump = Bump { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };

// SAFETY: every block lies within pages that this allocator grew itself, and no two blocks overlap. There is one thread.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let start = self.next.load(Relaxed).next_multiple_of(layout.align());
        let Some(end) = start.checked_add(layout.size()) else { return null_mut() };
        if end <= self.end.load(Relaxed) {
            self.next.store(end, Relaxed);
            return with_exposed_provenance_mut(start);
        }
        let pages = (layout.size() + layout.align()).div_ceil(PAGE).max(4);
        let grown = memory_grow(0, pages);
        if grown == usize::MAX {
            return null_mut();
        }
        let start = (grown * PAGE).next_multiple_of(layout.align());
        self.next.store(start + layout.size(), Relaxed);
        self.end.store((grown + pages) * PAGE, Relaxed);
        with_exposed_provenance_mut(start)
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    unreachable()
}
