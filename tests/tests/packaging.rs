//! What people install: Debian packages really built and really installed, into directories that stand for a system's root, with
//! their maintainer scripts; and CLN's own installer. Nothing of the system that runs this is changed.
//!
//! The programs in the packages are those under test, stripped; on a person's machine `cargo deb` builds them for release.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    json_rpc::request,
    packages::{self, run},
    plugin::{Plugin, Program},
    tools,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// Where each package of this run lies.
struct Packages {
    server: PathBuf,
    client: PathBuf,
    _dir: tempfile::TempDir,
}

fn built() -> &'static Packages {
    static BUILT: OnceLock<Packages> = OnceLock::new();
    BUILT.get_or_init(|| build().unwrap_or_else(|error| panic!("{error:#}")))
}

fn build() -> Result<Packages> {
    let dir = tempfile::tempdir()?;
    let release = dir.path().join("target/release");
    fs::create_dir_all(&release)?;
    let package = |name: &str| -> Result<PathBuf> {
        run(Command::new("strip")
            .arg("-o")
            .arg(release.join(name))
            .arg(binary(name)?))?;
        let deb = dir.path().join(format!("{name}.deb"));
        let options = [
            "--no-strip",
            "--fast",
            "--output",
            deb.to_str().context("a path")?,
        ];
        packages::make(
            &tools::found("cargo-deb"),
            &options,
            &dir.path().join("target"),
            name,
        )?;
        Ok(deb)
    };
    Ok(Packages {
        server: package("backstop-server")?,
        client: package("backstop")?,
        _dir: dir,
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A directory that dpkg takes for a system.
struct System {
    dir: tempfile::TempDir,
}

impl System {
    fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        for folder in [
            "var/lib/dpkg/info",
            "var/lib/dpkg/updates",
            "var/lib/dpkg/triggers",
            "etc",
        ] {
            fs::create_dir_all(dir.path().join("root").join(folder))?;
        }
        fs::write(dir.path().join("root/var/lib/dpkg/status"), "")?;
        fs::write(dir.path().join("owners"), "")?;
        Ok(Self { dir })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join("root").join(path)
    }

    fn read(&self, path: &str) -> Result<String> {
        fs::read_to_string(self.at(path)).with_context(|| path.to_owned())
    }

    fn mode(&self, path: &str) -> Result<u32> {
        let metadata = fs::metadata(self.at(path)).with_context(|| path.to_owned())?;
        Ok(metadata.permissions().mode() & 0o7777)
    }

    /// A command that takes itself for root's, and is told of the owners that earlier ones set.
    fn as_root(&self, program: &str) -> Command {
        let owners = self.dir.path().join("owners");
        let mut command = Command::new("fakeroot");
        command.arg("-i").arg(&owners).arg("-s").arg(&owners);
        command.arg("--").arg(program);
        command
    }

    /// dpkg; what its scripts need lies on the system that runs this, not in the directory.
    fn dpkg<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        let mut dpkg = self.as_root("dpkg");
        dpkg.arg(format!("--root={}", self.at("").display()))
            .args(["--log=/dev/null", "--force-script-chrootless", "--force-depends"])
            .args(["--force-not-root", "--force-bad-path", "--force-confdef"])
            .args(arguments)
            .env("LC_ALL", "C");
        let output = run(&mut dpkg)?;
        Ok(text(&output.stdout) + &text(&output.stderr))
    }

    fn install(&self, package: &Path) -> Result<String> {
        self.dpkg(["--install", package.to_str().context("a path in UTF-8")?])
    }
}

/// The same package as of a later version, whose own configuration file says something new.
fn later(package: &Path, system: &System) -> Result<PathBuf> {
    let (tree, deb) = (
        system.dir.path().join("later"),
        system.dir.path().join("later.deb"),
    );
    run(system.as_root("dpkg-deb").arg("-R").arg(package).arg(&tree))?;
    let control = tree.join("DEBIAN/control");
    let version = fs::read_to_string(&control)?;
    let version: Vec<_> = version
        .lines()
        .map(|line| {
            if line.starts_with("Version: ") {
                "Version: 99.0-1"
            } else {
                line
            }
        })
        .collect();
    fs::write(&control, version.join("\n") + "\n")?;
    let config = tree.join("etc/backstop-server/config.toml");
    if config.exists() {
        let newer = fs::read_to_string(&config)? + "\n# What a later version says.\n";
        fs::write(&config, newer)?;
    }
    run(system
        .as_root("dpkg-deb")
        .arg("-Znone")
        .arg("-b")
        .arg(&tree)
        .arg(&deb))?;
    Ok(deb)
}

#[test]
fn the_servers_package_brings_a_user_directories_and_a_service_that_is_enabled() -> Result<()> {
    let system = System::new()?;
    system.install(&built().server)?;
    for (path, mode) in [
        ("usr/bin/backstop-server", 0o755),
        ("lib/systemd/system/backstop-server.service", 0o644),
        ("etc/backstop-server/config.toml", 0o644),
        // It is made for secrets.
        ("etc/backstop-server/environment", 0o600),
        ("var/lib/backstop-server", 0o700),
        ("usr/share/doc/backstop-server/copyright", 0o644),
        ("usr/share/doc/backstop-server/runbooks/first-day.md", 0o644),
    ] {
        assert_eq!(system.mode(path)?, mode, "{path}");
    }
    let user = system.read("etc/passwd")?;
    assert!(user.starts_with("backstop-server:x:"), "{user}");
    assert!(
        user.contains(":/var/lib/backstop-server:/usr/sbin/nologin"),
        "{user}"
    );
    let wanted = system.at("etc/systemd/system/multi-user.target.wants/backstop-server.service");
    assert!(wanted.is_symlink(), "the service is not enabled");
    // The configuration that it comes with is one.
    let config = system.at("etc/backstop-server/config.toml");
    let check = Command::new(system.at("usr/bin/backstop-server"))
        .args(["check-config", "--config"])
        .arg(&config)
        .output()?;
    assert!(check.status.success(), "{}", text(&check.stderr));
    Ok(())
}

#[test]
fn an_upgrade_keeps_a_configuration_that_was_edited_and_renews_one_that_was_not() -> Result<()> {
    let edited = System::new()?;
    edited.install(&built().server)?;
    let file = "etc/backstop-server/config.toml";
    fs::write(edited.at(file), "registration = \"invite\"\n")?;
    fs::write(
        edited.at("etc/backstop-server/environment"),
        "AWS_ACCESS_KEY_ID=mine\n",
    )?;
    fs::write(edited.at("var/lib/backstop-server/backstop.sqlite3"), "backups")?;
    edited.install(&later(&built().server, &edited)?)?;
    assert_eq!(edited.read(file)?, "registration = \"invite\"\n");
    assert_eq!(
        edited.read("etc/backstop-server/environment")?,
        "AWS_ACCESS_KEY_ID=mine\n"
    );
    assert_eq!(
        edited.read("var/lib/backstop-server/backstop.sqlite3")?,
        "backups"
    );
    let status = edited.dpkg(["--status", "backstop-server"])?;
    assert!(status.contains("Version: 99.0-1"), "{status}");

    let untouched = System::new()?;
    untouched.install(&built().server)?;
    untouched.install(&later(&built().server, &untouched)?)?;
    assert!(untouched.read(file)?.contains("What a later version says"));
    Ok(())
}

#[test]
fn an_upgrade_does_not_enable_a_service_that_its_administrator_disabled() -> Result<()> {
    let system = System::new()?;
    system.install(&built().server)?;
    let wanted = system.at("etc/systemd/system/multi-user.target.wants/backstop-server.service");
    fs::remove_file(&wanted)?;
    system.install(&later(&built().server, &system)?)?;
    assert!(!wanted.is_symlink(), "the upgrade enabled it again");
    Ok(())
}

#[test]
fn neither_removal_nor_purge_deletes_a_backup_and_the_purge_says_where_it_stays() -> Result<()> {
    let system = System::new()?;
    system.install(&built().server)?;
    system.install(&built().client)?;
    let backups = [
        "var/lib/backstop-server/backstop.sqlite3",
        "var/lib/backstop-server/identity.key",
        "var/lib/backstop-mirror/mirror.sqlite3",
    ];
    for backup in backups {
        fs::write(system.at(backup), "backups")?;
    }
    system.dpkg(["--remove", "backstop-server"])?;
    assert!(
        system.at("etc/backstop-server/config.toml").exists(),
        "a removal keeps the configuration"
    );
    let said = system.dpkg(["--purge", "backstop-server"])?;
    assert!(said.contains("stay in /var/lib/backstop-server"), "{said}");
    assert!(!system.at("etc/backstop-server/config.toml").exists());
    let said = system.dpkg(["--purge", "backstop"])?;
    assert!(said.contains("stays in /var/lib/backstop-mirror"), "{said}");
    assert!(said.contains("important-plugin"), "{said}");
    for backup in backups {
        assert_eq!(system.read(backup)?, "backups");
    }
    // Installed again, it finds them.
    system.install(&built().server)?;
    assert_eq!(system.read(backups[0])?, "backups");
    Ok(())
}

#[test]
fn the_clients_package_starts_nothing_and_its_upgrade_says_what_runs_on() -> Result<()> {
    let system = System::new()?;
    system.install(&built().client)?;
    assert_eq!(system.mode("usr/bin/backstop")?, 0o755);
    assert_eq!(system.mode("var/lib/backstop-mirror")?, 0o700);
    for document in ["README.md", "recovery.md", "examples/lightningd-backstop.conf"] {
        assert!(
            system.at("usr/share/doc/backstop").join(document).exists(),
            "{document}"
        );
    }
    assert!(
        !system
            .at("etc/systemd/system/multi-user.target.wants/backstop-mirror.service")
            .is_symlink(),
        "who wants a mirror enables it"
    );
    let said = system.install(&later(&built().client, &system)?)?;
    assert!(said.contains("a running lightningd goes on"), "{said}");
    Ok(())
}

#[test]
fn the_packages_bring_the_manual_and_completions_where_man_and_the_shells_look() -> Result<()> {
    let system = System::new()?;
    system.install(&built().client)?;
    system.install(&built().server)?;
    for (name, page) in [
        ("backstop", "backstop-servers-require"),
        ("backstop-server", "backstop-server-node-list"),
    ] {
        for page in [name, page] {
            let path = system.at("usr/share/man/man1").join(format!("{page}.1.gz"));
            run(Command::new("man").arg("--local-file").arg(&path)).with_context(|| page.to_owned())?;
        }
        for path in [
            format!("usr/share/bash-completion/completions/{name}"),
            format!("usr/share/zsh/vendor-completions/_{name}"),
            format!("usr/share/fish/vendor_completions.d/{name}.fish"),
        ] {
            ensure!(system.read(&path)?.contains("completions"), "{path}");
            assert_eq!(system.mode(&path)?, 0o644, "{path}");
        }
    }
    Ok(())
}

#[test]
fn the_clients_package_brings_the_companion_as_a_program_of_its_own() -> Result<()> {
    let system = System::new()?;
    system.install(&built().client)?;
    let directory = tempfile::tempdir()?;
    let manifest = |name: &str| -> Result<serde_json::Value> {
        // lightningd resolves links before it starts a plugin.
        let program = system.at(&format!("usr/bin/{name}")).canonicalize()?;
        let mut plugin = Plugin::start(&Program::new(program), directory.path())?;
        plugin.send(&request("1", "getmanifest", b"{}"))?;
        let answer = plugin.reply("\"1\"")?;
        plugin.close_stdin();
        answer.get("result").context("no manifest")
    };
    let hook = manifest("backstop")?;
    ensure!(
        hook["hooks"] == serde_json::json!(["db_write"]) && hook["rpcmethods"] == serde_json::json!([]),
        "{hook}"
    );
    let companion = manifest("backstop-companion")?;
    let methods = companion["rpcmethods"].as_array().context("no commands")?;
    ensure!(
        companion["hooks"] == serde_json::json!([]) && methods.len() == 4,
        "{companion}"
    );
    Ok(())
}

#[test]
fn maintainer_scripts_are_posix_shell() -> Result<()> {
    let folders = ["deploy/debian/server", "deploy/debian/client"];
    let mut scripts = 0;
    for folder in folders {
        for entry in fs::read_dir(Path::new(ROOT).join(folder))? {
            let path = entry?.path();
            if fs::read_to_string(&path)?.starts_with("#!/bin/sh\n") {
                run(Command::new("sh").arg("-n").arg(&path))?;
                scripts += 1;
            }
        }
    }
    assert_eq!(scripts, 6);
    Ok(())
}

/// CLN's installer, by whatever path a person has it.
fn reckless() -> Option<PathBuf> {
    let named = std::env::var_os("BACKSTOP_RECKLESS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = named
        .into_iter()
        .chain(std::env::split_paths(&path).map(|folder| folder.join("reckless")));
    places.find(|place| place.is_file())
}

/// What `git clone` would bring, in a directory with the repository's name.
fn clone(to: &Path) -> Result<()> {
    let listed = run(Command::new("git").current_dir(ROOT).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]))?;
    for path in text(&listed.stdout).split('\0').filter(|path| !path.is_empty()) {
        let (from, to) = (Path::new(ROOT).join(path), to.join(path));
        fs::create_dir_all(to.parent().context("a file lies in a directory")?)?;
        if from.is_file() {
            fs::copy(from, to)?;
        }
    }
    Ok(())
}

