//! The `backstop` binary: the plugin when lightningd starts it, a command line otherwise.

fn main() {}
