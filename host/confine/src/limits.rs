//! What native programs of one session may use.

/// Bounds of a program and of everything it starts. [`ProgramLimits::shipped`] is where somebody decided them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProgramLimits {
    /// Programs under way at once.
    pub programs: usize,
    /// Processes and threads of one program.
    pub processes: u64,
    /// Private memory of one process, and resident memory of all programs together, bytes.
    pub memory_bytes: u64,
    /// The largest file, bytes.
    pub file_bytes: u64,
    pub open_files: u64,
    /// Bytes below workspace, home and temporary folder together.
    pub disk_bytes: u64,
}

impl ProgramLimits {
    /// What is in force where nobody said otherwise.
    #[must_use]
    pub const fn shipped() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            programs: 32,
            processes: 1024,
            memory_bytes: 4 * GIB,
            file_bytes: 2 * GIB,
            open_files: 4096,
            disk_bytes: model::limits::Limits::shipped().session.workspace_bytes + 4 * GIB,
        }
    }
}
