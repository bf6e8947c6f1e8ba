//! Takes memory until it gets no more; the input is the number of MiB.

guests::guest!("alloc", [], |input, _| {
    let mib: usize = input.trim().parse().unwrap_or(usize::MAX);
    let mut taken: Vec<Vec<u8>> = Vec::new();
    while taken.len() < mib {
        taken.push(vec![1; 1 << 20]);
    }
    guests::done(format!("{} MiB", taken.len()))
});
