//! Where a local cluster is declared: by the run that has its lock, or here once the lock is ours.

use std::path::Path;
use std::time::{Duration, Instant};

use shardwright_manifest::Cluster;
use shardwright_runtime::{Keeper, Links, name_of_local_run};
use shardwright_runtime_local::{Engine, Local, LocalError, Opened, Options, State, StateError};

use crate::connect::{be_alone_with_lock, unique};
use crate::exit::ExitStatus;
use crate::handover::{Declaration, Request, hand_over};
use crate::printer::Printer;

/// How long a lock that another run has just taken is waited for: of several that were yielded to, one gets it, and then
/// listens.
const LOCK_LIMIT: Duration = Duration::from_secs(5);
/// How often it is tried in that time.
const LOCK_EVERY: Duration = Duration::from_millis(200);

/// A cluster that is to be declared.
pub(super) struct Wanted<'a> {
    pub(super) dir: &'a Path,
    pub(super) cluster: Cluster,
    pub(super) engine: &'a Engine,
    pub(super) declaration: Declaration,
}

/// Who carries out what is declared.
pub(super) enum Taken {
    /// The run that has the lock did.
    HandedOver(ExitStatus),
    /// This one is to.
    Declared(Box<Opened>),
}

impl Wanted<'_> {
    /// Hands the declaration over to the run that has the lock, or takes the lock and declares it here. One that is to
    /// watch needs the lock itself.
    pub(super) async fn hand_over_or_declare(
        &self,
        watch: bool,
        out: &mut Printer,
    ) -> anyhow::Result<Taken> {
        let begun = Instant::now();
        let mut tries = tokio::time::interval(LOCK_EVERY);
        loop {
            tries.tick().await;
            if !watch {
                let request = Request::Up(self.declaration.clone());
                if let Some(status) = hand_over(self.dir, request, out).await? {
                    return Ok(Taken::HandedOver(status));
                }
            }
            match self.declare(out).await {
                Err(error) if !watch && is_locked(&error) && begun.elapsed() < LOCK_LIMIT => {
                    tracing::debug!(%error, "the lock is waited for");
                }
                declared => return Ok(Taken::Declared(Box::new(declared?))),
            }
        }
    }

    /// Declares it, once its lock is ours and nobody works on its servers by address: a refusal changes nothing.
    async fn declare(&self, out: &mut Printer) -> anyhow::Result<Opened> {
        let (text, cluster) = (&self.declaration.manifest, self.cluster.clone());
        let options = Options {
            port: self.declaration.port,
            secrets: self.declaration.secrets.clone(),
        };
        let Some(local) = self.open()? else {
            out.record.begin();
            return Ok(Local::make(self.dir, text, cluster, self.engine, &options)?);
        };
        let links = Links::new(local.access(), Some(name_of_local_run(unique()?)));
        let (desired, limits) = (local.cluster().desired(), local.cluster().limits());
        let mut keeper = Keeper::new(local, links, desired, limits);
        let observed = keeper.observe().await?;
        be_alone_with_lock(keeper.links(), &observed).await?;
        out.record.begin();
        let local = keeper.runtime();
        Ok(local.declare(text, cluster, self.engine, &options)?)
    }

    /// What is there, to be changed. `None` where nothing is, or what is stored can't be used and is to be replaced.
    fn open(&self) -> anyhow::Result<Option<Local>> {
        let found = State::read(self.dir)?;
        if found.is_none_or(|found| found.name != self.cluster.name()) {
            return Ok(None);
        }
        match Local::open_to_change(self.dir) {
            Err(LocalError::Manifest { .. } | LocalError::File { .. }) => Ok(None),
            opened => Ok(Some(opened?)),
        }
    }
}

/// Whether another run has the lock.
fn is_locked(error: &anyhow::Error) -> bool {
    let locked = error.downcast_ref::<LocalError>();
    matches!(locked, Some(LocalError::State(StateError::Locked { .. })))
}
