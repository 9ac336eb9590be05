//! Memory for what is large and short-lived: packs on their way there and back.

/// From this length on bytes get memory of their own.
const LARGE: usize = 1 << 20;
/// What the C library always maps by itself, whatever it has learned from what was freed before (`DEFAULT_MMAP_THRESHOLD_MAX` of
/// glibc, where it learns up to that length).
const MAPPED: usize = (32 << 20) + 1;

/// What capacity to ask for, for `len` bytes.
///
/// What is large enough is mapped by itself and goes back to the system when it is freed; of what is asked for, the system gives what
/// is written to. From the heap packs would leave holes that small things settle in, and the next pack would need new memory: it held several times
/// what was ever in use.
pub(crate) fn capacity(len: usize) -> usize {
    if len < LARGE { len } else { len.max(MAPPED) }
}
