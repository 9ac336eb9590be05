//! The one task that commits appends. It takes one and everything that already waits: under load the database's own pace
//! makes the groups, without any timer.

use super::{
    append::{self, Done, Request},
    at_once,
    known::Known,
    transactions::{Database, Kept},
};
use crate::store::{
    Append, GroupSizes, Refusal, StoreError, Terms,
    group::{GROUP_BYTES, GROUP_MAX},
};
use backstop_protocol::api::Appended;
use std::collections::HashMap;
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinHandle, JoinSet},
};

type Answer = oneshot::Sender<Result<Appended, StoreError>>;
type Waiting = (Append, Answer);

/// What the committer is told.
pub(super) enum Job {
    Append(Box<Append>, Answer),
    /// Finish what waits, take nothing more, and end.
    Close,
}

/// Starts the task. `own` has a connection that nothing else uses; appends that had to wait for an account go through
/// `shared`.
pub(super) fn start(
    jobs: mpsc::Receiver<Job>,
    own: Kept,
    shared: Database,
    terms: Terms,
    groups: GroupSizes,
) -> JoinHandle<()> {
    let committer = Committer {
        own,
        known: Known::default(),
        shared,
        terms,
        groups,
        later: JoinSet::new(),
    };
    tokio::spawn(committer.run(jobs))
}

struct Committer {
    own: Kept,
    known: Known,
    shared: Database,
    terms: Terms,
    groups: GroupSizes,
    /// Appends whose account was at work in another transaction, each account's in a task of its own.
    later: JoinSet<()>,
}

impl Committer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.recv().await {
            while self.later.try_join_next().is_some() {}
            match job {
                // What is in the queue comes out of it still.
                Job::Close => jobs.close(),
                Job::Append(append, answer) => {
                    let group = gather(&mut jobs, (*append, answer));
                    self.commit(group).await;
                }
            }
        }
        while self.later.join_next().await.is_some() {}
    }

    async fn commit(&mut self, group: Vec<Waiting>) {
        let (appends, answers): (Vec<_>, Vec<_>) = group.into_iter().unzip();
        let done = at_once::group(&mut self.own, &appends, &self.terms, &mut self.known).await;
        let Some(outcomes) = done else {
            return self.read_and_commit(appends, answers).await;
        };
        self.groups.committed(outcomes.iter().flatten().count());
        let (mut left, mut waiting) = (Vec::new(), Vec::new());
        for ((append, answer), outcome) in appends.into_iter().zip(answers).zip(outcomes) {
            if let Some(outcome) = outcome {
                reply(answer, outcome.map_err(StoreError::from));
            } else {
                left.push(append);
                waiting.push(answer);
            }
        }
        if !left.is_empty() {
            self.read_and_commit(left, waiting).await;
        }
    }

    /// Commits a group whose accounts are not known, or not as they were seen.
    async fn read_and_commit(&mut self, appends: Vec<Append>, answers: Vec<Answer>) {
        let request = Request {
            appends,
            terms: self.terms.clone(),
            waits: false,
        };
        let done = self
            .own
            .attempts(&request, |connection, request| {
                Box::pin(append::group(connection, request))
            })
            .await;
        let waiting = request.appends.into_iter().zip(answers);
        match done {
            Ok(Done { outcomes, seen }) => {
                self.known.left(seen);
                self.groups.committed(outcomes.iter().flatten().count());
                let mut busy: HashMap<_, Vec<_>> = HashMap::new();
                for ((append, answer), outcome) in waiting.zip(outcomes) {
                    match outcome {
                        Some(outcome) => reply(answer, outcome.map_err(StoreError::from)),
                        None => busy.entry(append.account).or_default().push((append, answer)),
                    }
                }
                for group in busy.into_values() {
                    self.wait_for(group);
                }
            }
            // Not for anything in it: each by itself would wait as long for nothing.
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(why, "appends did not commit");
                for (_, answer) in waiting {
                    reply(answer, Err(StoreError::Unavailable(why.clone())));
                }
            }
            // Each by itself, so that none suffers for another.
            Err(error) => {
                tracing::warn!(%error, "a group did not commit; trying each by itself");
                for one in waiting {
                    self.wait_for(vec![one]);
                }
            }
        }
    }

    /// Commits appends beside the others.
    fn wait_for(&mut self, group: Vec<Waiting>) {
        let (shared, terms) = (self.shared.clone(), self.terms.clone());
        self.later.spawn(async move {
            for (append, answer) in group {
                let outcome = alone(&shared, append, terms.clone()).await;
                reply(answer, outcome);
            }
        });
    }
}

async fn alone(database: &Database, append: Append, terms: Terms) -> Result<Appended, StoreError> {
    let request = Request {
        appends: vec![append],
        terms,
        waits: true,
    };
    let Done { outcomes, .. } = database
        .attempts(&request, |connection, request| {
            Box::pin(append::group(connection, request))
        })
        .await?;
    let outcome = outcomes.into_iter().flatten().next();
    Ok(outcome.unwrap_or(Err(Refusal::NotFound))?)
}

fn reply(answer: Answer, outcome: Result<Appended, StoreError>) {
    // The caller may be gone; the record is there all the same, and is found when it is sent again (I4).
    let _ = answer.send(outcome);
}

/// Adds the appends that wait already.
fn gather(jobs: &mut mpsc::Receiver<Job>, first: Waiting) -> Vec<Waiting> {
    let mut bytes = first.0.sealed.len();
    let mut group = vec![first];
    while group.len() < GROUP_MAX && bytes < GROUP_BYTES {
        match jobs.try_recv() {
            Ok(Job::Append(append, answer)) => {
                bytes += append.sealed.len();
                group.push((*append, answer));
            }
            Ok(Job::Close) => jobs.close(),
            Err(_) => break,
        }
    }
    group
}
