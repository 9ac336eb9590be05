//! What is heavy, on its way: packs, and the bytes of rows.

use super::{
    MoveError, Mover,
    form::{Form, Side},
    link::{Cell, Kind, Row},
    pass::{Batch, pack_id},
    standing,
    tables::PACKS,
};
use crate::store::AccountId;
use backstop_protocol::hash::sha256;

impl Mover {
    /// Carries a pack, whose row may follow then: as it is to be in the target, or not yet.
    pub(super) async fn bring(
        &mut self,
        form: &Form,
        account: i64,
        mut row: Row,
        there: Option<Row>,
    ) -> Result<Option<Row>, MoveError> {
        let equal = |name| {
            let there = there.as_ref();
            there.is_some_and(|there| form.cell(there, name) == form.cell(&row, name))
        };
        let Some(packs) = &self.packs else {
            return Ok(Some(row));
        };
        if equal("touched_at") && equal("damaged_at") {
            return Ok(Some(row));
        }
        let id = pack_id(form.cell(&row, "id")).ok_or_else(|| MoveError::Schema(PACKS.name.to_owned()))?;
        let found = packs.from.get(AccountId(account), id, None).await?;
        if let Some(bytes) = found.filter(|bytes| sha256(bytes) == id.0) {
            let length = bytes.len() as u64;
            packs.to.put(AccountId(account), id, bytes).await?;
            self.tally.packs += 1;
            self.copied(length).await;
            return Ok(Some(row));
        }
        let number = form.number(&row).cloned().unwrap_or(Cell::Null);
        let sql = "SELECT CAST(count(*) AS bigint) FROM chunks WHERE pack = $1";
        let holds = self.source.number(sql, &[(Kind::Int, number)]).await?;
        let known = |name| form.cell(&row, name) != &Cell::Null;
        if holds == 0 {
            // It is being stored at this moment, and the next pass finds it; or it is going.
            return Ok((self.frozen || known("removing_at")).then_some(row));
        }
        if known("damaged_at") || known("removing_at") {
            return Ok(Some(row));
        }
        self.tally
            .lost_packs
            .push(format!("account {account}: pack {id}"));
        // As a scrub would: the node sends its content again with its next snapshot.
        let marked = there.as_ref().map(|there| form.cell(there, "damaged_at").clone());
        let now = Cell::Int(i64::try_from(self.clock.now().0).unwrap_or(i64::MAX));
        form.set(
            &mut row,
            "damaged_at",
            marked.filter(|mark| *mark != Cell::Null).unwrap_or(now),
        );
        Ok(Some(row).filter(|row| Some(row) != there.as_ref()))
    }

    /// Reads what is heavy of rows that are to be entered, and enters them.
    pub(super) async fn enter(
        &mut self,
        form: &Form,
        account: i64,
        scope: i64,
        batch: Batch,
    ) -> Result<(), MoveError> {
        let mut rows = batch.rows;
        if rows.is_empty() {
            return Ok(());
        }
        if let Some(heavy) = form.table.heavy {
            let mut found = form
                .heavy(&mut self.source, Side::Source, Some(scope), &rows)
                .await?;
            for row in &mut rows {
                let by = form.cell(row, heavy.by).clone();
                let bytes = found
                    .remove(&by)
                    .ok_or_else(|| MoveError::Schema(form.table.name.to_owned()))?;
                if heavy.hashed && sha256(&bytes) != form.cell(row, "hash").bytes() {
                    let what = format!("account {account}: {} {}", form.table.name, by.int());
                    self.tally.damaged_records.push(what);
                }
                form.set(row, heavy.column, Cell::Bytes(bytes));
            }
        }
        standing::write(&mut self.target, self.own).await?;
        form.put(&mut self.target, &rows).await?;
        self.target.end().await?;
        self.tally.written += rows.len() as u64;
        self.copied(batch.bytes).await;
        Ok(())
    }

    /// Compares what is heavy of rows that are equal otherwise, and enters those anew that are not.
    pub(super) async fn compare(
        &mut self,
        form: &Form,
        account: i64,
        scope: i64,
        batch: Batch,
    ) -> Result<(), MoveError> {
        let Some(heavy) = form.table.heavy else {
            return Ok(());
        };
        let here = form
            .heavy(&mut self.source, Side::Source, Some(scope), &batch.rows)
            .await?;
        let there = form
            .heavy(&mut self.target, Side::Target, Some(scope), &batch.rows)
            .await?;
        let mut wrong = batch;
        wrong.rows.retain(|row| {
            let by = form.cell(row, heavy.by);
            here.get(by) != there.get(by)
        });
        self.enter(form, account, scope, wrong).await
    }

    async fn copied(&mut self, bytes: u64) {
        self.tally.bytes += bytes;
        self.progress.bytes += bytes;
        (self.hear)(&self.progress);
        self.pace(bytes).await;
    }
}
