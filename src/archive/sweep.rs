//! Removes objects that no row names: what killed processes and failed commits left, and what `reindex` read and left.
//!
//! Two questions about an object are asked in this order: whether the lease in its key is held, and whether a row names
//! it. A lease that is not held never will be again, and without it only `reindex` writes a row, beside which nothing is swept
//! ([`Work`]); so rows that are asked for afterwards are all that there will be. Several sweeps at once, and servers beside
//! them, do no harm.
//!
//! An index that was restored from a backup knows leases of processes that went on to store, and would have what they stored
//! removed. So nothing is removed where an object without a row shows that the index is older than the objects: one that came
//! after its lease had run out, as far as the index knows, or one under a lease that the index never heard of. A full sweep
//! looks more closely: there any object counts that is neither under a lease nor was left by `reindex`.
//!
//! What `reindex` left has been read. Copies that nothing needs are removed by every sweep, what is damaged, no instance or of
//! another content by a full one; copies and other contents only while an object that a row of the instance names is whole.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::pin::pin;
use std::time::Duration;

use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use uuid::Uuid;

use crate::archive::erase;
use crate::archive::events;
use crate::archive::reindex::expect_whole_index;
use crate::archive::reread::{Found, Whole, is_whole};
use crate::catalogue::{Catalogue, EndedLease, Left, LeftObject, Work};
use crate::clock;
use crate::dicom::uid::Scope;
use crate::error::{Error, Result};
use crate::store::keys::{InstanceObject, StorageKey};
use crate::store::{ObjectStorage, Receipt};

/// Objects about which the index is asked at once.
const BATCH: usize = 500;
/// Objects that `reindex` left of which the index tells at once.
const PAGE: i64 = 500;
/// Objects that are removed at once.
const REMOVALS: usize = 16;

/// What is swept, and how.
#[derive(Clone, Copy, Debug)]
pub struct SweepOptions {
    /// What `reindex` left is removed too that is damaged, no instance or of another content.
    pub full: bool,
    /// Nothing is changed.
    pub dry_run: bool,
    /// Leases under which something was stored are left alone until they ran out so long ago, and what `reindex` left until it did
    /// so long ago: the index may be from a backup and nothing show it yet.
    pub grace: Duration,
}

/// How a sweep came out.
#[derive(Debug, Default)]
pub struct Swept {
    /// How many leases had run out.
    pub leases: u64,
    /// An object that shows that the index is older than the objects: nothing was removed then.
    pub newer: Option<StorageKey>,
}

/// For how long after its last sign of life a sweep is waited for.
const TERM: Duration = Duration::from_mins(5);

/// What a sweep tells of while it runs.
#[derive(Debug)]
pub enum Event {
    /// So many more objects were looked at.
    Looked(u64),
    /// An object without a row was removed, or would be.
    Stray(Stray),
}

/// An object without a row.
#[derive(Debug)]
pub struct Stray {
    /// Where it is or was.
    pub key: StorageKey,
    /// Its size.
    pub bytes: u64,
    /// Why it could not be removed, if so.
    pub failure: Option<Error>,
}

/// An object in the listing that was made for an instance.
struct Candidate {
    key: StorageKey,
    bytes: u64,
    object: InstanceObject,
}

/// Removes objects without a row.
///
/// # Errors
/// `Unavailable` when index or store is, or while the index is made anew; leases that were taken are swept by the next run then.
pub async fn sweep(
    catalogue: &Catalogue,
    store: &ObjectStorage,
    options: SweepOptions,
    mut tell: impl FnMut(Event),
) -> Result<Swept> {
    let own = Work::Sweep.new_lease();
    if !options.dry_run {
        catalogue.take_lease(own, TERM).await?;
    }
    let swept = sweep_under(own, catalogue, store, options, &mut tell).await;
    if !options.dry_run
        && let Err(error) = catalogue.end_lease(own).await
    {
        tracing::warn!(lease = %own, ?error, "the lease of a sweep is left to run out");
    }
    swept
}

async fn sweep_under(
    own: Uuid,
    catalogue: &Catalogue,
    store: &ObjectStorage,
    options: SweepOptions,
    tell: &mut impl FnMut(Event),
) -> Result<Swept> {
    let lapsed = take_leases(catalogue, options).await?;
    // asked after the own lease was taken: `reindex` asks in the same order, so that one of the two gives way
    if !options.dry_run {
        expect_whole_index(catalogue).await?;
    }
    let sweep = Sweep { own, catalogue, store, options, lapsed: &lapsed };
    let leases = lapsed.len() as u64;
    // to look costs a listing of all objects
    if leases > 0 || options.full {
        let look = sweep.look(tell).await?;
        if look.newer.is_some() {
            return Ok(Swept { leases, newer: look.newer });
        }
        let removed = !look.strays || sweep.remove_strays(tell).await?;
        sweep.remove_idle_events().await?;
        if removed {
            sweep.forget_leases().await?;
        }
    }
    sweep.remove_left(tell).await?;
    Ok(Swept { leases, newer: None })
}

