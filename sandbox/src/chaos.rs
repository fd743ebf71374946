//! A chaos run: many orders in mixed states, of both kinds of merchant and over both of WeChat Pay's interfaces, through
//! direct calls and SQS, while everything around the function goes wrong. At the end the ledger must be consistent: what the function reported of each order, and
//! what it published, is compared with what the gateway knows of it.

mod history;
mod ledger;
mod plan;
mod run;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

pub use ledger::{Ledger, Rule};
pub use plan::{Deployment, Incident, Job, Part, Plan, PlannedOrder, Work};

/// Runs a plan with so many functions side by side; `progress` hears how many orders had their turn, of how many.
///
/// # Errors
/// When the mocks or the function can't be started.
pub async fn run(
    plan: Plan,
    program: &Path,
    functions: usize,
    progress: impl Fn(usize, usize) + Send + Sync + 'static,
) -> anyhow::Result<Ledger> {
    let orders = plan.orders();
    let (begun, progress) = (Arc::<AtomicUsize>::default(), Arc::new(progress));
    let mut ledger = Ledger::default();
    for deployment in plan.deployments {
        let (begun, progress) = (Arc::clone(&begun), Arc::clone(&progress));
        let report = move |more| progress(begun.fetch_add(more, Ordering::Relaxed) + more, orders);
        ledger = run::run(deployment, program, functions, ledger, report).await?;
    }
    Ok(ledger)
}
