//! One account: its log, its snapshots, its files.

use super::{Fault, FaultKind, Report, ScrubError, Scrubber};
use crate::store::{AccountId, Refusal, StoreError};
use backstop_protocol::{
    api::AccountState, files::FilesHeader, hash::sha256, id::RecordHash, record::RecordHeader,
    snapshot::ManifestHeader,
};
use std::collections::BTreeMap;

/// Bytes of records that are read at once.
const RECORDS: usize = 4 << 20;

/// An account under the scrub.
pub(super) struct Subject {
    pub(super) id: AccountId,
    pub(super) state: AccountState,
}

impl Subject {
    pub(super) fn fault(&self, kind: FaultKind, object: String, detail: &str) -> Fault {
        Fault {
            kind,
            node: Some(self.state.node),
            network: Some(self.state.network),
            account: self.id.0,
            object,
            detail: detail.to_owned(),
        }
    }
}

impl Scrubber {
    /// One account. What cannot be read in it is a fault of it, and does not keep the others from being looked at.
    pub(crate) async fn account(&self, account: AccountId, report: &mut Report) -> Result<(), ScrubError> {
        report.accounts += 1;
        let mut subject = None;
        let done = self.parts(account, &mut subject, report).await;
        let Err(ScrubError::Store(StoreError::Failed(cause))) = done else {
            return done;
        };
        let state = subject.map(|subject: Subject| subject.state);
        let mut detail = cause.to_string();
        let mut next = cause.source();
        while let Some(cause) = next {
            detail = format!("{detail}: {cause}");
            next = cause.source();
        }
        report.faults.push(Fault {
            kind: FaultKind::Unreadable,
            node: state.as_ref().map(|state| state.node),
            network: state.as_ref().map(|state| state.network),
            account: account.0,
            object: "a row".to_owned(),
            detail,
        });
        Ok(())
    }

    async fn parts(
        &self,
        account: AccountId,
        subject: &mut Option<Subject>,
        report: &mut Report,
    ) -> Result<(), ScrubError> {
        let state = match self.store.account(account, self.clock.now()).await {
            // Removed since it was listed.
            Err(StoreError::Refused(Refusal::NotFound)) => return Ok(()),
            state => state?,
        };
        let subject = subject.insert(Subject { id: account, state });
        let bases = self.snapshots(subject, report).await?;
        self.log(subject, bases, report).await?;
        self.beside(subject, report).await?;
        self.packs(subject, report).await
    }

    /// What is kept beside the log: records that others took the place of, and every version of the files.
    async fn beside(&self, subject: &Subject, report: &mut Report) -> Result<(), ScrubError> {
        let mut after = (0, i64::MIN);
        while let Some((place, row)) = self.store.replaced_row(subject.id, after).await? {
            after = (row.seq, place);
            report.records += 1;
            report.record_bytes += row.sealed.len() as u64;
            self.pace(row.sealed.len() as u64).await;
            // What it followed may be dropped by now.
            for (kind, object, detail) in judge(&[row], None, &BTreeMap::new()).faults {
                report
                    .faults
                    .push(subject.fault(kind, format!("replaced {object}"), &detail));
            }
        }
        let mut after = i64::MIN;
        while let Some((version, files)) = self.store.files_row(subject.id, after).await? {
            after = version;
            self.pace(files.len() as u64).await;
            if let Err(error) = FilesHeader::parse(&files) {
                let object = format!("files, version {version}");
                let fault = subject.fault(FaultKind::FilesDamaged, object, &error.to_string());
                report.faults.push(fault);
            }
        }
        Ok(())
    }

    /// The manifests; what they rest on, to be found in the log.
    async fn snapshots(
        &self,
        subject: &Subject,
        report: &mut Report,
    ) -> Result<BTreeMap<u64, RecordHash>, ScrubError> {
        let mut bases = BTreeMap::new();
        for info in self.store.snapshots(subject.id).await? {
            // One that is gone by now is nobody's loss: the store drops what its policy lets go.
            let Some(manifest) = self.store.manifest(subject.id, info.snapshot).await? else {
                continue;
            };
            report.snapshots += 1;
            self.pace(manifest.len() as u64).await;
            let wrong = match ManifestHeader::parse(&manifest) {
                Err(error) => Some(error.to_string()),
                Ok(header) => {
                    let says = (header.snapshot, header.base_seq, header.base_hash);
                    let differs = says != (info.snapshot, info.base_seq, info.base_hash);
                    differs.then(|| "it names another snapshot or another base".to_owned())
                }
            };
            if let Some(why) = wrong {
                let object = format!("snapshot {}", info.snapshot);
                report
                    .faults
                    .push(subject.fault(FaultKind::ManifestDamaged, object, &why));
            }
            bases.insert(info.base_seq, info.base_hash);
        }
        Ok(bases)
    }

