//! The incidents of a run.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::{Run, Span};
use crate::{
    Sandbox,
    chaos::plan::{Incident, Part},
    mock::lock,
};

/// How long a function may still sign with a key that was rotated: its cache's time to live, since it reads the secret
/// anew over a rejected signature once a minute at most; and a little more.
const STALE: Duration = Duration::from_millis(1_500);

impl Run {
    /// Begins or ends the incidents that are planned for before the next planned job.
    pub(super) async fn change_incidents(&self) -> anyhow::Result<()> {
        let mut begun = self.begun.lock().await;
        let job = *begun;
        *begun += 1;
        for &(_, incident) in self.plan.incidents.iter().filter(|(at, _)| *at == job) {
            let (Sandbox { gateway, secrets, events, identity }, queue) = (&self.sandbox, &self.queue);
            if !matches!(incident, Incident::Over(_)) {
                lock(&self.incidents).push(Span { part: incident.part(), from: Instant::now(), to: None });
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
                Incident::KeyRotated => {
                    let rotated = identity.with_key(&format!("{job:032}"));
                    lock(&self.keys).push(rotated.api_key.clone());
                    gateway.set_identity(rotated.clone());
                    sleep(Duration::from_millis(20)).await;
                    secrets.set(&rotated.secret());
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
                    span.to = Some(Instant::now() + if part == Part::Secrets { STALE } else { Duration::ZERO });
                }
            }
        }
        Ok(())
    }
}
