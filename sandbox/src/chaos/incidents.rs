//! What goes wrong around the function for a while.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::time::sleep;

use super::run::Run;
use crate::mock::{
    event_bus,
    identity::{Merchant, V3},
    lock, queue,
    rsa::Key,
    secrets,
};

/// How long a merchant may be without its key when Secrets Manager, or a rotation, is over: a secret that could not be read
/// is asked for again after five seconds at the earliest; one that was read is cached for a second.
const NO_KEY: Duration = Duration::from_millis(5_500);

/// An incident; by default all is well.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Incident {
    /// Endpoints of the gateway that are down.
    pub(super) down: &'static [usize],
    /// WeChat Pay takes so many requests a second and no more.
    pub(super) rate_limit: Option<u32>,
    /// The merchant whose keys are rotated, by index: at the gateway first, in the secret a moment later.
    pub(super) rotated: Option<usize>,
    pub(super) secrets: Option<secrets::Failure>,
    pub(super) secrets_delay: Duration,
    pub(super) events: Option<event_bus::Failure>,
    pub(super) queue: Option<queue::Failure>,
}

impl Incident {
    /// One of all incidents; the keys of so many merchants can be rotated.
    pub(super) fn random(merchants: usize, random: &mut Rng) -> Self {
        use event_bus::Failure as Bus;
        use queue::Failure as Sqs;
        use secrets::Failure as Secret;

        let sqs = [Sqs::InternalError, Sqs::AccessDenied, Sqs::Reset, Sqs::ResetAfter, Sqs::EveryNth(2), Sqs::Hang];
        let bus =
            [Bus::InternalError, Bus::AccessDenied, Bus::Throttled, Bus::Unavailable, Bus::Reset, Bus::ResetAfter];
        let well = Self::default();
        match random.u8(..12) {
            0 => Self { down: &[0], ..well },
            1 => Self { down: &[1], ..well },
            2 => Self { down: &[0, 1], ..well },
            3 => Self { rate_limit: Some(random.u32(1..40)), ..well },
            4 | 5 => Self { rotated: Some(random.usize(..merchants)), ..well },
            6 => Self { secrets: random.choice([Secret::InternalError, Secret::Reset]), ..well },
            7 => Self { secrets_delay: Duration::from_millis(random.u64(10..200)), ..well },
            8 => Self { events: Some(Bus::Hang), ..well },
            9 => Self { events: Some(Bus::EveryNth(random.usize(1..5))), ..well },
            10 => Self { events: random.choice(bus), ..well },
            _ => Self { queue: random.choice(sqs), ..well },
        }
    }

    /// Whether it is in what takes the results, EventBridge and SQS, and so in nothing that closing an order takes.
    pub(super) fn is_in_results(&self) -> bool {
        self.events.is_some() || self.queue.is_some()
    }

    /// Whether a function can have no key because of it, or an old one.
    pub(super) fn is_in_secrets(&self) -> bool {
        self.rotated.is_some() || self.secrets.is_some() || !self.secrets_delay.is_zero()
    }
}

impl Run {
    /// Begins and ends what is planned for before this job.
    pub(super) async fn change_incidents(&self, job: usize) -> anyhow::Result<()> {
        for (jobs, incident) in &self.plan.incidents {
            if jobs.start == job {
                let from = Instant::now();
                lock(&self.spans).push((*incident, from..from + Duration::from_hours(1)));
                self.apply(incident, job).await?;
            } else if jobs.end == job {
                self.apply(&Incident::default(), job).await?;
                if let Some((_, span)) = lock(&self.spans).last_mut() {
                    span.end = Instant::now() + if incident.is_in_secrets() { NO_KEY } else { Duration::ZERO };
                }
            }
        }
        Ok(())
    }

    /// The incidents in this time that can concern the merchant.
    pub(super) fn incidents(&self, merchant: &Merchant, from: Instant, to: Instant) -> Vec<Incident> {
        let concerns = |(incident, span): &&(Incident, Range<Instant>)| {
            let is_about = incident.rotated.is_none_or(|index| self.plan.merchants.get(index) == Some(merchant));
            is_about && span.start <= to && from <= span.end
        };
        lock(&self.spans).iter().filter(concerns).map(|(incident, _)| *incident).collect()
    }

    async fn apply(&self, incident: &Incident, job: usize) -> anyhow::Result<()> {
        let gateway = &self.sandbox.gateway;
        for (index, endpoint) in gateway.endpoints().iter().enumerate() {
            if incident.down.contains(&index) {
                endpoint.go_down().await;
            } else {
                endpoint.come_up().await?;
            }
        }
        gateway.set_rate_limit(incident.rate_limit);
        self.sandbox.secrets.set_failure(incident.secrets);
        self.sandbox.secrets.set_delay(incident.secrets_delay);
        self.sandbox.events.set_failure(incident.events);
        self.queue.set_failure(incident.queue);
        let mut identities = gateway.identities();
        if let Some(identity) = incident.rotated.and_then(|index| identities.get_mut(index)) {
            identity.v3 = V3 { key: Key::Merchant(job), serial_no: format!("{job:040}"), ..identity.v3.clone() };
            identity.api_key = format!("{job:k>32}");
            self.keep_secret(identity);
            gateway.set_identities(identities.clone());
            sleep(Duration::from_millis(20)).await;
            let flaws = self.plan.merchants.iter().map(|merchant| merchant.flaw);
            let merchants = identities.into_iter().zip(flaws).map(|(identity, flaw)| Merchant { identity, flaw });
            self.sandbox.know(&merchants.collect::<Vec<_>>());
        }
        Ok(())
    }
}
