//! Log set-up, fixed span fields, metrics, health, supervisor and shutdown
