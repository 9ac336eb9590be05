//! The other plugins of the same lightningd, while it shuts down (CLN reference 2.5).
//!
//! They may write to the datastore until they are gone, and nobody reports those writes once we are.

use std::path::Path;

/// Whether another plugin of our parent process still runs.
pub(super) fn any_alive() -> bool {
    let parent = std::os::unix::process::parent_id();
    let own = std::process::id();
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return false;
    };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .any(|pid| pid != own && is_plugin_of(parent, &Path::new("/proc").join(pid.to_string())))
}

/// lightningd starts plugins, and nothing else, with `LIGHTNINGD_PLUGIN=1`.
fn is_plugin_of(parent: u32, process: &Path) -> bool {
    let Ok(stat) = std::fs::read(process.join("stat")) else {
        return false;
    };
    if stat_parent(&stat) != Some(parent) {
        return false;
    }
    let environment = std::fs::read(process.join("environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == b"LIGHTNINGD_PLUGIN=1")
}

/// The parent in `/proc/<pid>/stat`, unless the process is dead and only waits to be collected. The name in
/// parentheses may hold anything, so fields are counted from the last one.
fn stat_parent(stat: &[u8]) -> Option<u32> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after_name + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_parent_whatever_it_is_called() {
        assert_eq!(stat_parent(b"12 (a) b) c) S 7 12 12 0"), Some(7));
        assert_eq!(stat_parent(b"12 (plugin) Z 7 12 12 0"), None);
        assert_eq!(stat_parent(b"12 (plugin"), None);
        assert_eq!(stat_parent(b""), None);
    }

    #[test]
    fn a_process_that_is_no_plugin_is_no_sibling() {
        assert!(!is_plugin_of(
            std::os::unix::process::parent_id(),
            Path::new("/proc/self")
        ));
        assert!(!is_plugin_of(1, Path::new("/proc/0")));
    }
}
