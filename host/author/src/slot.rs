//! Fills the core's slot: the stamp becomes a data segment above the initial memory, which grows by as much, and the
//! slot, found by its magic, is told where.

use persona_core::stamp::MAGIC;
use wasm_encoder::Encode;
use wasmparser::BinaryReader;

const PAGE: usize = 64 << 10;
const MEMORY: u8 = 5;
const DATA: u8 = 11;
const DATA_COUNT: u8 = 12;
const I32_CONST: u8 = 0x41;
const END: u8 = 0x0b;

/// What keeps a module from being the core.
#[derive(Debug, thiserror::Error)]
pub enum NoSlot {
    #[error("it is not a core WebAssembly module")]
    NotAModule(#[from] wasmparser::BinaryReaderError),
    #[error("it is a component or of another version, not a core module")]
    Component,
    #[error("it has {0} slots, expected one")]
    Slots(usize),
    #[error("it has no memory of its own")]
    NoMemory,
}

pub(crate) fn fill(core: &[u8], stamp: &[u8]) -> Result<Vec<u8>, NoSlot> {
    let sections = sections(core)?;
    let pages = sections.iter().find(|(id, _)| *id == MEMORY).ok_or(NoSlot::NoMemory)?;
    let (pages, _) = memory(pages.1)?;
    let address = pages as usize * PAGE;
    let mut out = core.get(..8).unwrap_or_default().to_vec();
    for (id, body) in sections {
        let body = match id {
            MEMORY => grown(body, stamp.len().div_ceil(PAGE))?,
            DATA_COUNT => one_more(body)?,
            DATA => with_segment(body, address, stamp)?,
            _ => body.to_vec(),
        };
        out.push(id);
        body.encode(&mut out);
    }
    Ok(out)
}

/// Ids and bodies, in order.
fn sections(module: &[u8]) -> Result<Vec<(u8, &[u8])>, NoSlot> {
    let mut reader = BinaryReader::new(module, 0);
    if reader.read_bytes(8)? != b"\0asm\x01\0\0\0" {
        return Err(NoSlot::Component);
    }
    let mut sections = Vec::new();
    while !reader.eof() {
        let id = reader.read_u8()?;
        let length = reader.read_var_u32()? as usize;
        sections.push((id, reader.read_bytes(length)?));
    }
    Ok(sections)
}

/// Minimum pages, and what follows them.
fn memory(body: &[u8]) -> Result<(u32, &[u8]), NoSlot> {
    let mut reader = BinaryReader::new(body, 0);
    let (count, _flags) = (reader.read_var_u32()?, reader.read_u8()?);
    let pages = reader.read_var_u32()?;
    if count == 1 { Ok((pages, rest(body, &reader))) } else { Err(NoSlot::NoMemory) }
}

fn grown(body: &[u8], by: usize) -> Result<Vec<u8>, NoSlot> {
    let (pages, rest) = memory(body)?;
    let mut out = body.get(..2).unwrap_or_default().to_vec();
    (pages as usize + by).encode(&mut out);
    out.extend_from_slice(rest);
    Ok(out)
}

fn one_more(body: &[u8]) -> Result<Vec<u8>, NoSlot> {
    let mut reader = BinaryReader::new(body, 0);
    let mut out = Vec::new();
    (reader.read_var_u32()? as usize + 1).encode(&mut out);
    out.extend_from_slice(rest(body, &reader));
    Ok(out)
}

fn with_segment(body: &[u8], address: usize, stamp: &[u8]) -> Result<Vec<u8>, NoSlot> {
    let mut out = one_more(body)?;
    let slots: Vec<usize> =
        out.windows(MAGIC.len()).enumerate().filter(|(_, w)| *w == MAGIC).map(|(at, _)| at).collect();
    let [slot] = slots.as_slice() else { return Err(NoSlot::Slots(slots.len())) };
    let told = [address, stamp.len()].map(|n| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()).concat();
    let end = slot + MAGIC.len();
    out.get_mut(end..end + told.len()).ok_or(NoSlot::Slots(0))?.copy_from_slice(&told);

    // An active segment of memory 0: its place as a constant expression, then its bytes.
    out.extend([0, I32_CONST]);
    i32::try_from(address).unwrap_or(i32::MAX).encode(&mut out);
    out.push(END);
    stamp.encode(&mut out);
    Ok(out)
}

fn rest<'a>(body: &'a [u8], reader: &BinaryReader<'_>) -> &'a [u8] {
    body.get(reader.current_position()..).unwrap_or_default()
}