/// What the installer asks of a repository, each of its own steps (its release v26.06): the root is named as the plugin and holds
/// `Cargo.toml`, nothing there is for another of its installers, and the build leaves `target/release/backstop`.
#[test]
fn the_repositorys_root_is_a_plugin_that_reckless_builds() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let root = dir.path().join("backstop");
    clone(&root)?;
    for other in [
        "uv.lock",
        "requirements.txt",
        "poetry.lock",
        "pyproject.toml",
        "package.json",
    ] {
        assert!(
            !root.join(other).exists(),
            "reckless would take {other} for the installer"
        );
    }
    for entry in ["backstop", "backstop.py", "backstop.js", "__init__.py"] {
        assert!(
            !root.join(entry).exists(),
            "reckless would take {entry} for the plugin"
        );
    }
    let mut metadata = Command::new("cargo");
    metadata
        .current_dir(&root)
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"]);
    let metadata: serde_json::Value =
        serde_json::from_slice(&run(metadata.env_remove("CARGO_TARGET_DIR"))?.stdout)?;
    let target = metadata["target_directory"].as_str().map(PathBuf::from);
    assert_eq!(target, Some(root.canonicalize()?.join("target")));
    let defaults = metadata["workspace_default_members"].to_string();
    assert!(defaults.contains("client-plugin"), "{defaults}");
    Ok(())
}

