//! What lies in deploy/: every example is judged by the program that it is for, where that runs here, and says nothing of this
//! project that is not so. Nothing of the system that runs this is changed.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    binaries::binary,
    caller::http,
    lightningd::{Lightningd, Options},
    node::Node,
    plugin::Program,
    scene::Scene,
    servers::Server,
    tools,
    wallet::Journal,
};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};
use tempfile::TempDir;

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy");

fn deploy(path: &str) -> PathBuf {
    Path::new(DEPLOY).join(path)
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(deploy(path)).with_context(|| path.to_owned())
}

/// A program of the system, also where no user's path leads.
fn system(name: &str) -> Command {
    let sbin = Path::new("/usr/sbin").join(name);
    Command::new(if sbin.is_file() { sbin } else { name.into() })
}

/// Runs a command, which must succeed; what it said.
fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(output.status.success(), "{command:?}: {}\n{said}", output.status);
    Ok(said)
}

/// A YAML file, read by the Python of the fuzzer's environment.
fn yaml(path: &str) -> Result<Value> {
    let python = tools::found("schemathesis").with_file_name("python");
    let script = "import json,sys,yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let said = run(Command::new(python).args(["-c", script]).arg(deploy(path)))?;
    serde_json::from_str(&said).with_context(|| path.to_owned())
}

/// The units with the programs under test in the place of those that will be installed.
fn units(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut units = Vec::new();
    for (name, program) in [
        ("backstop-server.service", "backstop-server"),
        ("backstop-mirror.service", "backstop"),
    ] {
        let unit = read(name)?;
        let start = format!("\nExecStart={program} ");
        ensure!(unit.contains(&start), "{name} starts another program");
        let here = format!("\nExecStart={} ", binary(program)?.display());
        let path = folder.join(name);
        fs::write(&path, unit.replace(&start, &here))?;
        units.push(path);
    }
    Ok(units)
}

#[test]
fn systemd_finds_no_fault_in_the_units_and_little_that_they_may_do() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for unit in units(dir.path())? {
        let said = run(Command::new("systemd-analyze").arg("verify").arg(&unit))?;
        assert_eq!(said, "", "{}", unit.display());
        // Out of 100, as systemd counts; 0 would be a service that can do nothing.
        let mut security = Command::new("systemd-analyze");
        security.args(["security", "--offline=yes", "--no-pager", "--threshold=15"]);
        run(security.arg(&unit))?;
    }
    Ok(())
}

#[test]
fn the_drop_in_gives_lightningd_the_time_that_an_outage_takes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (unit, drop_in) = (
        dir.path().join("lightningd.service"),
        dir.path().join("lightningd.service.d"),
    );
    fs::create_dir(&drop_in)?;
    fs::write(&unit, "[Service]\nExecStart=true\n")?;
    let text = read("lightningd-backstop.conf")?;
    fs::write(
        drop_in.join("backstop.conf"),
        text.replace("ExecStop=lightning-cli ", "ExecStop=true "),
    )?;
    assert_eq!(run(Command::new("systemd-analyze").arg("verify").arg(&unit))?, "");
    let seconds = text.lines().find_map(|line| line.strip_prefix("TimeoutStopSec="));
    let seconds: u64 = seconds.context("no TimeoutStopSec")?.parse()?;
    let halts_after = 600;
    assert!(text.contains("halt_after_seconds is 600"));
    assert!(seconds > halts_after);
    Ok(())
}

/// nginx with its example, on an address of this test's, before a server; killed when dropped.
struct Nginx {
    child: Child,
    dir: TempDir,
    address: String,
}

