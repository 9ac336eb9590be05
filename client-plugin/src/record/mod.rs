//! One batch, gap or policy, sealed (SPEC 5).