    /// The log as it stood when the account was read. What is above is still moving; what is below its head is not, but for
    /// what history drops from its beginning.
    async fn log(
        &self,
        subject: &Subject,
        mut bases: BTreeMap<u64, RecordHash>,
        report: &mut Report,
    ) -> Result<(), ScrubError> {
        let head = subject.state.head;
        // The log's beginning only ever rises, and the list of snapshots is younger than this one.
        for seq in bases.keys().filter(|seq| **seq < subject.state.first_seq) {
            let object = format!("record {seq}");
            let fault = subject.fault(
                FaultKind::SnapshotOffChain,
                object,
                "a snapshot rests on it, and the log begins above",
            );
            report.faults.push(fault);
        }
        let mut walk = Walk {
            next: subject.state.first_seq,
            prev: None,
        };
        while head.seq > 0 && walk.next <= head.seq {
            let rows = self.store.record_rows(subject.id, walk.next, RECORDS).await?;
            let begins = rows.first().map_or(head.seq + 1, |row| row.seq);
            if begins != walk.next {
                let first = self.store.account(subject.id, self.clock.now()).await?.first_seq;
                if begins > first.max(walk.next) {
                    let object = format!("record {}", first.max(walk.next));
                    let fault = subject.fault(FaultKind::ChainBroken, object, "it is not there");
                    report.faults.push(fault);
                }
                walk.prev = None;
                bases.retain(|seq, _| *seq >= first);
            }
            let Some(last) = rows.last() else { break };
            walk.next = last.seq.saturating_add(1);
            let bytes: usize = rows.iter().map(|row| row.sealed.len()).sum();
            report.record_bytes += bytes as u64;
            report.records += rows.len() as u64;
            let (prev, wanted) = (walk.prev, bases.clone());
            let judged = tokio::task::spawn_blocking(move || judge(&rows, prev, &wanted)).await;
            let judged = judged.map_err(|broken| StoreError::Failed(Box::new(broken)))?;
            walk.prev = Some(judged.last);
            for (kind, object, detail) in &judged.faults {
                report.faults.push(subject.fault(*kind, object.clone(), detail));
            }
            bases.retain(|seq, _| *seq >= walk.next);
            if walk.next > head.seq {
                self.end(subject, &judged, report).await?;
            }
            self.pace(bytes as u64).await;
        }
        for (seq, _) in bases.into_iter().filter(|(seq, _)| *seq <= head.seq) {
            let fault = subject.fault(
                FaultKind::SnapshotOffChain,
                format!("record {seq}"),
                "a snapshot rests on it, and the log does not have it",
            );
            report.faults.push(fault);
        }
        Ok(())
    }

    /// Whether the log has the head that the account says, or one that came since.
    async fn end(&self, subject: &Subject, judged: &Judged, report: &mut Report) -> Result<(), ScrubError> {
        let head = subject.state.head;
        let found = judged.hashes.get(&head.seq);
        if found == Some(&head.hash) {
            return Ok(());
        }
        // A writer of a higher epoch may have replaced it meanwhile (I3).
        let now = self.store.account(subject.id, self.clock.now()).await?.head;
        if now != head && (now.seq > head.seq || found == Some(&now.hash)) {
            return Ok(());
        }
        let detail = format!("the account's head is {head}, and the log has another record there");
        let fault = subject.fault(FaultKind::HeadWrong, format!("record {}", head.seq), &detail);
        report.faults.push(fault);
        Ok(())
    }
}

/// How far a log was walked.
struct Walk {
    next: u64,
    /// Hash of the last record; `None` where the next one's predecessor is not known.
    prev: Option<RecordHash>,
}

/// What a page of records is.
struct Judged {
    last: RecordHash,
    hashes: BTreeMap<u64, RecordHash>,
    faults: Vec<(FaultKind, String, String)>,
}

/// Records against their rows, each against the one before it, and against what snapshots rest on.
fn judge(
    rows: &[crate::store::RecordRow],
    mut prev: Option<RecordHash>,
    bases: &BTreeMap<u64, RecordHash>,
) -> Judged {
    let mut faults = Vec::new();
    let mut hashes = BTreeMap::new();
    let mut seq = None;
    for row in rows {
        let object = || format!("record {}", row.seq);
        let mut fault = |kind, detail: &str| faults.push((kind, object(), detail.to_owned()));
        let follows = seq.is_none_or(|seq: u64| seq.checked_add(1) == Some(row.seq));
        if !follows {
            fault(FaultKind::ChainBroken, "those before it are not there");
            prev = None;
        }
        let hash = RecordHash(sha256(&row.sealed));
        if hash != row.hash {
            fault(FaultKind::RecordDamaged, "its SHA-256 is not its hash");
        }
        match RecordHeader::parse(&row.sealed) {
            Err(error) => fault(FaultKind::RecordDamaged, &error.to_string()),
            Ok(header) => {
                if (header.seq, header.epoch) != (row.seq, row.epoch) {
                    fault(FaultKind::RecordDamaged, "its header says another place");
                }
                if prev.is_some_and(|prev| prev != header.prev) {
                    fault(FaultKind::ChainBroken, "it does not name the record before it");
                }
            }
        }
        if bases.get(&row.seq).is_some_and(|base| *base != row.hash) {
            fault(
                FaultKind::SnapshotOffChain,
                "a snapshot rests on another record of this seq",
            );
        }
        // The row's word: a damaged record is one fault, not two.
        prev = Some(row.hash);
        seq = Some(row.seq);
        hashes.insert(row.seq, row.hash);
    }
    Judged {
        last: prev.unwrap_or(RecordHash::NONE),
        hashes,
        faults,
    }
}