impl Nginx {
    fn before(server: &Server) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let key = rcgen::generate_simple_self_signed(["127.77.0.3".to_owned()])?;
        fs::write(dir.path().join("cert.pem"), key.cert.pem())?;
        fs::write(dir.path().join("key.pem"), key.signing_key.serialize_pem())?;
        // Nothing else takes this address: the port is free until nginx has it.
        let address = std::net::TcpListener::bind("127.77.0.3:0")?
            .local_addr()?
            .to_string();
        let live = "/etc/letsencrypt/live/backup.example.org/";
        let site = read("proxy/nginx.conf")?
            .replace(&format!("{live}fullchain.pem"), "cert.pem")
            .replace(&format!("{live}privkey.pem"), "key.pem")
            .replace("listen [::]:443 ssl http2;", "")
            .replace("listen 443 ssl", &format!("listen {address} ssl"))
            .replace("127.0.0.1:8750", server.address());
        fs::write(dir.path().join("site.conf"), site)?;
        let prefix = dir.path().display();
        let temporary: Vec<_> = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {prefix}/{name};"))
            .collect();
        let temporary = temporary.join(" ");
        fs::write(
            dir.path().join("nginx.conf"),
            format!(
                "daemon off;\nmaster_process off;\npid {prefix}/pid;\nerror_log stderr;\nevents {{}}\n\
                 http {{ access_log off; {temporary} include site.conf; }}\n"
            ),
        )?;
        let said = run(Self::command(&dir).arg("-t"))?;
        ensure!(!said.contains("[warn]"), "{said}");
        let child = Self::command(&dir)
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Self { child, dir, address })
    }

    fn command(dir: &TempDir) -> Command {
        let mut nginx = system("nginx");
        nginx.arg("-p").arg(dir.path());
        nginx.arg("-c").arg(dir.path().join("nginx.conf"));
        nginx
    }

    /// Its URL, once it listens.
    fn url(&mut self) -> Result<String> {
        while std::net::TcpStream::connect(&self.address).is_err() {
            ensure!(self.child.try_wait()?.is_none(), "nginx left");
            std::thread::yield_now();
        }
        Ok(format!("https://{}", self.address))
    }

    /// The variable by which a client trusts its certificate.
    fn trust(&self) -> (String, String) {
        let file = self.dir.path().join("cert.pem").display().to_string();
        ("SSL_CERT_FILE".to_owned(), file)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn nginx_accepts_its_example_and_passes_what_node_and_server_say_unchanged() -> Result<()> {
    let server = Server::start_with(&["--trusted-proxy", "127.0.0.1"])?;
    let mut nginx = Nginx::before(&server)?;
    let (url, trust) = (nginx.url()?, nginx.trust());
    let seed = 21;
    let node = Node::new(seed)?;
    let backstop = |arguments: &[&str]| {
        let mut command = Command::new(binary("backstop")?);
        command
            .args(arguments)
            .args(["--network", "regtest", "--lightning-dir"]);
        command.arg(node.lightning_dir()).env(&trust.0, &trust.1);
        run(command.env_remove("LIGHTNINGD_PLUGIN"))
    };
    backstop(&["setup", "--server", &url])?;
    let mut program = Program::new(binary("backstop")?);
    program.variables.push(trust.clone());
    let mut lightningd = Lightningd::start(&node, &Options::new(program, seed))?;
    lightningd.pay()?;
    lightningd.stop(0)?;
    backstop(&["verify"])?;
    Ok(())
}

#[test]
fn proxies_let_the_largest_record_through() -> Result<()> {
    let largest = backstop_protocol::api::RECORD_MAX >> 20;
    assert!(read("proxy/nginx.conf")?.contains(&format!("client_max_body_size {largest}m;")));
    assert!(read("proxy/Caddyfile")?.contains(&format!("max_size {largest}MiB")));
    Ok(())
}

#[test]
fn tor_accepts_its_example() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let own = dir.path().join("torrc");
    let data = dir.path().join("tor");
    fs::write(
        &own,
        read("proxy/torrc")?.replace("/var/lib/tor", &data.display().to_string()),
    )?;
    let mut tor = system("tor");
    tor.arg("--verify-config").arg("-f").arg(&own);
    tor.arg("--DataDirectory")
        .arg(&data)
        .arg("--defaults-torrc")
        .arg(dir.path().join("none"));
    run(tor.arg("--ignore-missing-torrc"))?;
    Ok(())
}

#[test]
fn promtool_finds_no_fault_in_the_alerts_and_their_tests_pass() -> Result<()> {
    let promtool = || {
        let mut command = Command::new("promtool");
        command.current_dir(deploy("prometheus"));
        command
    };
    run(promtool().args(["check", "rules", "--lint-fatal", "alerts.yml"]))?;
    run(promtool().args(["check", "config", "scrape.yml"]))?;
    run(promtool().args(["test", "rules", "alerts.test.yml"]))?;
    Ok(())
}

/// Every expression of the dashboard.
fn expressions(panels: &Value) -> Vec<String> {
    let targets = panels.as_array().into_iter().flatten();
    let targets = targets.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    targets
        .filter_map(|target| target["expr"].as_str().map(str::to_owned))
        .collect()
}

fn dashboard() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(&read("grafana/backstop.json")?)?;
    let expressions = expressions(dashboard.get("panels").context("panels")?);
    ensure!(expressions.len() > 20, "the check has lost sight of the panels");
    Ok(expressions)
}

