//! The server: REST, SSE, gateway for runners, broker, catalogue and the local scheduler
