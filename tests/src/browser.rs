//! A real Chromium without a window, driven over WebDriver as a person would use it, and in which no page runs a script.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How WebDriver names an element in its answers.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// How long one step may take; a machine under load starts a browser slowly.
const PATIENCE: Duration = Duration::from_mins(2);
/// Between two looks at what the browser has done.
const PAUSE: Duration = Duration::from_millis(20);

/// What the browser says to be shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// Pixels of CSS.
    pub width: u32,
    /// The same.
    pub height: u32,
    /// Whether it is a phone's.
    pub phone: bool,
    /// Whether its owner likes it dark.
    pub dark: bool,
}

/// A window on a desk.
pub const DESK: Screen = Screen {
    width: 1280,
    height: 900,
    phone: false,
    dark: false,
};

/// A phone.
pub const PHONE: Screen = Screen {
    width: 390,
    height: 844,
    phone: true,
    dark: false,
};

/// One browser with an empty profile; gone when dropped.
pub struct Browser {
    driver: Child,
    connection: BufReader<TcpStream>,
    session: String,
    profile: TempDir,
}

/// A program that must be there.
fn program(name: &str) -> Result<Command> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    ensure!(found, "{name} is not there: `cargo test-all` installs it");
    Ok(Command::new(name))
}

impl Browser {
    /// Starts one.
    pub fn start() -> Result<Self> {
        program("chromium")?;
        let profile = tempfile::tempdir()?;
        let mut driver = program("chromedriver")?
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let port = match port(&mut driver) {
            Ok(port) => port,
            Err(error) => {
                let _ = driver.kill();
                let _ = driver.wait();
                return Err(error);
            }
        };
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut browser = Self {
            driver,
            connection: BufReader::new(stream),
            session: String::new(),
            profile,
        };
        let profile = browser.profile.path().join("profile");
        let arguments = [
            "--headless".to_owned(),
            "--no-sandbox".to_owned(),
            "--disable-gpu".to_owned(),
            "--disable-quic".to_owned(),
            "--no-first-run".to_owned(),
            "--disable-background-networking".to_owned(),
            "--disable-component-update".to_owned(),
            "--disable-sync".to_owned(),
            format!("--user-data-dir={}", profile.display()),
        ];
        // 2: block. What a test runs in a page runs beside the page, and is not stopped by that.
        let scripts = json!({ "profile.managed_default_content_settings.javascript": 2 });
        let chrome = json!({ "binary": "/usr/bin/chromium", "args": arguments, "prefs": scripts });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": chrome } } });
        let answer = browser.call("POST", "/session", &wanted)?;
        let session = answer.get("sessionId").and_then(Value::as_str);
        session.context("no session")?.clone_into(&mut browser.session);
        Ok(browser)
    }

