//! Who is to look again: one signal for each cluster.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::facts::ObjectKey;

/// Tells of changes to one cluster's things. Every clone hears each change on its own; changes that come close
/// together are heard as one.
#[derive(Clone, Debug)]
pub struct Wake {
    heard: watch::Receiver<u64>,
}

impl Wake {
    /// Ends when something has changed since this last ended.
    pub async fn woken(&mut self) {
        if self.heard.changed().await.is_err() {
            // Nobody is left who could tell of anything.
            std::future::pending::<()>().await;
        }
    }

    /// Whether something has changed since this was asked, or [`Wake::woken`] ended, last.
    pub fn has_rung(&mut self) -> bool {
        let rung = self.heard.has_changed().unwrap_or(false);
        self.heard.mark_unchanged();
        rung
    }
}

/// The signals of all clusters.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    by_cluster: Mutex<BTreeMap<ObjectKey, watch::Sender<u64>>>,
}

impl Bells {
    pub(crate) fn wake(&self, cluster: &ObjectKey) -> Wake {
        let mut bells = self.lock();
        let bell = bells
            .entry(cluster.clone())
            .or_insert_with(|| watch::Sender::new(0));
        Wake {
            heard: bell.subscribe(),
        }
    }

    /// Rings for one cluster. Where nobody listens, there is nothing to ring.
    pub(crate) fn ring(&self, cluster: &ObjectKey) {
        let mut bells = self.lock();
        if let Some(bell) = bells.get(cluster) {
            if bell.receiver_count() == 0 {
                bells.remove(cluster);
            } else {
                bell.send_modify(|n| *n = n.wrapping_add(1));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, watch::Sender<u64>>> {
        // The map is whole whatever panicked while it was held.
        self.by_cluster
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn every_clone_hears_each_change_once() {
        let bells = Bells::default();
        let (one, other) = (ObjectKey::new("a", "one"), ObjectKey::new("a", "other"));
        let mut first = bells.wake(&one);
        let mut second = first.clone();
        bells.ring(&other);
        assert_eq!(first.woken().now_or_never(), None);
        bells.ring(&one);
        bells.ring(&one);
        assert_eq!(first.woken().now_or_never(), Some(()));
        assert_eq!(first.woken().now_or_never(), None);
        assert_eq!(second.woken().now_or_never(), Some(()));
        drop((first, second));
        bells.ring(&one);
        assert!(bells.lock().is_empty());
    }
}
