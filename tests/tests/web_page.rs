//! The server's pages in a real browser in which no page runs a script: a node's owner and the operator see what they should,
//! on a desk and on a phone, by light and in the dark; and so does whoever does not see the screen.

use anyhow::{Context, Result, ensure};
use backstop_protocol::{
    api::{self, ProofReport},
    record::record_hash,
    signmessage,
};
use backstop_tests::{
    browser::{Browser, DESK, PHONE, Screen},
    caller::{self, Caller, http},
    device::Device,
    node::Node,
    scene::Scene,
    wallet::Journal,
};
use rusqlite::Connection;
use serde_json::json;
use std::{
    fs::{self, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
};

const TOKEN: &str = "correct horse battery staple";
/// As narrow as phones are.
const NARROW: Screen = Screen {
    width: 360,
    height: 740,
    ..PHONE
};

/// What is wrong with a page for somebody who does not see it, sees it badly, has a small screen, or no mouse. It
/// looks at colours as they came out, and at every element there is.
const FAULTS: &str = r#"
const faults = [];
const all = [...document.querySelectorAll('*')];
const name = e => e.tagName.toLowerCase() + (e.id ? '#' + e.id : '') + (e.className && e.className.baseVal === undefined ? '.' + e.className : '');
const shown = e => e.getClientRects().length > 0 && getComputedStyle(e).visibility !== 'hidden';
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) faults.push('the page is ' + document.documentElement.scrollWidth + ' wide');
if (document.documentElement.lang !== 'en') faults.push('no language');
if (!document.title) faults.push('no title');
for (const one of ['main', 'h1', 'header', 'footer']) if (document.querySelectorAll(one).length !== 1) faults.push('not one ' + one);
let level = 0;
for (const heading of document.querySelectorAll('h1, h2, h3, h4')) {
  const next = Number(heading.tagName[1]);
  if (next > level + 1) faults.push(name(heading) + ' skips a level');
  level = next;
}
const ids = new Set();
for (const e of all) {
  if (e.id && ids.has(e.id)) faults.push('two of ' + name(e));
  if (e.id) ids.add(e.id);
}
for (const e of all) for (const to of ['aria-labelledby', 'aria-describedby', 'for'])
  for (const id of (e.getAttribute(to) || '').split(' ').filter(id => id)) if (!document.getElementById(id)) faults.push(name(e) + ' names no ' + id);
