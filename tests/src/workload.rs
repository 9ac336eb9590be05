//! What a busy node writes: payments of 13 to 21 batches with the sizes and the oddities of real ones.

use crate::{
    rng::Rng,
    sql,
    statement::{Statement, Value},
};
use anyhow::Result;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;

/// Texts that have broken parsers of SQL or JSON before.
const TEXTS: &[&[u8]] = &[
    b"",
    b"coffee",
    b"it's \"quoted\", twice ''",
    b"semicolon; -- no comment /* nor this */",
    "na\u{ef}ve \u{2615}\nsecond line\ttab".as_bytes(),
    b"back\\slash \\u0041 \x7f\x01",
    b"cut \xe2\x98",
    b"\xff\xfe not UTF-8 \xc0\xaf'",
    b"x'00ff'",
    b"{\"json\": [1, 2]}",
];

/// Statements for the batches of a payment and of life around it; the database's counters are the only state.
pub struct Workload<'a> {
    rng: &'a mut Rng,
    connection: &'a Connection,
    counters: BTreeMap<&'static str, i64>,
}

impl<'a> Workload<'a> {
    /// Reads what it needs of a database between two transactions.
    pub fn new(rng: &'a mut Rng, connection: &'a Connection) -> Self {
        Self {
            rng,
            connection,
            counters: BTreeMap::new(),
        }
    }

    /// The batches of one payment, in order: 13 that every payment has, and up to 8 of other life in between.
    pub fn payment(mut self) -> Result<Vec<Vec<Statement>>> {
        let mut batches = Vec::new();
        let channel = self.channel(&mut batches)?;
        let hash = self.rng.bytes(32);
        batches.push(self.sendpay(&hash)?);
        let htlc = self.next("last_htlcs_created_index", &mut Vec::new())?;
        batches.push(self.add_htlc(channel, htlc, &hash));
        for round in 0..2 {
            batches.extend(self.commitment(channel, htlc, round)?);
        }
        batches.push(self.settle(channel, htlc, &hash)?);
        // Opening a channel took a batch too; 21 is what a payment has at most.
        let extras = self.rng.below(9).min(21_u64.saturating_sub(batches.len() as u64));
        // In ascending order, so that counters never fall.
        let mut places: Vec<usize> = (0..extras)
            .map(|_| 1 + self.rng.index(batches.len() - 1))
            .collect();
        places.sort_unstable();
        for (before, place) in places.into_iter().enumerate() {
            let extra = self.extra()?;
            batches.insert(place + before, extra);
        }
        Ok(batches)
    }

    /// One batch of `bytes` or a little more.
    pub fn large(self, bytes: usize) -> Vec<Statement> {
        let mut batch = Vec::new();
        let mut left = bytes / 2;
        while left > 0 {
            let part = left.min(50_000);
            let key = self.rng.bytes(24);
            let data = self.rng.bytes(part);
            batch.push(sql!("INSERT INTO datastore VALUES (?, ?, ?)", key, data, 0_i64));
            left -= part;
        }
        batch
    }

