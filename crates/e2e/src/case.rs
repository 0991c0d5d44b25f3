//! Running cases: those that disturb nobody side by side, the others one after the other; a
//! failure is shown with all that a person would look at.

use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::operator::Operator;
use crate::table::Figure;
use crate::{Error, Kube, Result, World};

/// What a case does.
pub type Run = fn(World) -> Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// How a case gets on with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    /// Disturbs nobody: runs beside others.
    Beside,
    /// Takes something away that others need: runs by itself.
    Alone,
    /// As `Alone`, and needs the machine that the Kubernetes runs on.
    AloneOnTheMachine,
    /// Runs beside others, and needs the machine that the Kubernetes runs on.
    BesideOnTheMachine,
}

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name: letters, digits, `-`. Its namespace is `e2e-NAME` where `namespace` is empty.
    pub name: &'static str,
    /// A namespace that its documents name, else empty.
    pub namespace: &'static str,
    /// How it gets on with others.
    pub company: Company,
    /// What it does.
    pub run: Run,
}

/// How a case ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The case.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// How long it took after that until its namespace was gone.
    pub closing: Duration,
    /// Why it failed, with all that helps; `None` when it passed.
    pub failure: Option<String>,
    /// Its figures.
    pub figures: Vec<Figure>,
}

/// A case that takes longer has stuck. The longest take a minute or two where nothing else runs; slots that move beside
/// clients take a part of the time only, and a machine that is shared with others may be five times slower.
const CASE_LIMIT: Duration = Duration::from_secs(900);
/// Cases side by side where `E2E_BESIDE` says nothing else: six servers each, on two cores. Four use these up, and a
/// switchover then takes seconds.
const BESIDE: usize = 3;

/// How many cases run side by side.
fn beside() -> usize {
    let asked = std::env::var("E2E_BESIDE").ok();
    let asked = asked.and_then(|count| count.parse().ok());
    asked.filter(|count| *count > 0).unwrap_or(BESIDE)
}

/// Runs the cases and returns how each ended. `say` hears of each end at once.
pub async fn run_all(
    kube: &Kube,
    operator: Option<&Operator>,
    cases: &[Case],
    say: fn(&Ended),
) -> Vec<Ended> {
    let places = Arc::new(Semaphore::new(beside()));
    let disturbs_nobody =
        |case: &&Case| matches!(case.company, Company::Beside | Company::BesideOnTheMachine);
    let mut tasks = tokio::task::JoinSet::new();
    for case in cases.iter().filter(disturbs_nobody) {
        let (kube, operator, places, case) =
            (kube.clone(), operator.cloned(), places.clone(), *case);
        tasks.spawn(async move {
            let place = places.acquire_owned().await.ok();
            let ended = run_one(&kube, operator, case, place).await;
            say(&ended);
            ended
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        all.push(ended.expect("a case's panic is caught in its own task"));
    }
    for case in cases.iter().filter(|case| !disturbs_nobody(case)) {
        let ended = run_one(kube, operator.cloned(), *case, None).await;
        say(&ended);
        all.push(ended);
    }
    all
}

/// Runs a case. Its place is given back as soon as nothing but the end of its namespace is left: that is a wait for
/// Kubernetes' own controllers, and the next case need not wait with it.
async fn run_one(
    kube: &Kube,
    operator: Option<Operator>,
    case: Case,
    place: Option<OwnedSemaphorePermit>,
) -> Ended {
    let start = Instant::now();
    let own = format!("e2e-{}", case.name);
    let namespace = if case.namespace.is_empty() {
        &own
    } else {
        case.namespace
    };
    let world = World::new(kube, operator, case.name, namespace);
    let body = {
        let world = world.clone();
        // A task of its own: a panic ends this case and no other.
        tokio::spawn(tokio::time::timeout(CASE_LIMIT, async move {
            world.open().await?;
            (case.run)(world).await
        }))
    };
    let result = match body.await {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Error::wrong(format!("it still ran after {} s", CASE_LIMIT.as_secs())),
        Err(panic) => Err(Error::Task(panic)),
    };
    let failure = match result {
        Ok(()) => None,
        Err(error) => Some(format!(
            "{}\n{}",
            error.with_causes(),
            crate::dump::dump(&world).await
        )),
    };
    let took = start.elapsed();
    drop(place);
    // What failed may be kept to be looked at.
    let keep = failure.is_some() && std::env::var_os("E2E_KEEP").is_some();
    let closed = if keep { Ok(()) } else { world.close().await };
    let failure = failure.or_else(|| closed.err().map(|error| error.with_causes()));
    Ended {
        name: case.name,
        took,
        closing: start.elapsed().saturating_sub(took),
        failure,
        figures: world.figures(),
    }
}
