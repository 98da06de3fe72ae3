//! One change of the rules: drafted and compiled off the runtime's threads, stored, then in force.

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::counts::Haste;
use super::files::Files;
use super::shelf::Shelf;
use super::{Book, BookError, Saved, counts, etag_matches};
use crate::events::Kind;
use crate::rules::spec::{Checked, Problem};
use crate::rules::{Rule, RuleId, RuleSpec, Tally, view};
use crate::store::{StoreError, StoredRule};

/// Ids that mean something else in the API's paths.
const RESERVED: [&str; 5] = ["test", "import", "export", ".", ".."];
const LONGEST_ID: usize = 128;

/// What a change starts from.
#[derive(Debug)]
pub(super) struct Bench {
    shelf: Arc<Shelf>,
    unreadable: HashSet<RuleId>,
    next_seq: i64,
    now: Timestamp,
}

/// What a change wants.
#[derive(Debug)]
pub(super) struct Draft {
    /// Rules to make or to replace.
    pub(super) saved: Vec<Saved>,
    /// The rule to remove.
    pub(super) removed: Option<RuleId>,
}

pub(super) fn create(bench: &Bench, json: &Value) -> Result<(Draft, Saved), BookError> {
    let (id, checked) = read(json, bench.now)?;
    if let Some(id) = &id
        && (bench.shelf.find(id).is_some() || bench.unreadable.contains(id))
    {
        return Err(BookError::Exists(id.clone()));
    }
    Ok(one(fresh(id, bench.next_seq, checked, bench.now)))
}

pub(super) fn import(bench: &Bench, all: &[Value]) -> Result<(Draft, Vec<Saved>), BookError> {
    let (mut saved, mut problems, mut given) = (Vec::new(), Vec::new(), HashSet::new());
    let mut next_seq = bench.next_seq;
    for (place, json) in all.iter().enumerate() {
        match read(json, bench.now) {
            Ok((Some(id), _)) if !given.insert(id.clone()) => {
                problems.push(problem(
                    &format!("rules[{place}].id"),
                    "an earlier rule of this import has it: each needs its own",
                ));
            }
            Ok((id, checked)) => {
                let old = id.as_ref().and_then(|id| bench.shelf.find(id));
                let rule = match old {
                    Some(old) => revised(old, as_exported(old, checked), Counting::Restarts, bench.now),
                    None => fresh(id, next_seq, checked, bench.now),
                };
                next_seq = next_seq.saturating_add(1);
                saved.push(Saved { warnings: at(place, rule.warnings), ..rule });
            }
            Err(BookError::Invalid(found)) => problems.extend(at(place, found)),
            Err(other) => return Err(other),
        }
    }
    if problems.is_empty() {
        Ok((Draft { saved: saved.clone(), removed: None }, saved))
    } else {
        Err(BookError::Invalid(problems))
    }
}

pub(super) fn replace(
    bench: &Bench,
    id: &RuleId,
    json: &Value,
    if_match: Option<&str>,
) -> Result<(Draft, Saved), BookError> {
    let old = existing(bench, id, if_match)?;
    keeps_id(id, json)?;
    let checked = RuleSpec::from_json(json, bench.now).map_err(BookError::Invalid)?;
    Ok(one(revised(old, checked, Counting::Restarts, bench.now)))
}

pub(super) fn patch(
    bench: &Bench,
    id: &RuleId,
    patch: &Value,
    if_match: Option<&str>,
) -> Result<(Draft, Saved), BookError> {
    let old = existing(bench, id, if_match)?;
    keeps_id(id, patch)?;
    let checked = old.spec.patched(patch, bench.now).map_err(BookError::Invalid)?;
    let counting = if patch.get("mock_count").is_some() { Counting::Restarts } else { Counting::GoesOn };
    Ok(one(revised(old, checked, counting, bench.now)))
}

fn one(saved: Saved) -> (Draft, Saved) {
    (Draft { saved: vec![saved.clone()], removed: None }, saved)
}

/// A row that does not read back has no ETag; it can be removed all the same.
pub(super) fn delete(bench: &Bench, id: &RuleId, if_match: Option<&str>) -> Result<(Draft, ()), BookError> {
    if !bench.unreadable.contains(id) {
        existing(bench, id, if_match)?;
    }
    Ok((Draft { saved: Vec::new(), removed: Some(id.clone()) }, ()))
}

fn existing<'a>(bench: &'a Bench, id: &RuleId, if_match: Option<&str>) -> Result<&'a Arc<Rule>, BookError> {
    let rule = bench.shelf.find(id).ok_or_else(|| BookError::Unknown(id.clone()))?;
    if etag_matches(if_match, rule) { Ok(rule) } else { Err(BookError::Changed(id.clone())) }
}

/// The id that `json` asks for, and its spec; all problems of both at once.
fn read(json: &Value, now: Timestamp) -> Result<(Option<RuleId>, Checked<RuleSpec>), BookError> {
    match (wanted_id(json), RuleSpec::from_json(json, now)) {
        (Ok(id), Ok(checked)) => Ok((id, checked)),
        (id, checked) => {
            let problems = id.err().into_iter().chain(checked.err().into_iter().flatten());
            Err(BookError::Invalid(problems.collect()))
        }
    }
}