#[test]
fn promtool_reads_every_expression_of_the_dashboard() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let rules: Vec<_> = dashboard()?
        .into_iter()
        .enumerate()
        .map(|(at, expr)| serde_json::json!({ "record": format!("panel:{at}"), "expr": expr }))
        .collect();
    // YAML is a superset of JSON.
    let file = dir.path().join("rules.yml");
    let groups = serde_json::json!({ "groups": [{ "name": "dashboard", "rules": rules }] });
    fs::write(&file, groups.to_string())?;
    run(Command::new("promtool").args(["check", "rules"]).arg(&file))?;
    Ok(())
}

/// Names of metrics in a text: words that begin with `backstop_`.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words
        .filter(|word| word.starts_with("backstop_"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_metric_that_rules_dashboard_and_documents_name_is_one_of_the_server() -> Result<()> {
    // On an address that nothing else takes: the port is free here until the server has it.
    let listener = std::net::TcpListener::bind("127.77.0.1:0")?
        .local_addr()?
        .to_string();
    let seed = 20;
    let mut scene = Scene::with(
        seed,
        Journal::Delete,
        &["--metrics", &listener, "--metrics-nodes", "1"],
    )?;
    scene.start(seed)?.stop(0)?;
    http(scene.server.address(), "GET", "/v1/nothing", &[], b"")?;
    let there = metrics(&String::from_utf8(
        http(&listener, "GET", "/metrics", &[], b"")?.body,
    )?);
    let mut named: Vec<(String, String)> = Vec::new();
    for expression in dashboard()? {
        named.extend(
            metrics(&expression)
                .into_iter()
                .map(|name| ("dashboard".to_owned(), name)),
        );
    }
    for file in ["prometheus/alerts.yml", "prometheus/alerts.test.yml", "README.md"] {
        named.extend(
            metrics(&read(file)?)
                .into_iter()
                .map(|name| (file.to_owned(), name)),
        );
    }
    let missing: Vec<_> = named.iter().filter(|(_, name)| !there.contains(name)).collect();
    assert!(missing.is_empty(), "{missing:?}\nthere are {there:?}");
    Ok(())
}

/// The settings that the reference lists, by their variables.
fn variables() -> Result<BTreeSet<String>> {
    let reference = read("configuration.md")?;
    let quoted = reference.split('`').skip(1).step_by(2);
    Ok(quoted
        .filter(|word| word.starts_with("BACKSTOP_SERVER_"))
        .map(str::to_owned)
        .collect())
}

/// Where the lines of a container file fail what an image must be.
fn faults_of_image(text: &str, context: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut stages: Vec<&str> = Vec::new();
    let (mut user, mut base) = ("", "");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["FROM", image, "AS", stage] => {
                (base, user) = (image, "");
                stages.push(stage);
                if image.ends_with(":latest") || !image.contains(':') {
                    faults.push(format!("{image}: which one that is changes from day to day"));
                }
            }
            ["USER", name] => user = name,
            ["COPY", rest @ ..] => {
                let from = rest.iter().find_map(|word| word.strip_prefix("--from="));
                match (from, rest) {
                    (Some(stage), _) if !stages.contains(&stage) => faults.push(format!("no stage {stage}")),
                    (None, [source, _]) if !context.join(source).exists() => {
                        faults.push(format!("{source} is not there"));
                    }
                    _ => {}
                }
            }
            ["RUN", ..] if base.contains("distroless") => faults.push(format!("no shell for {line}")),
            ["ENTRYPOINT", first, ..] => {
                if !first.starts_with('[') {
                    faults.push(format!("{line} needs a shell"));
                }
                if user.is_empty() || user.starts_with('0') || user.starts_with("root") {
                    faults.push(format!("{line} runs as root"));
                }
            }
            _ => {}
        }
    }
    if !base.contains("distroless") && base != "scratch" {
        faults.push(format!("the last stage holds a whole system: {base}"));
    }
    faults
}

/// The values of a line in exec form.
fn exec(text: &str, keyword: &str) -> Result<Vec<String>> {
    let mut lines = text.lines().filter(|line| line.starts_with(keyword));
    let line = lines.next_back().with_context(|| format!("no {keyword}"))?;
    let (_, list) = line.split_once('[').context("not in exec form")?;
    Ok(serde_json::from_str(&format!("[{list}"))?)
}

