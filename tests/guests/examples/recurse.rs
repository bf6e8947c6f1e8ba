//! Runs out of stack.

#[cfg(target_os = "wasi")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    if depth == u64::MAX { 0 } else { deeper(depth + 1).wrapping_mul(3) ^ depth }
}

guests::guest!("recurse", [], |input, _| guests::done(deeper(input.len() as u64).to_string()));