fn wanted_id(json: &Value) -> Result<Option<RuleId>, Problem> {
    let given = match json.get("id") {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(given)) => given.clone(),
        // The first Moxie numbered its rules.
        Some(Value::Number(given)) if given.is_u64() => given.to_string(),
        Some(_) => return Err(problem("id", "write a string, or leave it out and one is given")),
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if given.is_empty() || given.len() > LONGEST_ID || !given.bytes().all(plain) {
        return Err(problem(
            "id",
            "write 1 to 128 letters, digits or any of . _ ~ -, or leave it out and one is given",
        ));
    }
    if RESERVED.contains(&given.as_str()) {
        return Err(problem("id", &format!("`{given}` is taken by the API itself: write another, or leave it out")));
    }
    Ok(Some(RuleId(given)))
}

fn keeps_id(id: &RuleId, json: &Value) -> Result<(), BookError> {
    match json.get("id") {
        Some(Value::Number(given)) if given.to_string() == id.0 => Ok(()),
        None | Some(Value::Null) => Ok(()),
        Some(Value::String(given)) if *given == id.0 => Ok(()),
        Some(_) => {
            let message = format!("the id of a rule does not change: leave it out, or write `{id}`");
            Err(BookError::Invalid(vec![problem("id", &message)]))
        }
    }
}

fn problem(field: &str, message: &str) -> Problem {
    Problem { field: field.to_owned(), message: message.to_owned() }
}

/// The problems of one rule of many, under its name.
fn at(place: usize, problems: Vec<Problem>) -> Vec<Problem> {
    let named = |found: Problem| {
        let field = match found.field.as_str() {
            "" => format!("rules[{place}]"),
            field => format!("rules[{place}].{field}"),
        };
        Problem { field, ..found }
    };
    problems.into_iter().map(named).collect()
}

fn fresh(id: Option<RuleId>, seq: i64, checked: Checked<RuleSpec>, now: Timestamp) -> Saved {
    let id = id.unwrap_or_else(|| RuleId(uuid::Uuid::now_v7().to_string()));
    let tally = Arc::new(Tally::new(checked.value.mock_count()));
    let rule = Rule { id, seq, spec: checked.value, created_at: now, updated_at: now, tally };
    Saved { rule: Arc::new(rule), warnings: checked.warnings }
}

/// A rule whose body cannot be read would never fire, so it is refused as it is made; one that is stored already stays.
fn bodies_are_there(draft: &Draft, files: &Files) -> Result<(), BookError> {
    let missing = |rule: &Rule| {
        let path = rule.spec.body_file().filter(|path| files.read(path).is_none())?;
        let message = format!("{path} cannot be read: put it below `files` in the state directory, then repeat this");
        Some(problem("response.file", &message))
    };
    let found: Vec<Problem> = match draft.saved.as_slice() {
        [only] => missing(&only.rule).into_iter().collect(),
        many => {
            (0..).zip(many).flat_map(|(place, saved)| at(place, missing(&saved.rule).into_iter().collect())).collect()
        }
    };
    if found.is_empty() { Ok(()) } else { Err(BookError::Invalid(found)) }
}

/// What a change does to the counts of an existing rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counting {
    GoesOn,
    /// `remaining` is `mock_count` again; `hits` go on.
    Restarts,
}

fn revised(old: &Rule, checked: Checked<RuleSpec>, counting: Counting, now: Timestamp) -> Saved {
    let tally = match counting {
        Counting::GoesOn => old.tally.clone(),
        Counting::Restarts => restarted(&old.tally, checked.value.mock_count()),
    };
    // An equal spec is no change to anyone who saw the rule.
    let updated_at = if checked.value == old.spec { old.updated_at } else { now };
    let rule = Rule { spec: checked.value, updated_at, tally, ..old.clone() };
    Saved { rule: Arc::new(rule), warnings: checked.warnings }
}

/// An export writes defaults out. A rule that comes back as it was shown keeps the spec that its author wrote.
fn as_exported(old: &Rule, checked: Checked<RuleSpec>) -> Checked<RuleSpec> {
    let imported = Rule { spec: checked.value.clone(), ..old.clone() };
    let shown = |rule| serde_json::to_value(view(rule, old.updated_at, &[])).ok();
    if shown(&imported) == shown(old) { Checked { value: old.spec.clone(), ..checked } } else { checked }
}

