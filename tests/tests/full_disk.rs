//! A disk is full, the server's or the node's: the log stays whole, the node goes on where it can and waits where it
//! cannot, and room heals everything (I1, I8, I13).

use anyhow::{Context, Result, ensure};
use backstop_protocol::{api, id::RecordHash, problem::ProblemCode, record::record_hash};
use backstop_tests::{
    binaries::binary,
    caller::{Caller, record},
    chaos_proxy::{Moment, Step},
    disk,
    plugin::Program,
    scene::{ROLL_UP_OFTEN, Scene},
    servers::Server,
    wallet::Journal,
    watch::{account, configure, pay_until, pay_until_said, pay_until_said_again, says, stop},
};

/// What each side gets of the disk where it is small.
const ROOM: u64 = 24 << 20;

#[test]
fn without_room_a_record_is_refused_with_507_and_nothing_is_lost() -> Result<()> {
    let Some(server) = Server::start_with_room(4 << 20, &[])? else {
        return Ok(());
    };
    let mut caller = Caller::new(server.address(), 1)?;
    caller.open(caller.opening(0))?;
    let (mut seq, mut prev) = (0, RecordHash::NONE);
    let full = loop {
        let mut bytes = record(1, seq + 1, prev);
        bytes.resize(200_000, 7);
        let answer = caller.call("POST", api::RECORDS, &bytes)?;
        if answer.status != 200 {
            break answer;
        }
        (seq, prev) = (seq + 1, record_hash(&bytes));
        ensure!(seq < 100, "so much does not fit into the room");
    };
    assert_eq!(
        (full.status, full.problem()?.code),
        (507, ProblemCode::StorageFull)
    );
    // The head is the last record that was acknowledged, and reading goes on.
    let account = caller.account()?;
    assert_eq!((account.head.seq, account.head.hash), (seq, prev));
    let page = caller.call("GET", &format!("{}?from={seq}", api::RECORDS), b"")?;
    assert_eq!(page.status, 200);
    let frames = api::parse_frames(&page.body)?;
    assert_eq!(record_hash(frames.first().context("a frame")?.1), prev);
    Ok(())
}

#[test]
fn without_room_for_the_shadow_roll_ups_are_put_off_and_the_backup_goes_on() -> Result<()> {
    let mut scene = Scene::with(30, Journal::Delete, ROLL_UP_OFTEN)?;
    for life in [1, 2] {
        stop(scene.start(life)?)?;
    }
    let shadow = scene.node.network_dir().join("backstop/shadow");
    let backstop = scene.options.program.clone();
    let Some(mut words) = disk::with_room(ROOM, &shadow) else {
        return Ok(());
    };
    scene.options.program.path = words.remove(0).into();
    words.push(backstop.path.to_str().context("a path")?.to_owned());
    scene.options.program.arguments = words;
    let mut lightningd = scene.start(3)?;
    scene.options.program = backstop;
    pay_until_said(&mut lightningd, "Rolled up")?;

    let process = u32::try_from(lightningd.plugin().pid().as_raw())?;
    let ballast = disk::inside(process, &shadow)?.join("ballast");
    disk::fill(&ballast, 64 << 10)?;
    lightningd.write_large(1_000_000)?;
    pay_until_said(&mut lightningd, "has no room for the shadow")?;
    ensure!(says(&mut lightningd, "The backup goes on"));
    lightningd.pay()?;

    std::fs::remove_file(ballast)?;
    pay_until_said_again(&mut lightningd, "Rolled up")?;
    stop(lightningd)?;
    scene.check()
}

#[test]
fn without_room_on_the_server_a_roll_up_is_put_off_and_what_it_has_restores() -> Result<()> {
    let Some(server) = Server::start_with_room(ROOM, &["--roll-up-bytes", "1MiB", "--roll-up-ratio", "0"])?
    else {
        return Ok(());
    };
    let mut scene = Scene::on(server, 31, Journal::Delete)?;
    for life in [1, 2] {
        stop(scene.start(life)?)?;
    }
    let mut lightningd = scene.start(3)?;
    let before = account(&scene)?["snapshot"].clone();
    scene.proxy.stop_at(Step {
        request: "PUT /v1/packs/",
        moment: Moment::Asked,
    });
    lightningd.write_large(3_000_000)?;
    pay_until(&mut lightningd, "a roll-up", |_| scene.proxy.has_stopped())?;
    // Less than the pack, more than some records.
    let ballast = scene.server.data_inside()?.join("ballast");
    disk::fill(&ballast, 1 << 20)?;
    scene.proxy.release();
    pay_until_said(&mut lightningd, "The roll-up was put off")?;
    ensure!(
        says(&mut lightningd, "there is no room"),
        "{}",
        lightningd.plugin().says()
    );
    assert_eq!(account(&scene)?["snapshot"], before);
    lightningd.pay()?;
    stop(lightningd)?;
    scene.node.command(&["verify"])?.success()?;

    std::fs::remove_file(ballast)?;
    let mut lightningd = scene.start(4)?;
    pay_until_said(&mut lightningd, "Rolled up")?;
    stop(lightningd)?;
    scene.check()
}

#[test]
fn a_first_snapshot_without_room_for_it_is_waited_with_and_then_halts_the_node() -> Result<()> {
    let Some(server) = Server::start_with_room(ROOM, &[])? else {
        return Ok(());
    };
    let mut scene = Scene::on(server, 32, Journal::Delete)?;
    // The node has lived without a backup.
    let mut unprotected = Program::new(binary("yes-plugin")?);
    let heard = scene.node.lightning_dir().join("heard");
    unprotected
        .variables
        .push(("YES_PLUGIN_LOG".to_owned(), heard.display().to_string()));
    let backstop = std::mem::replace(&mut scene.options.program, unprotected);
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    lightningd.write_large(6_000_000)?;
    lightningd.stop(0)?;
    scene.options.program = backstop;
    configure(&scene, "halt_after_seconds = 600", "halt_after_seconds = 2")?;
    let ballast = scene.server.data_inside()?.join("ballast");
    disk::fill(&ballast, 2 << 20)?;
    for life in [2, 3] {
        let halted = scene.start(life).err().context("it went on without a snapshot")?;
        let says = halted.to_string();
        ensure!(says.contains("The node waits, nothing is lost"), "{says}");
        ensure!(
            says.contains("make room there, and start lightningd again"),
            "{says}"
        );
    }
    scene.oracle.check(&scene.node.database())?;

    std::fs::remove_file(ballast)?;
    let mut lightningd = scene.start(4)?;
    lightningd.pay()?;
    stop(lightningd)?;
    scene.check()
}
