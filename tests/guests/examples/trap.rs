//! Panics with words on its stderr.

guests::guest!("trap", [], |_, _| panic!("words of the panic"));
