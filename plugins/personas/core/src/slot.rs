//! Where the stamp lies. `author` finds the slot by its magic, appends the stamp above the module's initial memory,
//! raises that memory by as much, and writes the place here. The allocator ([`crate::memory`])
//! takes new memory only from `memory.grow`, so it never reaches what was appended.
#![expect(unsafe_code, reason = "reads memory that was laid out after linking")]

use crate::stamp::MAGIC;

#[repr(C)]
struct Slot {
    magic: [u8; 16],
    address: u32,
    length: u32,
}

#[used]
static SLOT: Slot = Slot { magic: MAGIC, address: 0, length: 0 };

pub(crate) fn bytes() -> &'static [u8] {
    // SAFETY: a plain read of a static; volatile, because its content is not what the compiler saw.
    let Slot { address, length, .. } = unsafe { (&raw const SLOT).read_volatile() };
    if length == 0 {
        return &[];
    }
    let start = core::ptr::with_exposed_provenance(address as usize);
    // SAFETY: `author` put `length` initialised bytes at `address`, which nothing ever writes to.
    unsafe { core::slice::from_raw_parts(start, length as usize) }
}