for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea, meter')) if (!e.labels.length) faults.push(name(e) + ' has no label');
for (const e of document.querySelectorAll('svg')) if (e.getAttribute('role') !== 'img' || !e.querySelector('title') || !e.querySelector('desc')) faults.push('a picture without words');
for (const e of document.querySelectorAll('table')) {
  if (!e.caption) faults.push('a table without a caption');
  for (const th of e.querySelectorAll('th')) if (!th.scope) faults.push('a head without a scope');
}
for (const e of document.querySelectorAll('button, input:not([type=hidden]), select, textarea, summary')) {
  const box = e.getBoundingClientRect();
  if (shown(e) && (box.width < 24 || box.height < 24)) faults.push(name(e) + ' is too small to hit');
}
for (const e of document.querySelectorAll('section, dl, table, p, pre, h1, h2, form, figure')) {
  const box = e.getBoundingClientRect();
  if (shown(e) && !e.closest('thead, .skip') && (box.right > width + 1 || box.left < -1)) faults.push(name(e) + ' leaves the screen');
}
const parse = text => { const n = text.match(/[\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const light = ([r, g, b]) => { const f = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); };
const ground = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
let looked = 0;
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !shown(e) || e.closest('.skip, meter, option, title, desc')) continue;
  const style = getComputedStyle(e);
  const ink = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
  const [a, b] = [light(parse(ink)), light(ground(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  looked += 1;
  if (ratio < (large ? 3 : 4.5)) faults.push(name(e) + ' is hard to read: ' + ratio.toFixed(2) + ' of "' + walker.currentNode.data.trim().slice(0, 30) + '"');
}
if (looked < 5) faults.push('only ' + looked + ' texts were looked at');
return faults;
"#;

/// Keeps a picture for a person to look at, where one asked for it.
fn keep(browser: &mut Browser, name: &str) -> Result<()> {
    let Some(folder) = std::env::var_os("BACKSTOP_PICTURES") else {
        return Ok(());
    };
    fs::create_dir_all(&folder)?;
    let file = fs::File::create(Path::new(&folder).join(format!("{name}.png")))?;
    let mut decoder = Command::new("base64")
        .arg("--decode")
        .stdin(Stdio::piped())
        .stdout(file)
        .spawn()?;
    let picture = browser.picture()?;
    decoder
        .stdin
        .take()
        .context("no stdin")?
        .write_all(picture.as_bytes())?;
    ensure!(decoder.wait()?.success(), "base64 failed");
    Ok(())
}

/// Looks at the page that is open on every screen, and finds nothing wrong with it.
fn inspect(browser: &mut Browser, name: &str) -> Result<()> {
    let dark = |screen| Screen { dark: true, ..screen };
    for (kind, screen) in [
        ("desk", DESK),
        ("desk-dark", dark(DESK)),
        ("phone", PHONE),
        ("phone-dark", dark(PHONE)),
        ("narrow", NARROW),
    ] {
        browser.show_on(screen)?;
        let faults = browser.run(FAULTS)?;
        ensure!(faults == json!([]), "{name} on {kind}: {faults:#}");
        keep(browser, &format!("{name}-{kind}"))?;
    }
    browser.show_on(DESK)
}

fn says(browser: &mut Browser, what: &str) -> Result<String> {
    let text = browser.text()?;
    ensure!(text.contains(what), "{what:?} is not on the page:\n{text}");
    Ok(text)
}

/// What a person copies off the page, and what his terminal prints for it.
fn sign(browser: &mut Browser, key: &secp256k1::SecretKey) -> Result<String> {
    let command = browser.run("return document.querySelector('pre').innerText")?;
    let command = command.as_str().context("no command")?;
    let (program, rest) = command.split_once(" signmessage '").context(command.to_owned())?;
    ensure!(program == "lightning-cli --network=regtest", "{command}");
    let text = rest.strip_suffix('\'').context(command.to_owned())?;
    let answer =
        json!({ "signature": "00".repeat(64), "recid": "01", "zbase": signmessage::sign(text, key) });
    Ok(serde_json::to_string_pretty(&answer)?)
}

/// Both steps of a login.
fn log_in(browser: &mut Browser, url: &str, node: &str, key: &secp256k1::SecretKey) -> Result<()> {
    browser.open(url)?;
    browser.type_into("#node", node)?;
    browser.type_into("#network", "regtest")?;
    browser.follow("form button")?;
    let answer = sign(browser, key)?;
    browser.type_into("#signature", &answer)?;
    browser.follow("form button")
}

/// Moves everything that a server holds of a node into the past, so that it lies some days apart.
fn age(scene: &mut Scene, days: i64) -> Result<()> {
    scene.server.stop()?;
    let database = Connection::open(scene.server.data().join("backstop.sqlite3"))?;
    let (begin, end): (i64, i64) = database.query_row(
        "SELECT min(received_at), max(received_at) FROM records",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let times = days * 86_400_000 / (end - begin).max(1);
    for (table, column) in [
        ("records", "received_at"),
        ("snapshots", "committed_at"),
        ("files", "received_at"),
        ("grants", "shown_at"),
        ("accounts", "created_at"),
        ("accounts", "tail_since"),
    ] {
        let moved = format!("UPDATE {table} SET {column} = {end} - ({end} - {column}) * {times}");
        database.execute(&moved, [])?;
    }
    drop(database);
    scene.server.restart()
}

#[test]
fn no_page_runs_a_script_in_this_browser() -> Result<()> {
    let mut browser = Browser::start()?;
    browser.open("data:text/html,<title>off</title><script>document.title='on'</script>")?;
    ensure!(browser.title()? == "off");
    Ok(())
}

#[test]
fn what_is_wrong_with_a_page_is_found() -> Result<()> {
    let mut browser = Browser::start()?;
    browser.show_on(PHONE)?;
    let bad = "<title></title><h3>a</h3><input id=x><div id=x></div><svg></svg><table><tr><th>b</table><p style='color:%23999'>pale</p><p style='width:900px'>wide</p><button style='width:4px;height:4px;padding:0'></button>";
    browser.open(&format!(
        "data:text/html,<meta name=viewport content='width=device-width'>{bad}"
    ))?;
    let faults = browser.run(FAULTS)?.to_string();
    for fault in [
        "wide",
        "no language",
        "no title",
        "not one main",
        "skips a level",
        "two of div#x",
        "has no label",
        "without words",
        "without a caption",
        "without a scope",
        "too small to hit",
        "leaves the screen",
        "hard to read",
    ] {
        ensure!(faults.contains(fault), "{fault} was not found: {faults}");
    }
    Ok(())
}

#[test]
fn an_owner_sees_the_backup_of_a_running_node() -> Result<()> {
    let mut scene = Scene::with(
        71,
        Journal::Delete,
        &["--roll-up-records", "40", "--quota", "8MiB"],
    )?;
    let mut lightningd = scene.start(71)?;
    for _ in 0..20 {
        lightningd.pay()?;
    }
    let device = Device::granted(&scene.node)?;
    device.catch_up(&[])?.success()?;
    lightningd.stop(0)?;
    age(&mut scene, 6)?;
    let (url, key, id) = (
        scene.server.url(),
        scene.node.key()?,
        scene.node.node_id()?.to_string(),
    );

    let mut browser = Browser::start()?;
    browser.open(&url)?;
    says(&mut browser, "Look at your node's backup")?;
    inspect(&mut browser, "home")?;
    browser.type_into("#node", "03not a node")?;
    browser.follow("form button")?;
    says(&mut browser, "That is no node id")?;
    inspect(&mut browser, "home-wrong")?;
    browser.type_into("#node", &id)?;
    browser.type_into("#network", "regtest")?;
    browser.follow("form button")?;
    says(&mut browser, "Type this on the node's machine")?;
    inspect(&mut browser, "login")?;
    // A tap on the command selects all of it, and nothing else.
    browser.click("pre")?;
    let selected = browser.run("return getComputedStyle(document.querySelector('pre')).userSelect")?;
    ensure!(selected == "all", "{selected}");
    let wrong = sign(&mut browser, &Node::new(72)?.key()?)?;
    browser.type_into("#signature", &wrong)?;
    browser.follow("form button")?;
    says(&mut browser, "That signature is not your node's")?;
    inspect(&mut browser, "login-wrong")?;
    let answer = sign(&mut browser, &key)?;
    browser.type_into("#signature", &answer)?;
    browser.follow("form button")?;
    let text = says(&mut browser, "Your node is backed up here")?;
    for shown in [
        &id,
        "Quota: ",
        "Snapshots of the database, sealed",
        "read: a mirror",
        "append: the node's plugin",
    ] {
        ensure!(text.contains(shown), "{shown:?} is not on the page:\n{text}");
    }
    inspect(&mut browser, "backup")?;
    browser.click("details summary")?;
    inspect(&mut browser, "backup-tables")?;
    // Laid out as cards, tables are tables all the same.
    for screen in [DESK, PHONE] {
        browser.show_on(screen)?;
        ensure!(browser.count_of_role("table")? >= 2, "no tables on {screen:?}");
        ensure!(
            browser.count_of_role("rowheader")? >= 3,
            "no heads of rows on {screen:?}"
        );
    }
    browser.follow("header button")?;
    says(&mut browser, "Look at your node's backup")?;
    browser.open(&format!("{url}/backup"))?;
    says(&mut browser, "You are not logged in")?;
    inspect(&mut browser, "over")
}

#[test]
fn an_owner_whose_node_is_in_trouble_sees_it_first_with_what_to_do() -> Result<()> {
    let server = backstop_tests::servers::Server::start_with(&["--quota", "2KiB"])?;
    let mut node = Caller::new(server.address(), 3)?;
    write(&mut node, 5)?;
    prove(&mut node, 5, false)?;
    let mut browser = Browser::start()?;
    log_in(
        &mut browser,
        &server.url(),
        &node.node().to_string(),
        &node.node_key,
    )?;
    let text = says(
        &mut browser,
        "Your node found that this backup differs from its database",
    )?;
    ensure!(text.contains("backstop accept --network regtest"), "{text}");
    ensure!(text.contains("The room for your node is running out"), "{text}");
    inspect(&mut browser, "trouble")
}

/// Writes so many records.
fn write(node: &mut Caller, records: u64) -> Result<()> {
    let opening = node.opening(0);
    let mut head = node.open(opening)?.head.hash;
    for seq in 1..=records {
        let record = caller::record(1, seq, head);
        let answer = node.call("POST", api::RECORDS, &record)?;
        ensure!(answer.status == 200, "{answer:?}");
        head = record_hash(&record);
    }
    Ok(())
}

fn prove(node: &mut Caller, seq: u64, equal: bool) -> Result<()> {
    let report = serde_json::to_vec(&ProofReport { seq, equal })?;
    let answer = node.call("POST", api::PROOFS, &report)?;
    ensure!(answer.status == 200, "{answer:?}");
    Ok(())
}

#[test]
fn the_operator_sees_the_fleet_with_those_in_trouble_first() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("token");
    fs::write(&file, TOKEN)?;
    fs::set_permissions(&file, Permissions::from_mode(0o600))?;
    let file = file.to_string_lossy();
    // On an address that nothing else takes: the port is free here until the server has it.
    let metrics = std::net::TcpListener::bind("127.77.0.2:0")?
        .local_addr()?
        .to_string();
    let arguments = [
        "--quota",
        "4KiB",
        "--metrics",
        &metrics,
        "--web-admin-token",
        &file,
    ];
    let server = backstop_tests::servers::Server::start_with(&arguments)?;
    for (byte, records) in [(1, 3), (2, 9), (3, 12), (4, 0), (5, 2), (6, 1), (7, 4)] {
        let mut node = Caller::new(server.address(), byte)?;
        write(&mut node, records)?;
        if byte == 5 {
            prove(&mut node, records, false)?;
        }
    }
    let worst = Caller::new(server.address(), 5)?.node().to_string();

    let mut browser = Browser::start()?;
    browser.open(&format!("http://{metrics}/fleet"))?;
    says(&mut browser, "Admin token")?;
    inspect(&mut browser, "fleet-login")?;
    browser.type_into("#token", "a guess")?;
    browser.follow("form button")?;
    says(&mut browser, "That is not the admin token")?;
    browser.type_into("#token", TOKEN)?;
    browser.follow("form button")?;
    let text = says(&mut browser, "held: a proof failed")?;
    for shown in ["over its quota", "near its quota", "never wrote", "backed up"] {
        ensure!(text.contains(shown), "{shown:?} is not on the page:\n{text}");
    }
    let first = browser.run("return document.querySelector('tbody th code').title")?;
    ensure!(first == worst, "{first} comes first");
    inspect(&mut browser, "fleet")?;
    for screen in [DESK, PHONE] {
        browser.show_on(screen)?;
        ensure!(
            browser.count_of_role("rowheader")? == 7,
            "not all nodes on {screen:?}"
        );
    }
    browser.follow("header button")?;
    says(&mut browser, "Admin token")?;
    // The same machine, and another address: nothing of it is there.
    ensure!(http(server.address(), "GET", "/fleet", &[], b"")?.status == 404);
    Ok(())
}