    /// A channel to pay over; every now and then an old one closes and takes its rows with it.
    fn channel(&mut self, batches: &mut Vec<Vec<Statement>>) -> Result<i64> {
        let mut query = self.connection.prepare("SELECT id FROM channels ORDER BY id")?;
        let channels: Vec<i64> = query
            .query_map([], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        if channels.len() >= 3 && self.rng.one_in(6) {
            let gone = self.rng.pick(&channels).copied().unwrap_or(0);
            batches.push(vec![
                sql!(
                    "DELETE FROM peers WHERE id=(SELECT peer_id FROM channels WHERE id=?)",
                    gone
                ),
                sql!("DELETE FROM shachains WHERE id=?", gone),
            ]);
            let kept: Vec<i64> = channels.into_iter().filter(|channel| *channel != gone).collect();
            return Ok(self.rng.pick(&kept).copied().unwrap_or(0));
        }
        if channels.len() < 2 || (channels.len() < 5 && self.rng.one_in(8)) {
            let (id, batch) = self.open_channel()?;
            batches.push(batch);
            return Ok(id);
        }
        Ok(self.rng.pick(&channels).copied().unwrap_or(0))
    }

    fn open_channel(&mut self) -> Result<(i64, Vec<Statement>)> {
        let mut batch = Vec::new();
        let id = self.next("last_channel_dbid", &mut batch)?;
        let alias = self.text();
        batch.push(sql!(
            "INSERT INTO peers VALUES (?, ?, ?)",
            id,
            self.rng.bytes(33),
            "127.0.0.1:9735"
        ));
        batch.push(sql!(
            "INSERT INTO shachains VALUES (?, ?, 0)",
            id,
            0xffff_ffff_ffff_i64
        ));
        batch.push(sql!(
            "INSERT INTO channels (id, peer_id, state, scid, msatoshi_local, max_in_flight, alias, features) \
             VALUES (?, ?, 3, ?, 5000000000, ?, ?, ?)",
            id,
            id,
            self.rng.below(1 << 62),
            u64::MAX,
            alias,
            Value::Null,
        ));
        Ok((id, batch))
    }

    fn sendpay(&mut self, hash: &[u8]) -> Result<Vec<Statement>> {
        let mut batch = Vec::new();
        let id = self.next("last_sendpays_created_index", &mut batch)?;
        let description = self.text();
        batch.push(sql!(
            "INSERT INTO payments (  id,  status,  payment_hash,  msatoshi,  timestamp,  group_id,  description,  \
             path_secrets) VALUES (?, 0, ?, ?, ?, ?, ?, ?);",
            id,
            hash.to_vec(),
            self.rng.below(1 << 40),
            1_795_331_195_i64,
            self.rng.draw(),
            description,
            self.rng.bytes(96),
        ));
        Ok(batch)
    }

    fn add_htlc(&mut self, channel: i64, htlc: i64, hash: &[u8]) -> Vec<Statement> {
        vec![
            sql!(
                "UPDATE vars SET intval=? WHERE name='last_htlcs_created_index';",
                htlc
            ),
            sql!(
                "INSERT INTO channel_htlcs ( id, channel_id, channel_htlc_id, direction, msatoshi, cltv_expiry, \
                 payment_hash, payment_key, hstate, routing_onion) VALUES (?, ?, ?, 1, 1000, 167, ?, NULL, 0, ?)",
                htlc,
                channel,
                htlc,
                hash.to_vec(),
                self.rng.bytes(1366),
            ),
            sql!(
                "UPDATE channels SET msatoshi_local = msatoshi_local - 1000 WHERE id = ?;",
                channel
            ),
        ]
    }

    /// The five synchronous commits of one change of a channel's state.
    fn commitment(&mut self, channel: i64, htlc: i64, round: u64) -> Result<Vec<Vec<Statement>>> {
        let number = self.commitment_number(channel)? + i64::from(round == 1);
        let hstate = |step: u64| {
            sql!(
                "UPDATE channel_htlcs SET hstate=?, updated_index=?  WHERE id=?",
                round * 10 + step,
                htlc,
                htlc
            )
        };
        let mut sending = vec![hstate(1), self.save_channel(channel, number)];
        sending.push(sql!("DELETE FROM channel_feerates WHERE channel_id=?", channel));
        sending.push(sql!(
            "INSERT INTO channel_feerates  VALUES(?, 4, ?)",
            channel,
            self.rng.between(253, 9999)
        ));
        sending.push(sql!(
            "INSERT OR REPLACE INTO penalty_bases (  channel_id, commitnum, txid, outnum, amount) VALUES (?, ?, ?, 3, ?);",
            channel,
            number,
            self.rng.bytes(32),
            self.rng.below(1 << 50),
        ));
        let anchors = vec![
            sql!(
                "INSERT INTO local_anchors VALUES (?,?,?,1,?)",
                channel,
                number,
                self.rng.bytes(32),
                1284_i64
            ),
            sql!(
                "DELETE FROM local_anchors WHERE channel_id = ? and commitment_index <= ?;",
                channel,
                number - 2
            ),
        ];
        let index = 0xffff_ffff_ffff_i64 - number;
        let revoked = vec![
            hstate(2),
            sql!(
                "UPDATE shachains SET num_valid=num_valid+1, min_index=? WHERE id=?",
                index,
                channel
            ),
            sql!(
                "INSERT OR REPLACE INTO shachain_known VALUES (?, ?, ?, ?)",
                channel,
                number % 49,
                index,
                self.rng.bytes(32)
            ),
            self.save_channel(channel, number),
        ];
        let mut signed = vec![
            hstate(3),
            sql!("DELETE FROM htlc_sigs WHERE channel_id = ?", channel),
        ];
        for _ in 0..self.rng.below(3) {
            signed.push(sql!(
                "INSERT INTO htlc_sigs VALUES (?, ?)",
                channel,
                self.rng.bytes(64)
            ));
        }
        signed.push(self.save_channel(channel, number));
        let backup = vec![sql!(
            "INSERT OR REPLACE INTO datastore VALUES (?, ?, 1)",
            b"chanbackup\0latestscb".to_vec(),
            {
                let len = usize::try_from(self.rng.between(300, 3000))?;
                self.rng.bytes(len)
            }
        )];
        Ok(vec![sending, anchors, revoked, signed, backup])
    }

    fn settle(&mut self, channel: i64, htlc: i64, hash: &[u8]) -> Result<Vec<Statement>> {
        let mut batch = vec![
            sql!(
                "UPDATE channel_htlcs SET hstate=9, payment_key=?, routing_onion=NULL WHERE id=?",
                self.rng.bytes(32),
                htlc
            ),
            sql!(
                "UPDATE payments SET status=?, completed_at=1795331196 WHERE payment_hash=?",
                self.rng.between(1, 2),
                hash.to_vec()
            ),
        ];
        let id = self.next("last_channelmoves_created_index", &mut batch)?;
        batch.push(sql!(
            "INSERT INTO channel_moves VALUES (?, ?, -1000, 8, ?, ?)",
            id,
            channel,
            hash.to_vec(),
            self.rng.draw(),
        ));
        Ok(batch)
    }

    /// Life around payments: invoices, forwards, blocks, coins, clean-up.
    fn extra(&mut self) -> Result<Vec<Statement>> {
        let mut batch = Vec::new();
        match self.rng.below(6) {
            0 => {
                let id = self.next("last_invoices_created_index", &mut batch)?;
                // Labels are unique: the id keeps an odd text from being taken.
                let mut label = id.to_string().into_bytes();
                label.extend_from_slice(self.rng.pick(TEXTS).copied().unwrap_or_default());
                batch.push(sql!(
                    "INSERT INTO invoices (id, state, msatoshi, payment_hash, label, description) VALUES (?, 0, ?, ?, ?, ?)",
                    id,
                    Value::Null,
                    self.rng.bytes(32),
                    Value::Text(label),
                    self.text(),
                ));
            }
            1 => {
                let index = self.next("last_pay_index", &mut batch)?;
                batch.push(sql!(
                    "UPDATE invoices SET state=1, pay_index=?, payment_key=? WHERE id=(SELECT min(id) FROM invoices WHERE state=0)",
                    index,
                    self.rng.bytes(32),
                ));
            }
            2 => {
                let id = self.next("last_forwards_created_index", &mut batch)?;
                batch.push(sql!(
                    "INSERT OR REPLACE INTO forwards VALUES (?, ?, ?, ?, ?, ?)",
                    self.rng.below(1 << 60),
                    id,
                    self.rng.below(1 << 60),
                    self.rng.below(1 << 40),
                    Value::Null,
                    self.rng.below(3),
                ));
            }
            3 => {
                let height = self.next("last_processed_block", &mut batch)?;
                batch.push(sql!(
                    "INSERT OR REPLACE INTO blocks (height, hash, prev_hash) VALUES (?, ?, ?);",
                    height,
                    self.rng.bytes(32),
                    self.rng.bytes(32),
                ));
            }
            4 => batch.push(sql!(
                "INSERT INTO outputs (txid, outnum, value, status, script) VALUES (?, ?, ?, 0, ?)",
                self.rng.bytes(32),
                self.rng.below(4),
                self.rng.draw(),
                self.rng.bytes(22),
            )),
            _ => {
                batch.push(sql!(
                    "DELETE FROM channel_htlcs WHERE hstate = 9 AND id % 3 = ?",
                    self.rng.below(3)
                ));
                batch.push(sql!(
                    "DELETE FROM forwards WHERE rowid % 4 = ?",
                    self.rng.below(4)
                ));
            }
        }
        Ok(batch)
    }

    /// The long statement that a node writes for a channel again and again.
    fn save_channel(&mut self, channel: i64, number: i64) -> Statement {
        sql!(
            "UPDATE channels SET  state=3,  next_index_local=?,  next_index_remote=?,  feerate=?,  \
             funding_key_remote=?,  per_commit_remote=?,  old_per_commit_remote=?,  last_tx=?,  last_sig=?,  \
             last_sent_commit=?,  shutdown_script=NULL,  features=x'' WHERE id=?",
            number,
            number + 1,
            self.rng.between(253, 9999),
            vec![2; 33],
            self.rng.bytes(33),
            self.rng.bytes(33),
            self.rng.bytes(420),
            self.rng.bytes(64),
            self.rng.bytes(9),
            channel,
        )
    }

    fn commitment_number(&self, channel: i64) -> Result<i64> {
        let sql = "SELECT next_index_local FROM channels WHERE id = ?";
        let number: Option<Option<i64>> = self
            .connection
            .query_row(sql, [channel], |row| row.get(0))
            .optional()?;
        Ok(number.flatten().unwrap_or(0) + 1)
    }

    /// The next value of a counter, and the statement that says so.
    fn next(&mut self, name: &'static str, batch: &mut Vec<Statement>) -> Result<i64> {
        let last = match self.counters.get(name) {
            Some(last) => *last,
            None => self
                .connection
                .query_row("SELECT intval FROM vars WHERE name = ?", [name], |row| row.get(0))?,
        };
        self.counters.insert(name, last + 1);
        batch.push(sql!("UPDATE vars SET intval=? WHERE name=?;", last + 1, name));
        Ok(last + 1)
    }

    fn text(&mut self) -> Value {
        Value::Text(self.rng.pick(TEXTS).copied().unwrap_or_default().to_vec())
    }
}
