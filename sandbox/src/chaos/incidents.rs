//! What goes wrong around the function for a while.

use std::time::{Duration, Instant};

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

/// An incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Incident {
    /// An endpoint of the gateway is down.
    EndpointDown(usize),
    /// Every endpoint of the gateway is down.
    GatewayDown,
    /// WeChat Pay takes so many requests a second and no more.
    RateLimited(u32),
    /// The keys of the merchant at this index are rotated: at the gateway first, in the secret a moment later.
    KeyRotated(usize),
    SecretsFail(secrets::Failure),
    SecretsSlow(Duration),
    EventsFail(event_bus::Failure),
    QueueFails(queue::Failure),
}

impl Incident {
    /// One of all incidents; the keys of so many merchants can be rotated.
    pub(super) fn random(merchants: usize, random: &mut Rng) -> Self {
        use event_bus::Failure as Bus;
        use queue::Failure as Sqs;
        use secrets::Failure as Secret;

        let secret = [Secret::InternalError, Secret::Reset];
        let sqs = [Sqs::InternalError, Sqs::AccessDenied, Sqs::Reset, Sqs::ResetAfter, Sqs::EveryNth(2), Sqs::Hang];
        let bus =
            [Bus::InternalError, Bus::AccessDenied, Bus::Throttled, Bus::Unavailable, Bus::Reset, Bus::ResetAfter];
        match random.u8(..12) {
            0 => Self::EndpointDown(0),
            1 => Self::EndpointDown(1),
            2 => Self::GatewayDown,
            3 => Self::RateLimited(random.u32(1..40)),
            4 | 5 => Self::KeyRotated(random.usize(..merchants)),
            6 => Self::SecretsFail(random.choice(secret).unwrap_or(Secret::Reset)),
            7 => Self::SecretsSlow(Duration::from_millis(random.u64(10..200))),
            8 => Self::EventsFail(Bus::Hang),
            9 => Self::EventsFail(Bus::EveryNth(random.usize(1..5))),
            10 => Self::EventsFail(random.choice(bus).unwrap_or(Bus::Reset)),
            _ => Self::QueueFails(random.choice(sqs).unwrap_or(Sqs::Reset)),
        }
    }

    /// Whether whoever meets it waits for the deadline.
    pub(super) fn is_slow(self) -> bool {
        matches!(self, Self::GatewayDown | Self::EventsFail(event_bus::Failure::Hang))
    }

    /// Whether it is in what takes the results, EventBridge and SQS, and so in nothing that closing an order takes.
    pub(super) fn is_in_results(self) -> bool {
        matches!(self, Self::EventsFail(_) | Self::QueueFails(_))
    }

    /// Whether a function can have no key because of it, or an old one.
    pub(super) fn is_in_secrets(self) -> bool {
        matches!(self, Self::KeyRotated(_) | Self::SecretsFail(_) | Self::SecretsSlow(_))
    }
}

/// When an incident was.
#[derive(Debug)]
pub(super) struct Span {
    incident: Incident,
    from: Instant,
    to: Option<Instant>,
}

impl Run {
    /// Begins and ends what is planned for before this job.
    pub(super) async fn change_incidents(&self, job: usize) -> anyhow::Result<()> {
        for (jobs, incident) in &self.plan.incidents {
            if jobs.start == job {
                lock(&self.spans).push(Span { incident: *incident, from: Instant::now(), to: None });
                self.begin(*incident, job).await;
            } else if jobs.end == job {
                self.end().await?;
                if let Some(span) = lock(&self.spans).last_mut() {
                    span.to = Some(Instant::now() + if incident.is_in_secrets() { NO_KEY } else { Duration::ZERO });
                }
            }
        }
        Ok(())
    }

    /// The incidents in this time that can concern the merchant.
    pub(super) fn incidents(&self, merchant: &Merchant, from: Instant, to: Instant) -> Vec<Incident> {
        let concerns = |span: &&Span| {
            let is_about = match span.incident {
                Incident::KeyRotated(index) => self.plan.merchants.get(index) == Some(merchant),
                _ => true,
            };
            is_about && span.from <= to && span.to.is_none_or(|end| from <= end)
        };
        lock(&self.spans).iter().filter(concerns).map(|span| span.incident).collect()
    }

    async fn begin(&self, incident: Incident, job: usize) {
        let gateway = &self.sandbox.gateway;
        match incident {
            Incident::EndpointDown(_) | Incident::GatewayDown => {
                for (index, endpoint) in gateway.endpoints().iter().enumerate() {
                    if incident == Incident::GatewayDown || incident == Incident::EndpointDown(index) {
                        endpoint.go_down().await;
                    }
                }
            }
            Incident::RateLimited(requests) => gateway.set_rate_limit(Some(requests)),
            Incident::KeyRotated(index) => {
                let mut identities = gateway.identities();
                if let Some(identity) = identities.get_mut(index) {
                    let serial_no = format!("{job:040}");
                    identity.v3 = V3 { key: Key::Merchant(job), serial_no, ..identity.v3.clone() };
                    identity.api_key = format!("{job:k>32}");
                    self.keep_secret(identity);
                }
                gateway.set_identities(identities.clone());
                sleep(Duration::from_millis(20)).await;
                let flaws = self.plan.merchants.iter().map(|merchant| merchant.flaw);
                let merchants = identities.into_iter().zip(flaws).map(|(identity, flaw)| Merchant { identity, flaw });
                self.sandbox.know(&merchants.collect::<Vec<_>>());
            }
            Incident::SecretsFail(failure) => self.sandbox.secrets.set_failure(Some(failure)),
            Incident::SecretsSlow(delay) => self.sandbox.secrets.set_delay(delay),
            Incident::EventsFail(failure) => self.sandbox.events.set_failure(Some(failure)),
            Incident::QueueFails(failure) => self.queue.set_failure(Some(failure)),
        }
    }

    /// All is well again.
    async fn end(&self) -> anyhow::Result<()> {
        self.sandbox.gateway.set_rate_limit(None);
        for endpoint in self.sandbox.gateway.endpoints() {
            endpoint.come_up().await?;
        }
        self.sandbox.secrets.set_failure(None);
        self.sandbox.secrets.set_delay(Duration::ZERO);
        self.sandbox.events.set_failure(None);
        self.queue.set_failure(None);
        Ok(())
    }
}
