//! What servers say of replication, in the words of the wire.

use crate::{Error, Server};

impl Server {
    async fn of_replication(&self, name: &str) -> Result<Option<String>, Error> {
        self.field(&["INFO", "replication"], name).await
    }

    /// The host from which a replica copies; none of a primary.
    pub async fn copies_from(&self) -> Result<Option<String>, Error> {
        self.of_replication("master_host").await
    }

    /// Whether a replica's link is down.
    pub async fn has_no_link(&self) -> Result<bool, Error> {
        let status = self.of_replication("master_link_status").await?;
        Ok(status.as_deref() == Some("down"))
    }

    /// How many whole seconds ago a replica lost its link; none while it has one, or had none.
    pub async fn link_lost_s(&self) -> Result<Option<u64>, Error> {
        let told = self
            .of_replication("master_link_down_since_seconds")
            .await?;
        Ok(told.and_then(|s| s.parse().ok()))
    }

    /// How many bytes of a full copy have arrived; none where none is taken.
    pub async fn copied_bytes(&self) -> Result<Option<u64>, Error> {
        let told = self.of_replication("master_sync_read_bytes").await?;
        Ok(told.and_then(|bytes| bytes.parse().ok()))
    }

    /// The first of the replicas that a primary lists: its address, port, state and offset.
    pub async fn first_replica(&self) -> Result<Option<String>, Error> {
        self.of_replication("slave0").await
    }
}

/// How many primaries a view of `CLUSTER NODES` holds to have failed.
pub fn failed_primaries(view: &str) -> usize {
    view.matches("master,fail ").count()
}