/// A tally of its own, so that a request decided by the set before takes nothing from what is left now.
fn restarted(old: &Tally, mock_count: i64) -> Arc<Tally> {
    let tally = Tally::new(mock_count);
    tally.hits.store(old.hits.load(Ordering::Relaxed), Ordering::Relaxed);
    tally.last_hit_ms.store(old.last_hit_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    Arc::new(tally)
}

impl Book {
    /// Makes the change that `draft` asks for, after the one under way. It is carried to its end even if the caller is dropped.
    /// Gives what `draft` gave beside the draft.
    pub(super) async fn change<T: Send + 'static>(
        self: Arc<Self>,
        draft: impl FnOnce(&Bench) -> Result<(Draft, T), BookError> + Send + 'static,
    ) -> Result<T, BookError> {
        finished(tokio::spawn(self.change_now(draft))).await
    }

    async fn change_now<T: Send + 'static>(
        self: Arc<Self>,
        draft: impl FnOnce(&Bench) -> Result<(Draft, T), BookError> + Send + 'static,
    ) -> Result<T, BookError> {
        let mut desk = self.desk.lock().await;
        self.load(&mut desk).await.map_err(BookError::Store)?;
        let shelf = self.shelf.load_full();
        let bench = Bench { shelf, unreadable: desk.unreadable.clone(), next_seq: desk.next_seq, now: self.now() };
        let (draft, answer, next) = self.drafted(bench, draft).await?;
        self.put_in_force(&draft, next).await.map_err(BookError::Store)?;
        let book = self.clone();
        blocking(move || book.changed()).await;

        let seqs = draft.saved.iter().map(|saved| saved.rule.seq.saturating_add(1));
        desk.next_seq = seqs.fold(desk.next_seq, i64::max);
        for id in draft.saved.iter().map(|saved| &saved.rule.id).chain(&draft.removed) {
            desk.unreadable.remove(id);
            self.trouble().unreadable.remove(id);
        }
        self.tell(&draft);
        Ok(answer)
    }

    /// Validates and compiles. That comes before storing: nothing can fail after the store has taken the change.
    async fn drafted<T: Send + 'static>(
        self: &Arc<Self>,
        bench: Bench,
        draft: impl FnOnce(&Bench) -> Result<(Draft, T), BookError> + Send + 'static,
    ) -> Result<(Draft, T, Shelf), BookError> {
        let book = self.clone();
        blocking(move || {
            let (draft, answer) = draft(&bench)?;
            bodies_are_there(&draft, &book.files)?;
            let put = draft.saved.iter().map(|saved| &saved.rule);
            let rules = bench.shelf.changed(put, draft.removed.as_ref());
            Ok((draft, answer, Shelf::build(rules, book.seed, &book.files)))
        })
        .await
    }

    async fn put_in_force(&self, draft: &Draft, next: Shelf) -> Result<(), StoreError> {
        let storing = self.storing.lock().await;
        if let Err(error) = self.store_draft(draft).await {
            // Counts are written until the store takes them, so `trouble` tells of this failure, and of its end.
            if let Some(any) = self.shelf.load().rules.first() {
                self.dirty.mark(&any.id, Haste::AtOnce);
            }
            return Err(error);
        }
        // Nobody can fire the new rules before the swap, so their hits are those of the old ones when the draft was made.
        let drafted: Vec<_> = draft.saved.iter().map(|saved| saved.rule.tally.hits.load(Ordering::Relaxed)).collect();
        let before = self.shelf.swap(Arc::new(next));
        drop(storing);
        for (Saved { rule, .. }, hits) in draft.saved.iter().zip(drafted) {
            if let Some(old) = before.find(&rule.id) {
                carry_over(&old.tally, &rule.tally, hits);
                self.dirty.mark(&rule.id, Haste::AtOnce);
            }
        }
        Ok(())
    }

    async fn store_draft(&self, draft: &Draft) -> Result<(), StoreError> {
        if let Some(id) = &draft.removed {
            self.store.delete_rule(id).await?;
        }
        if draft.saved.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> = draft.saved.iter().map(|saved| stored(&saved.rule)).collect();
        self.store.put_rules(&rows).await
    }

    fn tell(&self, draft: &Draft) {
        let now = self.now();
        for Saved { rule, warnings } in &draft.saved {
            self.events.send(Kind::Rule, &view(rule, now, warnings));
        }
        if let Some(id) = &draft.removed {
            self.events.send(Kind::Rule, &json!({"id": id, "removed": true}));
        }
    }
}

/// Adds the hits that the old tally of a changed rule took since it had `drafted` of them.
fn carry_over(old: &Arc<Tally>, new: &Arc<Tally>, drafted: u64) {
    if !Arc::ptr_eq(old, new) {
        let meanwhile = old.hits.load(Ordering::Relaxed).saturating_sub(drafted);
        new.hits.fetch_add(meanwhile, Ordering::Relaxed);
        new.last_hit_ms.fetch_max(old.last_hit_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn stored(rule: &Rule) -> StoredRule {
    StoredRule {
        id: rule.id.clone(),
        seq: rule.seq,
        spec: rule.spec.to_json(),
        created_at: rule.created_at,
        updated_at: rule.updated_at,
        counts: counts::counts(&rule.tally),
    }
}

/// Runs work that takes the processor for a while where it holds up no one.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    finished(tokio::task::spawn_blocking(work)).await
}

/// What a task gives; its panic is the caller's.
async fn finished<T>(task: JoinHandle<T>) -> T {
    match task.await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Cancelled: the runtime is going down, and this future with it.
            Err(_) => std::future::pending().await,
        },
    }
}
