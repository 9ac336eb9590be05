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

/// lightningd talks to its plugins through pipes and to its own daemons through sockets. All of them inherit
/// `LIGHTNINGD_PLUGIN=1`, so the environment tells nothing.
fn is_plugin_of(parent: u32, process: &Path) -> bool {
    let Ok(stat) = std::fs::read(process.join("stat")) else {
        return false;
    };
    let input = std::fs::read_link(process.join("fd/0"));
    stat_parent(&stat) == Some(parent)
        && input.is_ok_and(|input| input.to_string_lossy().starts_with("pipe:"))
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
    fn a_child_with_a_pipe_is_a_plugin_and_one_without_is_not() {
        use std::process::{Command, Stdio};
        let start = |input: Stdio| Command::new("sleep").arg("60").stdin(input).spawn().unwrap();
        let (mut piped, mut other) = (start(Stdio::piped()), start(Stdio::null()));
        let own = std::process::id();
        let place = |child: &std::process::Child| Path::new("/proc").join(child.id().to_string());
        assert!(is_plugin_of(own, &place(&piped)));
        assert!(!is_plugin_of(own, &place(&other)));
        assert!(!is_plugin_of(1, &place(&piped)));
        let dead = place(&piped);
        for child in [&mut piped, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        assert!(!is_plugin_of(own, &dead));
    }
}
