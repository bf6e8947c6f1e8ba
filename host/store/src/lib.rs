//! The event log, blobs and embedded session records, in SQLite
