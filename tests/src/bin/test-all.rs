//! `cargo test-all`: installs what the tests need where it is missing, then runs everything.
//!
//! Arguments are passed on to `cargo test`: `cargo test-all --no-fail-fast`, `cargo test-all --test vectors`.
#![expect(clippy::print_stdout, reason = "a program that a person looks at")]

use anyhow::{Context, Result, bail};
use backstop_tests::{
    binaries::{BUILT, cargo},
    tools::{TOOLS, Tool},
};
use std::{
    env,
    io::IsTerminal,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

/// Something that tests start, or that compiling them takes.
struct Need {
    /// One of these must be found.
    programs: &'static [&'static str],
    /// Debian's and Ubuntu's name for what brings it.
    package: &'static str,
    /// What it is for.
    reason: &'static str,
}

const NEEDS: &[Need] = &[
    Need {
        programs: &["cc", "gcc", "clang"],
        package: "build-essential",
        reason: "compiles SQLite and libsecp256k1",
    },
    Need {
        programs: &["git"],
        package: "git",
        reason: "tells which migrations were released",
    },
    Need {
        programs: &["initdb"],
        package: "postgresql",
        reason: "is one of the server's databases: tests start clusters of their own",
    },
    Need {
        programs: &["valgrind"],
        package: "valgrind",
        reason: "counts what programs execute",
    },
    Need {
        programs: &["python3"],
        package: "python3-venv",
        reason: "runs the fuzzer that reads the server's OpenAPI document",
    },
    Need {
        programs: &["pgbouncer"],
        package: "pgbouncer",
        reason: "stands between the server and PostgreSQL in one of the tests",
    },
    Need {
        programs: &["systemd-analyze"],
        package: "systemd",
        reason: "judges the units, and makes the packages' users",
    },
    Need {
        programs: &["deb-systemd-helper"],
        package: "init-system-helpers",
        reason: "enables the packages' units",
    },
    Need {
        programs: &["fakeroot"],
        package: "fakeroot",
        reason: "lets tests install packages into directories of theirs",
    },
    Need {
        programs: &["zsh"],
        package: "zsh",
        reason: "loads its completions",
    },
    Need {
        programs: &["fish"],
        package: "fish",
        reason: "completes by its completions",
    },
    Need {
        programs: &["man"],
        package: "man-db",
        reason: "shows the pages of the manual",
    },
    Need {
        programs: &["script"],
        package: "bsdutils",
        reason: "is a terminal for programs",
    },
    Need {
        programs: &["promtool"],
        package: "prometheus",
        reason: "judges alert rules and the dashboard's expressions",
    },
    Need {
        programs: &["nginx"],
        package: "nginx-light",
        reason: "judges its example",
    },
    Need {
        programs: &["chromium"],
        package: "chromium",
        reason: "looks at the server's pages",
    },
    Need {
        programs: &["chromedriver"],
        package: "chromium-driver",
        reason: "drives that browser",
    },
    Need {
        programs: &["tor"],
        package: "tor",
        reason: "judges its example",
    },
];

/// Where Debian and Ubuntu put each version of PostgreSQL.
const POSTGRESQL: &str = "/usr/lib/postgresql";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\ntest-all: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    install(&missing(NEEDS, &folders()))?;
    for tool in TOOLS.iter().filter(|tool| !tool.program().is_file()) {
        install_tool(tool)?;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("tests/ lies in the workspace")?;
    say_fixtures(root);
    // The tests look for both programs beside their own executable; built together they share one set of features.
    step(
        "building",
        cargo().args(["build", "--locked", "--workspace", "--bins", "--tests"]),
    )?;
    step(
        "tests",
        cargo()
            .env(BUILT, "1")
            .args(["test", "--locked", "--workspace"])
            .args(env::args().skip(1)),
    )
}

/// Installs a program by its registry's own client, once for all clones. It takes its place last, whole.
fn install_tool(tool: &Tool) -> Result<()> {
    println!(
        "test-all: {} {} is missing; tests start it",
        tool.name, tool.version
    );
    let (root, name) = (tool.root(), tool.name);
    match name {
        // Their speed is of no matter.
        "s3s-fs" | "cargo-deb" => {
            let build = root.join("build");
            let mut install = cargo();
            install.args(["install", "--quiet", "--locked", "--debug"]);
            if name == "s3s-fs" {
                install.args(["--features", "binary"]);
            }
            install.args(["--version", tool.version, name]);
            install.arg("--root").arg(&root).arg("--target-dir").arg(&build);
            step(name, &mut install)?;
            std::fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))
        }
        "schemathesis" => {
            step(
                "python",
                Command::new("python3").args(["-m", "venv", "--clear"]).arg(&root),
            )?;
            let mut install = Command::new(root.join("bin/python"));
            install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
            let list = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzzer-requirements.txt");
            let wanted = format!("{name}=={}", tool.version);
            if !std::fs::read_to_string(list)?.lines().any(|line| line == wanted) {
                bail!("{list} does not name {wanted}");
            }
            step(name, install.args(["--no-deps", "--requirement", list]))
        }
        _ => bail!("nobody knows how to install {name}"),
    }
}

