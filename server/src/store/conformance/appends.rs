//! One chain (I3), idempotent by content (I4), whoever else appends at the same time.

use super::*;

pub(in crate::store) async fn an_appended_record_is_the_head_and_comes_back_as_it_came(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let first = Append {
        now: later(1),
        ..session.next(1)
    };
    session.head = store.append(first.clone()).await.unwrap().head;
    let second = Append {
        now: later(2),
        ..session.record(2, first.hash, 2, 5000)
    };
    session.head = store.append(second.clone()).await.unwrap().head;
    let state = session.state(&*store).await;
    assert_eq!(state.head, second.header.head(second.hash));
    assert_eq!(state.timeline, Some(session.timeline));
    assert_eq!((state.first_seq, state.log_bytes), (1, RECORD_MIN as u64 + 5000));
    assert_eq!(
        (state.head_received_at, state.writer_seen_at),
        (Some(later(2)), Some(later(2)))
    );
    assert_eq!(state.writer_since, Some(NOW));
    let stored = |append: &Append| StoredRecord {
        received_at: append.now,
        sealed: append.sealed.to_vec(),
    };
    let all = store.records(session.account, 1, usize::MAX).await.unwrap();
    assert_eq!(all, [stored(&first), stored(&second)]);
    let tail = store.records(session.account, 2, usize::MAX).await.unwrap();
    assert_eq!(tail, [stored(&second)]);
    assert_eq!(store.records(session.account, 3, usize::MAX).await.unwrap(), []);
    assert_eq!(
        store
            .records(session.account, u64::MAX, usize::MAX)
            .await
            .unwrap(),
        []
    );
}

pub(in crate::store) async fn the_same_bytes_again_succeed_and_change_nothing(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    let mut records = Vec::new();
    for fill in 1..=3 {
        records.push(session.append(&*store, fill).await);
    }
    let (before, log) = (session.state(&*store).await, session.log(&*store).await);
    for record in records {
        let again = Append {
            now: later(9),
            ..record
        };
        assert_eq!(store.append(again).await.unwrap().head, session.head);
    }
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(session.log(&*store).await, log);
}

pub(in crate::store) async fn a_record_that_does_not_continue_the_chain_is_refused_and_changes_nothing(
    store: Arc<dyn Store>,
) {
    let mut session = Session::first(&*store, 1).await;
    let first = session.append(&*store, 1).await;
    let second = session.append(&*store, 2).await;
    let (before, log) = (session.state(&*store).await, session.log(&*store).await);
    let mut ahead = session.next(3);
    ahead.header.epoch = 2;
    let wrong = [
        session.record(4, second.hash, 3, RECORD_MIN),
        session.record(3, first.hash, 3, RECORD_MIN),
        session.record(2, first.hash, 3, RECORD_MIN),
        session.record(1, RecordHash::NONE, 3, RECORD_MIN),
        ahead,
    ];
    for record in wrong {
        let refused = store.append(record).await;
        assert_eq!(refusal(refused), Refusal::NotNext { head: session.head });
    }
    assert_eq!(session.state(&*store).await, before);
    assert_eq!(session.log(&*store).await, log);
}

pub(in crate::store) async fn a_record_of_another_timeline_is_refused(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    session.append(&*store, 1).await;
    let elsewhere = Session {
        timeline: TimelineId([9; 16]),
        ..session.clone()
    };
    assert_eq!(
        refusal(store.append(elsewhere.next(2)).await),
        Refusal::WrongTimeline
    );
    assert_eq!(session.state(&*store).await.timeline, Some(session.timeline));
}

pub(in crate::store) async fn a_fenced_run_appends_nothing_not_even_what_is_there(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let there = old.append(&*store, 1).await;
    // The same lightning-dir, its next run.
    Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let fenced = Refusal::Fenced {
        epoch: 2,
        since: Some(NOW),
    };
    assert_eq!(refusal(store.append(there).await), fenced);
    assert_eq!(refusal(store.append(old.next(2)).await), fenced);
}

pub(in crate::store) async fn an_append_to_no_account_is_not_found(store: Arc<dyn Store>) {
    let nobody = Session {
        account: AccountId(99),
        ..Session::first(&*store, 1).await
    };
    assert_eq!(refusal(store.append(nobody.next(1)).await), Refusal::NotFound);
    assert_eq!(
        refusal(store.account(nobody.account, NOW).await),
        Refusal::NotFound
    );
}

