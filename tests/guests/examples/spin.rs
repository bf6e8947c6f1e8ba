//! Never ends and never waits.

guests::guest!("spin", [], |_, _| {
    let mut value = 1u64;
    loop {
        value = std::hint::black_box(value.wrapping_mul(6364136223846793005).wrapping_add(1));
    }
});
