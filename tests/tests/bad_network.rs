//! What a network can do to a batch beside cutting it: repeat pieces, stay half open, answer garbage or a forgery. The node
//! waits, goes on, and nothing is doubled.
//!
//! `BACKSTOP_SEED` runs one seed alone; a failure names its seed.

use anyhow::{Context, Result, ensure};
use backstop_tests::{
    chaos_proxy::{Direction, Moment, Step, Weather},
    rng::Rng,
    scene::Scene,
    seeds::{Budget, many_seeds},
    wallet::Journal,
    watch::{pay_until, stop},
};
use std::time::Duration;

const BUDGET: Budget = Budget {
    time: Duration::from_secs(6),
    least: 2,
    most: 30,
};

/// No answer at all, one of no server, and refusals that would halt the node if the server had made them.
const ANSWERS: &[&[u8]] = &[
    b"\x00\xff\x16\x03\x01 no HTTP at all",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\ncontent-length: 90\r\n\r\n\
      {\"type\":\"urn:backstop:problem:fenced\",\"title\":\"x\",\"status\":409,\"code\":\"fenced\",\"epoch\":99}",
    b"HTTP/1.1 409 Conflict\r\ncontent-type: application/problem+json\r\ncontent-length: 94\r\n\r\n\
      {\"type\":\"urn:backstop:problem:not_next\",\"title\":\"x\",\"status\":409,\"code\":\"not_next\",\"epoch\":99}",
];

#[test]
fn repeated_pieces_and_invented_answers_double_nothing_and_halt_nobody() -> Result<()> {
    many_seeds(BUDGET, |seed| {
        let mut rng = Rng::new(seed ^ 0xbad);
        let mut scene = Scene::new(seed, Journal::Delete)?;
        let mut lightningd = scene.start(seed)?;
        for _ in 0..3 {
            let weather = match rng.below(3) {
                0 => Weather::Twice(Direction::ToServer, rng.between(1, 2)),
                1 => Weather::Twice(Direction::ToClient, rng.between(1, 2)),
                _ => Weather::Instead(rng.pick(ANSWERS).context("some")?, rng.between(1, 2)),
            };
            let before = scene.proxy.faults();
            scene.proxy.set(weather);
            pay_until(&mut lightningd, "a fault", |_| scene.proxy.faults() > before)
                .with_context(|| format!("{weather:?}"))?;
        }
        scene.proxy.set(Weather::Clear);
        lightningd.pay()?;
        stop(lightningd)?;
        scene.check()
    })
}

#[test]
fn every_invented_answer_to_a_batch_or_to_an_opening_is_taken_for_none() -> Result<()> {
    let mut scene = Scene::new(402, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    for answer in ANSWERS {
        let before = scene.proxy.faults();
        scene.proxy.set(Weather::Instead(answer, 2));
        pay_until(&mut lightningd, "a forgery", |_| {
            scene.proxy.faults() > before + 1
        })?;
    }
    drop(lightningd.kill()?);
    for (start, answer) in ANSWERS.iter().enumerate() {
        let before = scene.proxy.faults();
        // Those of `getmanifest` first, then those of the first batch.
        scene
            .proxy
            .set(Weather::Instead(answer, 1 + 3 * (start as u64 % 2)));
        let lightningd = scene.start_or_restart(start as u64)?;
        ensure!(scene.proxy.faults() > before, "nobody asked");
        drop(lightningd.kill()?);
    }
    let lightningd = scene.start(9)?;
    stop(lightningd)?;
    scene.check()
}

/// Nothing more comes over the connection of a batch, from this moment on, and nobody closes it.
fn half_open(moment: Moment) -> Result<()> {
    let mut scene = Scene::new(404, Journal::Delete)?;
    let mut lightningd = scene.start(1)?;
    lightningd.pay()?;
    scene.proxy.stop_at(Step {
        request: "POST /v1/records",
        moment,
    });
    lightningd.pay()?;
    ensure!(scene.proxy.has_stopped(), "nothing was held");
    scene.proxy.release();
    lightningd.pay()?;
    stop(lightningd)?;
    scene.check()
}

#[test]
fn a_connection_that_is_half_open_is_given_up_and_the_batch_is_sent_over_another_one() -> Result<()> {
    std::thread::scope(|scope| {
        // Each takes as long as the plugin waits for an answer.
        let tries = [Moment::Asked, Moment::Answered].map(|moment| scope.spawn(move || half_open(moment)));
        tries.into_iter().try_for_each(|tried| {
            tried
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    })
}