/// Takes the leases that have run out: these, and those that another sweep took and did not come to an end with. With the times
/// at which they ran out.
async fn take_leases(catalogue: &Catalogue, options: SweepOptions) -> Result<HashMap<Uuid, i64>> {
    let mut taken = Vec::new();
    if !options.dry_run {
        // nothing is stored under those of sweeps and of `reindex`: what was killed must not hold this up
        for ended in catalogue.expired_leases(Duration::ZERO).await?.into_iter().filter(EndedLease::is_of_work) {
            catalogue.lapse_lease(ended.id).await?;
        }
    }
    for ended in catalogue.expired_leases(options.grace).await?.into_iter().filter(|ended| !ended.is_of_work()) {
        if options.dry_run {
            taken.push(ended);
        } else {
            catalogue.lapse_lease(ended.id).await?;
        }
    }
    let before = if options.grace.is_zero() { i64::MAX } else { erase::before(options.grace) };
    let lapsed = catalogue.lapsed_leases().await?.into_iter();
    taken.extend(lapsed.filter(|ended| ended.until <= before && !ended.is_of_work()));
    Ok(taken.into_iter().map(|ended| (ended.id, ended.until)).collect())
}

/// A deletion that is told of for so long without a row is not under way any more.
const UNTOLD: Duration = Duration::from_hours(24);

fn candidates(listing: BoxStream<'static, Result<(StorageKey, u64)>>) -> BoxStream<'static, Result<Candidate>> {
    let candidate = |(key, bytes): (StorageKey, u64)| async move {
        Ok(key.instance_object().map(|object| Candidate { key, bytes, object }))
    };
    listing.try_filter_map(candidate).boxed()
}

/// Leases that are neither held nor taken. Most were given back, and then a row names what was stored under them; one under
/// which nothing has a row was taken after the index was saved, or what lies there is none of its.
#[derive(Default)]
struct Unheard(HashMap<Uuid, Option<StorageKey>>);

impl Unheard {
    /// A row names an object under the lease.
    fn heard_of(&mut self, lease: Uuid) {
        self.0.insert(lease, None);
    }

    /// There is an object without a row.
    fn met(&mut self, lease: Uuid, key: StorageKey) {
        if let Entry::Vacant(entry) = self.0.entry(lease) {
            entry.insert(Some(key));
        }
    }

    fn is_settled(&self, lease: Uuid) -> bool {
        self.0.get(&lease).is_some_and(Option::is_none)
    }
}

/// The deletions that are told of since before a time, in seconds since 1970-01-01 UTC, with the sizes of the objects.
fn deletions_before(
    listing: BoxStream<'static, Result<(StorageKey, u64)>>,
    before: u64,
) -> BoxStream<'static, Result<(Uuid, u64)>> {
    let old = move |id: &Uuid| id.get_timestamp().is_some_and(|time| time.to_unix().0 < before);
    let deletion =
        move |(key, bytes): (StorageKey, u64)| async move { Ok(key.deletion_id().filter(old).map(|id| (id, bytes))) };
    listing.try_filter_map(deletion).boxed()
}

/// What the index knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Account {
    /// A row names it.
    Named,
    /// `reindex` read it and left it.
    Left,
    /// Nothing.
    Unknown,
}

struct Sweep<'a> {
    own: Uuid,
    catalogue: &'a Catalogue,
    store: &'a ObjectStorage,
    options: SweepOptions,
    /// With the times at which they ran out.
    lapsed: &'a HashMap<Uuid, i64>,
}

/// What a look at all objects found.
#[derive(Default)]
struct Look {
    /// An object that shows that the index is older than the objects.
    newer: Option<StorageKey>,
    /// There are objects without a row under leases that have run out.
    strays: bool,
}

