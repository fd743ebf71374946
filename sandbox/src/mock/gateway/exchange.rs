//! What was received, from the request to the reply.

use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;

use super::{Received, reply::Reply, state::GatewayState};
use crate::mock::lock;

/// A request on record; whoever watches hears of it when it is over, however it ends.
pub(super) struct Exchange {
    number: u64,
    state: Arc<Mutex<GatewayState>>,
    watchers: Vec<mpsc::UnboundedSender<Received>>,
    watched: Option<Received>,
}

impl Exchange {
    /// Puts a request on record.
    pub(super) fn begin(state: &Arc<Mutex<GatewayState>>, received: Received) -> Self {
        let mut known = lock(state);
        known.exchanges += 1;
        let number = known.exchanges;
        known.watchers.retain(|watcher| !watcher.is_closed());
        let watchers = known.watchers.clone();
        let watched = (!watchers.is_empty()).then(|| received.clone());
        known.received.push((number, received));
        Self { number, state: Arc::clone(state), watchers, watched }
    }

    /// Its number, from 1.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Adds the reply to its request, by its number: the record may have been cleared since.
    pub(super) fn reply(&mut self, reply: &Reply) {
        let mut state = lock(&self.state);
        let on_record = state.received.iter_mut().rfind(|(number, _)| *number == self.number);
        for received in on_record.map(|(_, received)| received).into_iter().chain(&mut self.watched) {
            received.reply = Some(reply.body.clone());
            received.status = Some(reply.status);
            let headers = reply.headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
            received.reply_headers = headers.collect();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if let Some(watched) = self.watched.take() {
            for watcher in &self.watchers {
                let _ = watcher.send(watched.clone());
            }
        }
    }
}
