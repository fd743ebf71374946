//! The incidents of a run.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Run, Span, keys};
use crate::{
    Sandbox,
    chaos::plan::{Incident, Part},
    mock::{
        identity::{Merchant, V3},
        lock,
        rsa::Key,
    },
};

/// How long a function may still sign with a key that was rotated: its cache's time to live, since it reads the secret
/// anew over a rejected signature once a minute at most; and a little more.
const STALE: Duration = Duration::from_millis(1_500);

/// How long a merchant of several may be without a key after that: a secret that could not be read is asked for again
/// after five seconds at the earliest, unless it is cached.
const NO_KEY: Duration = Duration::from_millis(5_500);

impl Run {
    /// Begins or ends the incidents that are planned for before the next planned job.
    pub(super) async fn change_incidents(&self) -> anyhow::Result<()> {
        let mut begun = self.begun.lock().await;
        let job = *begun;
        *begun += 1;
        for &(_, incident) in self.plan.incidents.iter().filter(|(at, _)| *at == job) {
            let (Sandbox { gateway, secrets, events, .. }, queue) = (&self.sandbox, &self.queue);
            if !matches!(incident, Incident::Over(_)) {
                let rotated = match incident {
                    Incident::KeyRotated(merchant) => self.plan.merchants.get(merchant),
                    _ => None,
                };
                let mch_id = rotated.map(|merchant| merchant.identity.mch_id.clone());
                lock(&self.incidents).push(Span { part: incident.part(), mch_id, from: Instant::now(), to: None });
            }
            match incident {
                Incident::EndpointDown(endpoint) => {
                    if let Some(endpoint) = gateway.endpoints().get(endpoint) {
                        endpoint.go_down().await;
                    }
                }
                Incident::GatewayDown => {
                    for endpoint in gateway.endpoints() {
                        endpoint.go_down().await;
                    }
                }
                Incident::KeyRotated(merchant) => {
                    let mut identities = gateway.identities();
                    if let Some(identity) = identities.get_mut(merchant) {
                        let key = Key::Merchant(job);
                        identity.v3 = V3 { key, serial_no: format!("{job:040}"), ..identity.v3.clone() };
                        identity.api_key = format!("{job:k>32}");
                        lock(&self.keys).extend(keys(identity));
                    }
                    gateway.set_identities(identities.clone());
                    sleep(Duration::from_millis(20)).await;
                    let flaws = self.plan.merchants.iter().map(|merchant| merchant.flaw);
                    let merchants = identities.into_iter().zip(flaws);
                    self.sandbox
                        .know(&merchants.map(|(identity, flaw)| Merchant { identity, flaw }).collect::<Vec<_>>());
                }
                Incident::SecretsFail(failure) => secrets.set_failure(Some(failure)),
                Incident::SecretsSlow(delay) => secrets.set_delay(delay),
                Incident::EventsFail(failure) => events.set_failure(Some(failure)),
                Incident::QueueFails(failure) => queue.set_failure(Some(failure)),
                Incident::RateLimited(requests) => gateway.set_rate_limit(Some(requests)),
                Incident::Over(Part::Gateway) => {
                    gateway.set_rate_limit(None);
                    for endpoint in gateway.endpoints() {
                        endpoint.come_up().await?;
                    }
                }
                Incident::Over(Part::Secrets) => {
                    secrets.set_failure(None);
                    secrets.set_delay(Duration::ZERO);
                }
                Incident::Over(Part::Events) => events.set_failure(None),
                Incident::Over(Part::Queue) => queue.set_failure(None),
            }
            if let Incident::Over(part) = incident {
                let mut incidents = lock(&self.incidents);
                let last = incidents.iter_mut().rfind(|span| span.part == part);
                if let Some(span) = last {
                    let lasting = match (part, &span.mch_id) {
                        (Part::Secrets, None) if self.plan.merchants.len() > 1 => NO_KEY,
                        (Part::Secrets, _) => STALE,
                        _ => Duration::ZERO,
                    };
                    span.to = Some(Instant::now() + lasting);
                }
            }
        }
        Ok(())
    }
}
