//! Tools: search