pub(in crate::store) async fn a_higher_epoch_replaces_the_last_record_and_no_other(store: Arc<dyn Store>) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    let second = old.append(&*store, 2).await;
    let mut new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let not_the_last = new.record(1, RecordHash::NONE, 3, RECORD_MIN);
    assert!(matches!(
        refusal(store.append(not_the_last).await),
        Refusal::NotNext { .. }
    ));
    let replacing = new.record(2, first.hash, 3, RECORD_MIN + 10);
    new.head = store.append(replacing.clone()).await.unwrap().head;
    assert_eq!(new.head, replacing.header.head(replacing.hash));
    assert_eq!(
        new.log(&*store).await,
        [first.sealed.to_vec(), replacing.sealed.to_vec()]
    );
    assert_eq!(new.state(&*store).await.log_bytes, 2 * RECORD_MIN as u64 + 10);
    // The replaced one is on the chain no more.
    let back = Append {
        writer: new.writer,
        ..second
    };
    assert_eq!(
        refusal(store.append(back).await),
        Refusal::NotNext { head: new.head }
    );
    assert_eq!(store.append(replacing).await.unwrap().head, new.head);
    new.append(&*store, 4).await;
}

pub(in crate::store) async fn the_very_first_record_can_be_replaced_too(store: Arc<dyn Store>) {
    Session::first(&*store, 1).await.append(&*store, 1).await;
    let mut new = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let replacing = new.record(1, RecordHash::NONE, 2, RECORD_MIN);
    new.head = store.append(replacing.clone()).await.unwrap().head;
    new.append(&*store, 3).await;
    let state = new.state(&*store).await;
    assert_eq!((state.first_seq, state.head.seq, state.head.epoch), (1, 2, 2));
}

pub(in crate::store) async fn an_older_record_may_be_copied_by_a_newer_writer(store: Arc<dyn Store>) {
    // As from another server that had it: the record's epoch is below the session's.
    let written_at_epoch_1 = Session::first(&*store, 1).await.next(1);
    let copying = Session::open(&*store, 1, claim(1, 2, 1, 5)).await;
    let copied = Append {
        writer: copying.writer,
        ..written_at_epoch_1
    };
    let head = store.append(copied.clone()).await.unwrap().head;
    assert_eq!(head, copied.header.head(copied.hash));
}

pub(in crate::store) async fn a_log_that_holds_nothing_begins_with_any_record(store: Arc<dyn Store>) {
    // As at a server that joins others whose logs were rolled up.
    let mut session = Session::first(&*store, 1).await;
    let mut ahead = session.record(70, RecordHash([1; 32]), 1, RECORD_MIN);
    ahead.header.epoch = 2;
    let refused = store.append(ahead).await;
    assert_eq!(refusal(refused), Refusal::NotNext { head: Head::EMPTY });
    assert_eq!(session.state(&*store).await.timeline, None);
    let first = session.record(70, RecordHash([1; 32]), 1, RECORD_MIN);
    session.head = store.append(first.clone()).await.unwrap().head;
    let next = session.append(&*store, 2).await;
    let state = session.state(&*store).await;
    assert_eq!((state.first_seq, state.head.seq), (70, 71));
    assert_eq!(state.log_bytes, 2 * RECORD_MIN as u64);
    assert_eq!(
        session.log(&*store).await,
        [first.sealed.to_vec(), next.sealed.to_vec()]
    );
    // From then on the chain's rules hold.
    let other = session.record(70, RecordHash([1; 32]), 3, RECORD_MIN);
    assert_eq!(
        refusal(store.append(other).await),
        Refusal::NotNext { head: session.head }
    );
}

pub(in crate::store) async fn a_branch_that_never_counted_gives_way_to_a_later_writers_copies(
    store: Arc<dyn Store>,
) {
    let mut old = Session::first(&*store, 1).await;
    let first = old.append(&*store, 1).await;
    // What another server holds as its second record, of the first epoch.
    let counted = old.record(2, first.hash, 9, RECORD_MIN + 5);
    let mut dead = Session::open(&*store, 1, claim(1, 2, 1, 2)).await;
    let branch = [dead.append(&*store, 2).await, dead.append(&*store, 3).await];
    let as_written_by = |append: &Append, session: &Session| Append {
        writer: session.writer,
        ..append.clone()
    };
    let unchanged = (dead.state(&*store).await, dead.log(&*store).await);
    let not_next = Refusal::NotNext { head: dead.head };
    assert_eq!(
        refusal(store.append(as_written_by(&counted, &dead)).await),
        not_next,
        "whoever wrote the branch does not undo it"
    );
    assert_eq!((dead.state(&*store).await, dead.log(&*store).await), unchanged);

    let mut new = Session::open(&*store, 1, claim(1, 3, 2, 3)).await;
    let elsewhere = new.record(2, RecordHash([8; 32]), 9, RECORD_MIN);
    assert_eq!(
        refusal(store.append(elsewhere).await),
        not_next,
        "no record before it"
    );
    let held = store.append(as_written_by(&branch[0], &new)).await.unwrap();
    assert_eq!(held.head, dead.head, "what is there changes nothing");
    assert_eq!(new.log(&*store).await, unchanged.1);

    let copied = as_written_by(&counted, &new);
    new.head = store.append(copied.clone()).await.unwrap().head;
    assert_eq!(new.head, counted.header.head(counted.hash));
    let last = new.append(&*store, 4).await;
    assert_eq!(
        new.log(&*store).await,
        [&first, &copied, &last].map(|append| append.sealed.to_vec())
    );
    let state = new.state(&*store).await;
    assert_eq!(state.log_bytes, 3 * RECORD_MIN as u64 + 5);
    assert_eq!(
        refusal(store.append(as_written_by(&branch[0], &new)).await),
        Refusal::NotNext { head: new.head },
        "once it wrote something itself, nothing gives way"
    );
}

