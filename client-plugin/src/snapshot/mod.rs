//! A database in chunks, packs and a manifest (SPEC 6).

pub mod copy;