impl Sweep<'_> {
    /// Looks for objects without a row before any is removed.
    async fn look(&self, tell: &mut impl FnMut(Event)) -> Result<Look> {
        let mut look = Look::default();
        let mut unheard = Unheard::default();
        let candidates = candidates(self.store.list("studies"));
        let mut batches = pin!(candidates.try_chunks(BATCH).map_err(|error| error.1));
        while let Some(batch) = batches.try_next().await? {
            tell(Event::Looked(batch.len() as u64));
            self.go_on().await?;
            for (one, account) in self.accounts(self.of_interest(batch, &unheard).await?).await? {
                let lease = one.object.lease;
                match (self.lapsed.get(&lease), account) {
                    (Some(until), Account::Unknown) => {
                        look.strays = true;
                        // a power failure may take receipts of the last moment along: they say nothing
                        if self.store.receipt(&one.key).await?.is_some_and(|receipt| receipt.received_at > *until) {
                            look.newer = Some(one.key);
                            return Ok(look);
                        }
                    }
                    // in a full sweep no other object under the lease is taken for granted
                    (None, Account::Named) if !self.options.full => unheard.heard_of(lease),
                    // its process may have removed it and given its lease back since it was listed
                    (None, Account::Unknown) if self.store.exists(&one.key).await?.is_some() => {
                        unheard.met(lease, one.key);
                    }
                    (_, Account::Left | Account::Named) | (None, Account::Unknown) => {}
                }
            }
        }
        look.newer = unheard.0.into_values().flatten().next();
        Ok(look)
    }

    /// Those under leases that have run out, and those under leases that the index may never have heard of.
    async fn of_interest(&self, mut batch: Vec<Candidate>, unheard: &Unheard) -> Result<Vec<Candidate>> {
        // asked after the objects were listed: their processes took their leases before
        let leases = batch.iter().map(|one| one.object.lease).collect();
        let mut known = self.catalogue.leases_held(&leases).await?;
        // those that another sweep took meanwhile
        known.extend(self.catalogue.lapsed_leases().await?.into_iter().map(|ended| ended.id));
        batch.retain(|one| {
            let lease = &one.object.lease;
            self.lapsed.contains_key(lease) || !(known.contains(lease) || unheard.is_settled(*lease))
        });
        Ok(batch)
    }

    /// What the index knows of each of these objects.
    async fn accounts(&self, batch: Vec<Candidate>) -> Result<Vec<(Candidate, Account)>> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let instances = batch.iter().map(|candidate| candidate.object.instance.instance.clone()).collect();
        let named = self.catalogue.locations_of(&instances).await?;
        let unnamed = batch.iter().map(|one| one.key.as_str()).filter(|key| !named.contains(*key));
        let unnamed: Vec<String> = unnamed.map(str::to_owned).collect();
        let left = if unnamed.is_empty() { HashSet::new() } else { self.catalogue.are_left(unnamed).await? };
        let account = |one: Candidate| {
            let account = match one.key.as_str() {
                key if named.contains(key) => Account::Named,
                key if left.contains(key) => Account::Left,
                _ => Account::Unknown,
            };
            (one, account)
        };
        Ok(batch.into_iter().map(account).collect())
    }

    /// Says that this sweep lives. One that was held up for long may have been given up, and the index be made anew meanwhile.
    async fn go_on(&self) -> Result<()> {
        if self.options.dry_run || self.catalogue.renew_lease(self.own).await? {
            return Ok(());
        }
        Err(Error::unavailable("the sweep was held up for too long; run it again", "its lease is gone"))
    }

    /// Forgets the leases under which nothing without a row is left.
    async fn forget_leases(&self) -> Result<()> {
        if !self.options.dry_run {
            for lease in self.lapsed.keys() {
                self.catalogue.forget_lapsed_lease(*lease).await?;
            }
        }
        Ok(())
    }

    /// Removes what lies without a row under leases that have run out; whether all of it could be.
    async fn remove_strays(&self, tell: &mut impl FnMut(Event)) -> Result<bool> {
        let mut all = true;
        // whatever else lies below the root is none of ours
        let candidates = candidates(self.store.list("studies"));
        let mut batches = pin!(candidates.try_chunks(BATCH).map_err(|error| error.1));
        while let Some(mut batch) = batches.try_next().await? {
            batch.retain(|one| self.lapsed.contains_key(&one.object.lease));
            let unknown = self.accounts(batch).await?.into_iter().filter(|(_, account)| *account == Account::Unknown);
            let strays = unknown.map(|(Candidate { key, bytes, .. }, _)| Stray { key, bytes, failure: None }).collect();
            for stray in self.remove_all(strays).await? {
                all &= stray.failure.is_none();
                tell(Event::Stray(stray));
            }
        }
        Ok(all)
    }

    /// Removes what `reindex` left: copies that nothing needs or, in a full sweep, everything.
    async fn remove_left(&self, tell: &mut impl FnMut(Event)) -> Result<()> {
        let before = if self.options.grace.is_zero() { i64::MAX } else { erase::before(self.options.grace) };
        let mut after = String::new();
        loop {
            let page = self.catalogue.left(self.options.full, before, &after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.location);
            let candidate = |one: LeftObject| {
                let key = StorageKey::from_index(one.location);
                key.instance_object().map(|object| Candidate { key, bytes: one.bytes, object })
            };
            let kinds: HashMap<String, Left> = page.iter().map(|one| (one.location.clone(), one.kind)).collect();
            let (mut strays, mut done) = (Vec::new(), Vec::new());
            for (one, account) in self.accounts(page.into_iter().filter_map(candidate).collect()).await? {
                match account {
                    // what was lost is there again in this one
                    Account::Named => done.push(one.key.as_str().to_owned()),
                    Account::Left | Account::Unknown if self.is_dispensable(&one, &kinds).await? => {
                        strays.push(Stray { key: one.key, bytes: one.bytes, failure: None });
                    }
                    Account::Left | Account::Unknown => {
                        tracing::warn!(
                            key = one.key.as_str(),
                            "an object that `isocenter reindex` left may be needed now: run it again"
                        );
                    }
                }
            }
            for stray in self.remove_all(strays).await? {
                if stray.failure.is_none() {
                    done.push(stray.key.as_str().to_owned());
                }
                tell(Event::Stray(stray));
            }
            if !self.options.dry_run {
                self.catalogue.forget_left(done).await?;
            }
        }
    }

    /// What was left beside the object of a row may be the only good one by now: that may have been lost since, or the index be
    /// older than what `reindex` last made of it.
    async fn is_dispensable(&self, one: &Candidate, kinds: &HashMap<String, Left>) -> Result<bool> {
        match kinds.get(one.key.as_str()) {
            Some(Left::Useless) => return Ok(true),
            Some(Left::Damaged) => {
                let Some(size) = self.store.exists(&one.key).await? else { return Ok(true) };
                // its bytes may have been put back from elsewhere, with another size than was found
                if let Some(Receipt { digest, received_digest, .. }) = self.store.receipt(&one.key).await? {
                    for digest in BTreeSet::from([digest, received_digest]) {
                        if is_whole(self.store, &one.key, Whole { size, digest }).await? == Found::Whole {
                            return Ok(false);
                        }
                    }
                    return Ok(true);
                }
            }
            Some(Left::Needless | Left::Different) => {}
            Some(Left::Unread) | None => return Ok(false),
        }
        let objects = self.catalogue.objects_of(&one.object.instance.instance).await?;
        if objects.is_empty() {
            // all that it was needless beside is erased
            return self.catalogue.was_deleted(&Scope::Instance(one.object.instance.clone())).await;
        }
        for (location, size, digest) in objects {
            let whole = Whole { size, digest };
            if is_whole(self.store, &StorageKey::from_index(location), whole).await? == Found::Whole {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn remove_all(&self, strays: Vec<Stray>) -> Result<Vec<Stray>> {
        let mut removed = Vec::with_capacity(strays.len());
        let mut groups = pin!(stream::iter(strays).chunks(REMOVALS));
        while let Some(group) = groups.next().await {
            // a store that is slow must not make the lease run out within a batch
            self.go_on().await?;
            let group = stream::iter(group).map(|stray| self.remove(stray)).buffer_unordered(REMOVALS);
            removed.extend(group.collect::<Vec<_>>().await);
        }
        Ok(removed)
    }

    /// Removes the objects that tell of deletions of which the index knows nothing, and of whose objects it has no row. Others were
    /// cut off, or taken back, or the index is older than they: `reindex` goes by them.
    async fn remove_idle_events(&self) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        let now = Duration::from_millis(u64::try_from(clock::unix_millis()).unwrap_or_default());
        let before = now.saturating_sub(UNTOLD.max(self.options.grace));
        let old = deletions_before(self.store.list("deletions"), before.as_secs());
        let mut batches = pin!(old.try_chunks(BATCH).map_err(|error| error.1));
        let mut idle = HashSet::new();
        while let Some(batch) = batches.try_next().await? {
            self.go_on().await?;
            let ids: Vec<Uuid> = batch.iter().map(|(id, _)| *id).collect();
            let known = self.catalogue.known_deletions(&ids).await?;
            for (id, bytes) in batch.into_iter().filter(|(id, _)| !known.contains(id)) {
                let key = StorageKey::deletion(id);
                let Some((_, told)) = events::deletion(self.store, &key, bytes).await? else { continue };
                let instances = told.instances();
                let uids = instances.iter().map(|(uid, _)| uid.clone()).collect();
                let named = self.catalogue.locations_of(&uids).await?;
                if !instances.iter().any(|(_, key)| named.contains(*key)) {
                    self.store.remove(&key).await?;
                    idle.insert(id);
                }
            }
        }
        if !idle.is_empty() {
            for (_, key, _) in events::restores(self.store).await?.into_iter().filter(|(of, ..)| idle.contains(of)) {
                self.store.remove(&key).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, mut stray: Stray) -> Stray {
        if !self.options.dry_run {
            stray.failure = self.store.remove(&stray.key).await.err();
        }
        stray
    }
}
