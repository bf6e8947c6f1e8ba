//! Confines processes, and the process vteam-exec that runs native programs for a session