    /// One command of WebDriver; what it answers.
    fn call(&mut self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.connection.get_mut().write_all(request.as_bytes())?;
        let mut line = String::new();
        self.connection.read_line(&mut line)?;
        let fine = line.contains(" 200 ");
        let mut length = 0;
        loop {
            line.clear();
            ensure!(self.connection.read_line(&mut line)? > 0, "the driver hung up");
            let Some((name, value)) = line.trim().split_once(':') else {
                break;
            };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse()?;
            }
        }
        let mut body = vec![0; length];
        self.connection.read_exact(&mut body)?;
        let mut answer: Value = serde_json::from_slice(&body)?;
        let value = answer.get_mut("value").map(Value::take).unwrap_or_default();
        if fine {
            Ok(value)
        } else {
            bail!("{method} {path}: {value}")
        }
    }

    fn post(&mut self, command: &str, body: &Value) -> Result<Value> {
        let path = format!("/session/{}/{command}", self.session);
        self.call("POST", &path, body)
    }

    /// A command of the browser's own protocol.
    fn devtools(&mut self, command: &str, parameters: &Value) -> Result<Value> {
        self.post(
            "goog/cdp/execute",
            &json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Shows pages on this screen from now on.
    pub fn show_on(&mut self, screen: Screen) -> Result<()> {
        let Screen {
            width,
            height,
            phone,
            dark,
        } = screen;
        let scale = if phone { 2 } else { 1 };
        let metrics =
            json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": phone });
        self.devtools("Emulation.setDeviceMetricsOverride", &metrics)?;
        let scheme = if dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", &media)?;
        Ok(())
    }

    /// Goes to an address.
    pub fn open(&mut self, url: &str) -> Result<()> {
        self.post("url", &json!({ "url": url }))?;
        Ok(())
    }

    /// What stands in the title.
    pub fn title(&mut self) -> Result<String> {
        Ok(self
            .run("return document.title")?
            .as_str()
            .unwrap_or_default()
            .to_owned())
    }

    /// All text of the page that a person sees.
    pub fn text(&mut self) -> Result<String> {
        let text = self.run("return document.body.innerText")?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    fn element(&mut self, selector: &str) -> Result<String> {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.post("element", &by)?;
        Ok(found
            .get(ELEMENT)
            .and_then(Value::as_str)
            .context("no element")?
            .to_owned())
    }

    /// Types into a field.
    pub fn type_into(&mut self, selector: &str, text: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("element/{element}/value"), &json!({ "text": text }))?;
        Ok(())
    }

    /// Clicks.
    pub fn click(&mut self, selector: &str) -> Result<()> {
        let element = self.element(selector)?;
        self.post(&format!("element/{element}/click"), &json!({}))?;
        Ok(())
    }

    /// Clicks on what leads to another page, and waits until that is there.
    pub fn follow(&mut self, selector: &str) -> Result<()> {
        let before = self.element("html")?;
        let before = format!("/session/{}/element/{before}/name", self.session);
        self.click(selector)?;
        let deadline = Instant::now() + PATIENCE;
        // What belongs to the page before is gone with it.
        while self.call("GET", &before, &Value::Null).is_ok() || !self.is_whole()? {
            ensure!(Instant::now() < deadline, "{selector} leads nowhere");
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn is_whole(&mut self) -> Result<bool> {
        Ok(self.run("return document.readyState")?.as_str() == Some("complete"))
    }

    /// What a script of the test finds in the page.
    pub fn run(&mut self, script: &str) -> Result<Value> {
        self.post("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// How the page presents itself to whoever does not see it: how many there are of a role.
    pub fn count_of_role(&mut self, role: &str) -> Result<usize> {
        let tree = self.devtools("Accessibility.getFullAXTree", &json!({}))?;
        let nodes = tree.get("nodes").and_then(Value::as_array).context("no tree")?;
        let is = |node: &&Value| {
            node.pointer("/role/value") == Some(&Value::from(role))
                && node.get("ignored") != Some(&Value::from(true))
        };
        Ok(nodes.iter().filter(is).count())
    }

    /// A picture of the whole page, PNG in base64.
    pub fn picture(&mut self) -> Result<String> {
        let whole = json!({ "captureBeyondViewport": true });
        let answer = self.devtools("Page.captureScreenshot", &whole)?;
        Ok(answer
            .get("data")
            .and_then(Value::as_str)
            .context("no picture")?
            .to_owned())
    }
}

/// The port that the driver chose, from its own words.
fn port(driver: &mut Child) -> Result<u16> {
    let mut lines = BufReader::new(driver.stdout.take().context("no stdout")?).lines();
    let said = lines.find_map(|line| {
        let line = line.ok()?;
        line.split_once("started successfully on port ")
            .map(|(_, port)| port.trim_end_matches('.').to_owned())
    });
    // Reads on, so that the driver never waits for a reader.
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(drop));
    Ok(said
        .context("chromedriver does not say on which port it listens")?
        .parse()?)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // This ends the browser too; who is gone already needs no end.
        let path = format!("/session/{}", self.session);
        let _ = self.call("DELETE", &path, &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