/// Runs one command, says what and how long, and fails where it does.
fn step(name: &str, command: &mut Command) -> Result<()> {
    println!("test-all: {name}");
    let start = Instant::now();
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let seconds = start.elapsed().as_secs();
    if !status.success() {
        bail!("{name} failed after {seconds} s");
    }
    println!("test-all: {name}: ok, {seconds} s");
    Ok(())
}

/// Tests on recorded input say it themselves where it is absent; here it is seen once, at the start.
fn say_fixtures(root: &Path) {
    let folder =
        env::var_os("BACKSTOP_FIXTURES").map_or_else(|| root.join("../shared/fixtures"), PathBuf::from);
    if folder.is_dir() {
        println!(
            "test-all: recorded input of a real node is in {}",
            folder.display()
        );
    } else {
        println!(
            "test-all: no recorded input in {}: the simulated node serves",
            folder.display()
        );
    }
}

fn search_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// Where programs are looked for: also where no user's path leads.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir(POSTGRESQL).into_iter().flatten().flatten();
    let mut folders = search_path();
    folders.push(PathBuf::from("/usr/sbin"));
    folders.extend(versions.map(|version| version.path().join("bin")));
    folders
}

/// The needs of which no program lies in any of the folders.
fn missing<'a>(needs: &'a [Need], folders: &[PathBuf]) -> Vec<&'a Need> {
    let found = |need: &Need| {
        let mut places = need
            .programs
            .iter()
            .flat_map(|program| folders.iter().map(move |f| f.join(program)));
        places.any(|place| place.is_file())
    };
    needs.iter().filter(|need| !found(need)).collect()
}

/// Installs Debian packages, as root or by sudo; else fails and says what a person has to type.
fn install(needs: &[&Need]) -> Result<()> {
    if needs.is_empty() {
        return Ok(());
    }
    for need in needs {
        println!("test-all: {} is missing; it {}", need.package, need.reason);
    }
    let packages: Vec<_> = needs.iter().map(|need| need.package).collect();
    let by_hand = format!("install it, as by: apt-get install {}", packages.join(" "));
    if missing(&[APT], &search_path()).is_empty() {
        step("list of packages", apt_get()?.arg("update")).with_context(|| by_hand.clone())?;
        step(
            "packages",
            apt_get()?
                .args(["install", "--yes", "--no-install-recommends"])
                .args(&packages),
        )
        .context(by_hand)
    } else {
        bail!("this is no Debian or Ubuntu: {by_hand}")
    }
}

const APT: Need = Need {
    programs: &["apt-get"],
    package: "apt",
    reason: "installs packages",
};

fn apt_get() -> Result<Command> {
    let id = Command::new("id")
        .arg("-u")
        .output()
        .context("ask for the user's id")?;
    let mut command = if id.stdout.trim_ascii() == b"0" {
        Command::new("env")
    } else {
        let mut sudo = Command::new("sudo");
        // Without a terminal nobody could type a password: fail instead of waiting for one.
        if !std::io::stdin().is_terminal() {
            sudo.arg("-n");
        }
        sudo.arg("env");
        sudo
    };
    command
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"])
        .stdin(Stdio::inherit());
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_met_by_any_of_its_programs_in_any_folder() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for program in ["gcc", "initdb", "pgbouncer", "python3"] {
            std::fs::write(full.path().join(program), "").unwrap();
        }
        let packages = |folders: &[&Path]| {
            let folders: Vec<_> = folders.iter().map(|f| f.to_path_buf()).collect();
            missing(NEEDS, &folders)
                .into_iter()
                .map(|need| need.package)
                .collect::<Vec<_>>()
        };
        let all: Vec<_> = NEEDS.iter().map(|need| need.package).collect();
        let others: Vec<_> = all
            .iter()
            .filter(|package| {
                !["build-essential", "postgresql", "python3-venv", "pgbouncer"].contains(package)
            })
            .copied()
            .collect();
        assert_eq!(packages(&[empty.path(), full.path()]), others);
        assert_eq!(packages(&[empty.path()]), all);
        assert_eq!(packages(&[]), all);
    }
}
