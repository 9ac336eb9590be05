//! The migrations are compiled in from outside of this crate.

fn main() {
    println!("cargo:rerun-if-changed=../migrations");
}