/// It starts what it built, without arguments and without lightningd, and takes any failure for a broken plugin.
#[test]
fn a_person_who_types_no_command_sees_them_all() -> Result<()> {
    let output = run(&mut Command::new(binary("backstop")?))?;
    assert!(text(&output.stdout).contains("setup"));
    Ok(())
}

/// The real installer, where there is one, with a cargo that notes how it was called and leaves the program under test.
#[test]
fn reckless_installs_the_plugin_from_a_clone() -> Result<()> {
    let Some(reckless) = reckless() else {
        println!(
            "CLN's reckless is not here (PATH or BACKSTOP_RECKLESS); its steps are tried one by one beside this"
        );
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let (source, lightning, tools) = (
        dir.path().join("backstop"),
        dir.path().join("lightning"),
        dir.path().join("bin"),
    );
    clone(&source)?;
    fs::create_dir_all(lightning.join("regtest"))?;
    fs::create_dir_all(&tools)?;
    let cargo = tools.join("cargo");
    let program = binary("backstop")?;
    fs::write(
        &cargo,
        format!(
            "#!/bin/sh\nset -e\n[ \"$*\" = --version ] && exit 0\necho \"$*\" > {}/called\n[ -e Cargo.toml ]\nmkdir -p target/release\ncp {} target/release/backstop\n",
            dir.path().display(),
            program.display()
        ),
    )?;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
    // No node runs, as our pages say to install it: a command that reaches nobody.
    let cli = tools.join("lightning-cli");
    fs::write(&cli, "#!/bin/sh\nexit 2\n")?;
    fs::set_permissions(&cli, fs::Permissions::from_mode(0o755))?;
    let path = format!(
        "{}:{}",
        tools.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let installer = |arguments: &[&str]| {
        let mut command = Command::new(&reckless);
        command
            .args(["--network", "regtest", "--lightning"])
            .arg(&lightning);
        command.args(arguments).env("PATH", &path).env("HOME", dir.path());
        run(command.stdin(std::process::Stdio::null()))
    };
    fs::write(lightning.join("regtest/config"), "")?;
    fs::create_dir_all(lightning.join("reckless"))?;
    fs::write(
        lightning.join("reckless/regtest-reckless.conf"),
        "# This configuration file is managed by reckless to activate and disable\n# reckless-installed plugins\n\n",
    )?;
    fs::write(
        lightning.join("regtest/config"),
        format!(
            "include {}\n",
            lightning.join("reckless/regtest-reckless.conf").display()
        ),
    )?;
    let output = installer(&["-v", "install", source.to_str().context("a path in UTF-8")?])?;
    let said = text(&output.stdout) + &text(&output.stderr);
    let called = fs::read_to_string(dir.path().join("called")).with_context(|| said.clone())?;
    assert_eq!(called, "build --release -vv\n");
    let plugin = lightning.join("reckless/backstop/backstop");
    assert!(plugin.exists(), "{said}");
    let config = fs::read_to_string(lightning.join("reckless/regtest-reckless.conf"))?;
    assert!(
        config.contains(&format!("plugin={}", plugin.display())),
        "{config}\n{said}"
    );
    Ok(())
}
