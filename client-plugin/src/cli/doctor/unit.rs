//! How lightningd is stopped: systemd's default is a signal, which lightningd does not handle, so that each stop is a crash to
//! its plugins (CLN reference 2.5). Read from systemd's own files; systemd is not asked.

use super::finding::Finding;
use std::{
    fs,
    path::{Path, PathBuf},
};

const CHECK: &str = "systemd";
/// Where units and their drop-ins lie; of one name the first place counts.
const PLACES: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

/// What the unit of this process does to stop it.
pub(super) fn unit(pid: u32) -> Finding {
    match fs::read_to_string(format!("/proc/{pid}/cgroup")) {
        Ok(cgroup) => judge(&cgroup, Path::new("/")),
        Err(error) => Finding::skipped(CHECK, format!("who started lightningd cannot be told: {error}")),
    }
}

fn judge(cgroup: &str, root: &Path) -> Finding {
    let Some(unit) = service(cgroup) else {
        return Finding::ok(
            CHECK,
            "no systemd service runs lightningd; stop it with lightning-cli stop, a signal is a crash to its plugins",
        );
    };
    let texts = texts(unit, root);
    if texts.is_empty() {
        return Finding::skipped(CHECK, format!("the files of {unit} were not found"));
    }
    if !stops(&texts) {
        return Finding::warning(
            CHECK,
            format!(
                "{unit} has no ExecStop: systemd stops lightningd with a signal, which is a crash to its plugins, and the next \
                 start has to heal it. Type systemctl edit {unit} and put in: [Service] ExecStop=/usr/bin/lightning-cli stop (with \
                 the node's --lightning-dir and --network), TimeoutStopSec=120"
            ),
        );
    }
    Finding::ok(CHECK, format!("{unit} stops lightningd by its ExecStop"))
}

/// The innermost service in `/proc/PID/cgroup`.
fn service(cgroup: &str) -> Option<&str> {
    let units = cgroup.lines().flat_map(|line| line.rsplit('/'));
    units.into_iter().find(|part| {
        let part = part.trim();
        part.ends_with(".service") && !part.starts_with("user@")
    })
}

/// The unit and its drop-ins, in the order in which systemd reads them.
fn texts(unit: &str, root: &Path) -> Vec<String> {
    // `name@instance.service` is described by `name@.service`.
    let template = unit.split_once('@').map(|(name, _)| format!("{name}@.service"));
    let names: Vec<&str> = std::iter::once(unit).chain(template.as_deref()).collect();
    let read = |path: PathBuf| fs::read_to_string(path).ok();
    let places = PLACES.map(|place| root.join(place));
    let main = names
        .iter()
        .find_map(|name| places.iter().find_map(|place| read(place.join(name))));
    let mut texts: Vec<String> = main.into_iter().collect();
    let mut dropped: Vec<PathBuf> = Vec::new();
    for (name, place) in names
        .iter()
        .flat_map(|name| places.iter().map(move |place| (name, place)))
    {
        let Ok(entries) = fs::read_dir(place.join(format!("{name}.d"))) else {
            continue;
        };
        for path in entries.flatten().map(|entry| entry.path()) {
            let known = dropped.iter().any(|other| other.file_name() == path.file_name());
            if !known && path.extension().is_some_and(|extension| extension == "conf") {
                dropped.push(path);
            }
        }
    }
    dropped.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
    texts.extend(dropped.into_iter().filter_map(read));
    texts
}

/// Whether something is left in `ExecStop`; an empty line takes away what stood before.
fn stops(texts: &[String]) -> bool {
    let mut found = false;
    for line in texts.iter().flat_map(|text| text.lines()) {
        if let Some(command) = line.trim().strip_prefix("ExecStop=") {
            found = !command.trim().is_empty();
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Level, *};

    const CGROUP: &str = "0::/system.slice/lightningd.service\n";

    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn level(cgroup: &str, files: &[(&str, &str)]) -> Level {
        judge(cgroup, system(files).path()).level
    }

    const UNIT: (&str, &str) = (
        "lib/systemd/system/lightningd.service",
        "[Service]\nExecStart=/usr/bin/lightningd\n",
    );
    const STOPS: (&str, &str) = (
        "etc/systemd/system/lightningd.service.d/stop.conf",
        "[Service]\n ExecStop=/usr/bin/lightning-cli stop\n",
    );

    #[test]
    fn a_unit_without_an_orderly_stop_is_told_how_to_get_one() {
        assert_eq!(level(CGROUP, &[UNIT]), Level::Warning);
        assert_eq!(level(CGROUP, &[UNIT, STOPS]), Level::Ok);
        let taken_away = (
            "etc/systemd/system/lightningd.service.d/zz.conf",
            "[Service]\nExecStop=\n",
        );
        assert_eq!(level(CGROUP, &[UNIT, STOPS, taken_away]), Level::Warning);
    }

    #[test]
    fn the_file_of_the_operator_counts_before_that_of_the_package() {
        let own = (
            "etc/systemd/system/lightningd.service",
            "[Service]\nExecStop=/bin/true\n",
        );
        assert_eq!(level(CGROUP, &[UNIT, own]), Level::Ok);
    }

    #[test]
    fn an_instance_has_its_templates_file() {
        let template = (
            "usr/lib/systemd/system/lightningd@.service",
            "[Service]\nExecStop=/bin/true\n",
        );
        let cgroup = "0::/system.slice/system-lightningd.slice/lightningd@one.service\n";
        assert_eq!(level(cgroup, &[template]), Level::Ok);
    }

    #[test]
    fn what_systemd_does_not_run_is_no_matter_of_units_and_what_is_not_found_is_said() {
        assert_eq!(
            level("0::/user.slice/user-1000.slice/session-1.scope\n", &[]),
            Level::Ok
        );
        assert_eq!(
            level("0::/user.slice/user@1000.service/app.slice/x.scope\n", &[]),
            Level::Ok
        );
        assert_eq!(level(CGROUP, &[]), Level::Skipped);
    }
}