pub(in crate::store) async fn a_page_ends_at_its_limit_but_holds_at_least_one_record(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    for len in [1000, 1000, 5000, 1000] {
        let record = session.record(session.head.seq + 1, session.head.hash, 1, len);
        session.head = store.append(record).await.unwrap().head;
    }
    let page = async |from, max_bytes| {
        let records = store.records(session.account, from, max_bytes).await.unwrap();
        records
            .iter()
            .map(|record| record.sealed.len())
            .collect::<Vec<_>>()
    };
    assert_eq!(page(1, 2000).await, [1000, 1000]);
    assert_eq!(page(1, 1999).await, [1000]);
    assert_eq!(page(2, 5999).await, [1000]);
    assert_eq!(page(3, 10).await, [5000]);
    assert_eq!(page(3, 6000).await, [5000, 1000]);
    assert_eq!(page(1, 0).await, [1000]);
}

pub(in crate::store) async fn twenty_nodes_append_at_once_and_each_has_its_own_chain(store: Arc<dyn Store>) {
    let mut nodes = Vec::new();
    for node in 1..=20 {
        let mut session = Session::first(&*store, node).await;
        let store = store.clone();
        nodes.push(tokio::spawn(async move {
            let mut sent = Vec::new();
            for fill in 1..=30 {
                sent.push(session.append(&*store, fill).await.sealed.to_vec());
            }
            (session, sent)
        }));
    }
    for node in nodes {
        let (session, sent) = node.await.unwrap();
        assert_eq!(session.log(&*store).await, sent);
        assert_eq!(session.state(&*store).await.head, session.head);
    }
}

pub(in crate::store) async fn of_two_racing_records_of_one_seq_one_wins(store: Arc<dyn Store>) {
    let mut session = Session::first(&*store, 1).await;
    for round in 0..20 {
        let (one, other) = (session.next(2 * round), session.next(2 * round + 1));
        let (first, second) = tokio::join!(store.append(one.clone()), store.append(other.clone()));
        let (winner, head, loser) = match (first, second) {
            (Ok(won), loser) => (one, won.head, loser),
            (loser, Ok(won)) => (other, won.head, loser),
            neither => panic!("neither won: {neither:?}"),
        };
        assert_eq!(refusal(loser), Refusal::NotNext { head });
        assert_eq!(head, winner.header.head(winner.hash));
        assert_eq!(
            session.log(&*store).await.last().unwrap(),
            &winner.sealed.to_vec()
        );
        session.head = head;
    }
}

pub(in crate::store) async fn the_same_record_sent_many_times_at_once_is_there_once(store: Arc<dyn Store>) {
    let session = Session::first(&*store, 1).await;
    let record = session.next(1);
    let sent: Vec<_> = (0..16)
        .map(|_| {
            let (store, record) = (store.clone(), record.clone());
            tokio::spawn(async move { store.append(record).await })
        })
        .collect();
    for one in sent {
        assert_eq!(one.await.unwrap().unwrap().head, record.header.head(record.hash));
    }
    assert_eq!(session.log(&*store).await, [record.sealed.to_vec()]);
}

pub(in crate::store) async fn a_refused_append_does_not_spoil_those_beside_it(store: Arc<dyn Store>) {
    let mut sessions = Vec::new();
    for node in 1..=10 {
        sessions.push(Session::first(&*store, node).await);
    }
    let sent: Vec<_> = sessions
        .iter()
        .enumerate()
        .map(|(at, session)| {
            let mut record = session.next(1);
            if at % 2 == 1 {
                record.header.epoch = 2;
            }
            let store = store.clone();
            tokio::spawn(async move { store.append(record).await })
        })
        .collect();
    for (at, one) in sent.into_iter().enumerate() {
        match (at % 2, one.await.unwrap()) {
            (0, outcome) => assert_eq!(outcome.unwrap().head.seq, 1),
            (_, outcome) => assert_eq!(refusal(outcome), Refusal::NotNext { head: Head::EMPTY }),
        }
    }
    for (at, session) in sessions.iter().enumerate() {
        assert_eq!(session.log(&*store).await.len(), 1 - at % 2);
    }
}
