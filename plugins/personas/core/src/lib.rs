//! The core that every Markdown persona is stamped into