#[test]
fn the_image_runs_without_root_or_shell_and_knows_whether_it_is_healthy() -> Result<()> {
    let text = read("container/Containerfile")?;
    let root = Path::new(DEPLOY)
        .parent()
        .context("deploy/ lies in the project")?;
    assert_eq!(faults_of_image(&text, root), [""; 0]);
    let known = variables()?;
    let set: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("ENV ")?.split_once('='))
        .collect();
    for (name, _) in &set {
        assert!(known.contains(*name), "{name} is no setting");
    }
    // The server understands its command line and environment as the image gives them, and so does the health check.
    let entry = exec(&text, "ENTRYPOINT ")?;
    assert_eq!(entry, ["/usr/bin/backstop-server"]);
    let with = |arguments: &[String]| -> Result<Command> {
        let mut command = Command::new(binary("backstop-server")?);
        command.args(arguments).envs(set.iter().copied());
        Ok(command)
    };
    assert_eq!(exec(&text, "CMD ")?, ["serve"]);
    run(&mut with(&["check-config".to_owned()])?)?;
    let health = exec(&text, "HEALTHCHECK ")?;
    assert_eq!(health.first(), entry.first());
    // Nothing listens there now, or what listens is no business of this test: it is understood, which is exit code 1, not 2.
    let asked = with(health.get(1..).unwrap_or_default())?
        .env("BACKSTOP_SERVER_METRICS", "127.0.0.1:1")
        .output()?;
    assert_eq!(
        asked.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&asked.stderr)
    );
    Ok(())
}

#[test]
fn an_image_with_root_a_shell_or_a_stage_that_is_not_there_is_found() {
    let here = Path::new(DEPLOY);
    let good = "FROM a:1 AS build\nCOPY README.md .\nFROM gcr.io/distroless/x:1 AS last\nCOPY --from=build /a /b\nUSER 1\nENTRYPOINT [\"/b\"]\n";
    assert_eq!(faults_of_image(good, here), [""; 0]);
    for (from, to, fault) in [
        (
            "a:1",
            "a:latest",
            "a:latest: which one that is changes from day to day",
        ),
        ("--from=build", "--from=other", "no stage other"),
        ("README.md", "READYOU.md", "READYOU.md is not there"),
        ("USER 1", "USER root", "ENTRYPOINT [\"/b\"] runs as root"),
        ("USER 1", "RUN b\nUSER 1", "no shell for RUN b"),
    ] {
        assert_eq!(faults_of_image(&good.replace(from, to), here), [fault]);
    }
}

#[test]
fn the_composition_names_what_exists_and_settings_that_the_server_takes() -> Result<()> {
    let file = yaml("container/compose.yaml")?;
    let services = file["services"].as_object().context("services")?;
    let known = variables()?;
    let names = |value: &Value| -> Vec<String> {
        match value {
            Value::Object(map) => map.keys().cloned().collect(),
            Value::Array(list) => list
                .iter()
                .filter_map(|v| v.as_str().map(str::to_owned))
                .collect(),
            _ => Vec::new(),
        }
    };
    let (volumes, networks) = (names(&file["volumes"]), names(&file["networks"]));
    for (name, service) in services {
        for other in names(&service["depends_on"]) {
            let needed = services
                .get(&other)
                .with_context(|| format!("{name} needs {other}"))?;
            let condition = service["depends_on"][&other]["condition"].as_str();
            if condition == Some("service_healthy") && other != "server" {
                assert!(
                    needed["healthcheck"]["test"].is_array(),
                    "{other} has no health check"
                );
            }
        }
        for network in names(&service["networks"]) {
            assert!(networks.contains(&network), "{name}: {network}");
        }
        for volume in names(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            let there = if source.starts_with('.') {
                deploy("container").join(source).exists()
            } else {
                volumes.iter().any(|volume| volume == source)
            };
            assert!(there, "{name}: {volume}");
        }
        if let Some(image) = service["image"].as_str() {
            assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
        }
    }
    let server = &services["server"];
    let build = deploy("container").join(server["build"]["context"].as_str().context("context")?);
    let containerfile = build.join(server["build"]["dockerfile"].as_str().context("dockerfile")?);
    let target = server["build"]["target"].as_str().context("target")?;
    assert!(fs::read_to_string(containerfile)?.contains(&format!(" AS {target}\n")));
    let mut check = Command::new(binary("backstop-server")?);
    check.arg("check-config");
    for (name, value) in server["environment"].as_object().context("environment")? {
        assert!(
            known.contains(name) || name.starts_with("AWS_"),
            "{name} is no setting"
        );
        let value = value.as_str().context("a text")?;
        check.env(name, value.replace("${POSTGRES_PASSWORD:?}", "secret"));
    }
    run(&mut check)?;
    Ok(())
}
