//! One kind's facts, kept up by a watch.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use kube::runtime::watcher::Event;

use crate::facts::ObjectKey;

/// The facts of every object of one kind, by its key.
#[derive(Debug)]
pub(crate) struct Store<F> {
    facts: RwLock<BTreeMap<ObjectKey, Arc<F>>>,
    listed: AtomicBool,
}

impl<F> Default for Store<F> {
    fn default() -> Self {
        Self {
            facts: RwLock::default(),
            listed: AtomicBool::new(false),
        }
    }
}

impl<F> Store<F> {
    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Arc<F>> {
        self.read().get(key).cloned()
    }

    /// Whether all there is was listed once: before that, what is not here is not known to be absent.
    pub(crate) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    pub(crate) fn keys(&self) -> Vec<ObjectKey> {
        self.read().keys().cloned().collect()
    }

    /// The facts that `is` holds for, in the order of their keys, within one namespace (all, where it is empty).
    pub(crate) fn select(&self, namespace: &str, is: impl Fn(&F) -> bool) -> Vec<Arc<F>> {
        let facts = self.read();
        let from = ObjectKey::new(namespace, "");
        let here = facts
            .range(from..)
            .take_while(|(key, _)| namespace.is_empty() || key.namespace == namespace);
        here.filter(|(_, fact)| is(fact))
            .map(|(_, fact)| Arc::clone(fact))
            .collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<ObjectKey, Arc<F>>> {
        // The map is whole whatever panicked while it was held; so it is below.
        self.facts.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<ObjectKey, Arc<F>>> {
        self.facts.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a watch's events do to a store. A list replaces all at its end, not while it is read.
#[derive(Debug)]
pub(crate) struct Writer<F> {
    store: Arc<Store<F>>,
    listed: BTreeMap<ObjectKey, Arc<F>>,
}

/// One object's facts before and after; absent where there was or is no such object, or it is none of ours.
pub(crate) struct Change<F> {
    pub(crate) before: Option<Arc<F>>,
    pub(crate) after: Option<Arc<F>>,
}

impl<F: PartialEq> Writer<F> {
    pub(crate) fn new(store: Arc<Store<F>>) -> Self {
        Self {
            store,
            listed: BTreeMap::new(),
        }
    }

    /// Takes in an event; the changes that it brought, and whether a whole list is in now.
    pub(crate) fn take<K>(
        &mut self,
        event: Event<K>,
        read: impl Fn(&K) -> Option<(ObjectKey, F)>,
        key: impl Fn(&K) -> Option<ObjectKey>,
    ) -> (Vec<Change<F>>, bool) {
        match event {
            Event::Init => {
                self.listed.clear();
                (Vec::new(), false)
            }
            Event::InitApply(object) => {
                if let Some((key, fact)) = read(&object) {
                    self.listed.insert(key, Arc::new(fact));
                }
                (Vec::new(), false)
            }
            Event::InitDone => (self.replace(), true),
            Event::Apply(object) => {
                let Some(key) = key(&object) else {
                    return (Vec::new(), false);
                };
                let after = read(&object).map(|(_, fact)| Arc::new(fact));
                (self.set(key, after), false)
            }
            Event::Delete(object) => {
                let gone = key(&object).map(|key| self.set(key, None));
                (gone.into_iter().flatten().collect(), false)
            }
        }
    }

    fn set(&self, key: ObjectKey, after: Option<Arc<F>>) -> Vec<Change<F>> {
        let mut facts = self.store.write();
        let before = match &after {
            Some(fact) => facts.insert(key, Arc::clone(fact)),
            None => facts.remove(&key),
        };
        let same = before.as_deref() == after.as_deref();
        (!same)
            .then_some(Change { before, after })
            .into_iter()
            .collect()
    }

    fn replace(&mut self) -> Vec<Change<F>> {
        let listed = std::mem::take(&mut self.listed);
        let mut facts = self.store.write();
        let mut changes = Vec::new();
        let old = std::mem::take(&mut *facts);
        for (key, before) in &old {
            let after = listed.get(key);
            if after.map(|f| &**f) != Some(&**before) {
                changes.push(Change {
                    before: Some(Arc::clone(before)),
                    after: after.cloned(),
                });
            }
        }
        for (key, after) in &listed {
            if !old.contains_key(key) {
                changes.push(Change {
                    before: None,
                    after: Some(Arc::clone(after)),
                });
            }
        }
        *facts = listed;
        self.store.listed.store(true, Ordering::Release);
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Toy = (&'static str, u32);

    fn take(writer: &mut Writer<u32>, event: Event<Toy>) -> Vec<(Option<u32>, Option<u32>)> {
        let key = |toy: &Toy| Some(ObjectKey::new("ns", toy.0));
        let read = |toy: &Toy| key(toy).map(|key| (key, toy.1));
        let (changes, _) = writer.take(event, read, key);
        let value = |f: Option<Arc<u32>>| f.map(|f| *f);
        changes
            .into_iter()
            .map(|c| (value(c.before), value(c.after)))
            .collect()
    }

    #[test]
    fn a_list_replaces_all_at_its_end_and_tells_only_what_differs() {
        let store = Arc::new(Store::default());
        let mut w = Writer::new(Arc::clone(&store));
        assert_eq!(take(&mut w, Event::Apply(("a", 1))), [(None, Some(1))]);
        assert_eq!(take(&mut w, Event::Apply(("b", 2))), [(None, Some(2))]);
        assert_eq!(take(&mut w, Event::Apply(("b", 2))), []);
        assert_eq!(take(&mut w, Event::Init), []);
        assert_eq!(take(&mut w, Event::InitApply(("b", 3))), []);
        assert_eq!(take(&mut w, Event::InitApply(("c", 4))), []);
        assert_eq!(store.get(&ObjectKey::new("ns", "a")).as_deref(), Some(&1));
        assert!(!store.is_listed());
        assert_eq!(
            take(&mut w, Event::InitDone),
            [(Some(1), None), (Some(2), Some(3)), (None, Some(4))]
        );
        assert!(store.is_listed());
        assert_eq!(take(&mut w, Event::Delete(("c", 4))), [(Some(4), None)]);
        assert_eq!(store.keys(), [ObjectKey::new("ns", "b")]);
    }

    #[test]
    fn a_selection_stays_in_its_namespace() {
        let store = Arc::new(Store::default());
        let mut w = Writer::new(Arc::clone(&store));
        let key = |toy: &(&str, &str, u32)| Some(ObjectKey::new(toy.0, toy.1));
        for toy in [("a", "z", 1), ("b", "x", 2), ("b", "y", 3), ("c", "x", 4)] {
            w.take(Event::Apply(toy), |t| Some((key(t)?, t.2)), key);
        }
        let values = |ns: &str| -> Vec<u32> {
            let all = store.select(ns, |v| *v != 3);
            all.iter().map(|v| **v).collect()
        };
        assert_eq!(values("b"), [2]);
        assert_eq!(values(""), [1, 2, 4]);
    }
}
