//! WeChat Pay API v2 as a service provider meets it at `/pay/closeorder`: stateful, strict, and as faulty as wanted.
//!
//! It has one set of books and one or more endpoints in front of them, as the real one has
//! (`api.mch.weixin.qq.com`, `api2.mch.weixin.qq.com`).

mod endpoint;
mod fault;
mod rules;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

pub use endpoint::Endpoint;
pub use fault::{Fault, Times};
pub use rules::TradeState;
use tokio_rustls::rustls::ServerConfig;

use crate::{mock::identity::Identity, mock::signed_xml::Fields};

/// The gateway; clones share the same books.
#[derive(Clone, Debug)]
pub struct Gateway {
    books: Arc<Mutex<Books>>,
    endpoints: Arc<Vec<Endpoint>>,
}

/// What the gateway knows, and what it was told to do wrong.
#[derive(Debug)]
pub(crate) struct Books {
    identity: Identity,
    orders: HashMap<String, TradeState>,
    /// How an order starts that was never put on the books, if not as one that was never made.
    unknown: Option<fn(&str) -> Unknown>,
    faults_by_order: HashMap<String, VecDeque<(Times, Fault)>>,
    faults_by_call: VecDeque<(Times, Fault)>,
    /// What was received, with the number of its call.
    received: Vec<(u64, Received)>,
    calls: u64,
}

/// How an order starts that was never put on the books.
#[derive(Clone, Debug)]
pub struct Unknown {
    /// Its state.
    pub state: Option<TradeState>,
    /// What goes wrong with every call about it.
    pub fault: Option<Fault>,
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which endpoint took it, from 0.
    pub endpoint: usize,
    /// The HTTP method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// The body's fields, if it is a flat document.
    pub fields: Fields,
    /// The document that was sent back, if any was.
    pub reply: Option<String>,
    /// When it came.
    pub at: Instant,
}

impl Gateway {
    /// Starts a gateway with an endpoint at each address; port 0 lets the system choose.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn start(identity: Identity, addresses: &[SocketAddr]) -> anyhow::Result<Self> {
        Self::start_over(None, identity, addresses).await
    }

    /// Starts a gateway, over TLS if told how.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn start_over(
        tls: Option<Arc<ServerConfig>>,
        identity: Identity,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let books = Arc::new(Mutex::new(Books {
            identity,
            orders: HashMap::new(),
            unknown: None,
            faults_by_order: HashMap::new(),
            faults_by_call: VecDeque::new(),
            received: Vec::new(),
            calls: 0,
        }));
        let mut endpoints = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            endpoints.push(Endpoint::start(index, address, Arc::clone(&books), tls.clone()).await?);
        }
        Ok(Self { books, endpoints: Arc::new(endpoints) })
    }

    /// The endpoints, in order of preference.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoints' base addresses as `WECHAT_PAY_ENDPOINTS` takes them.
    #[must_use]
    pub fn urls(&self) -> String {
        self.endpoints.iter().map(Endpoint::url).collect::<Vec<_>>().join(",")
    }

    /// Puts an order on the books.
    pub fn put_order(&self, out_trade_no: &str, state: TradeState) {
        self.lock().orders.insert(out_trade_no.to_owned(), state);
    }

    /// Says how orders start that were never put on the books.
    pub fn unknown_orders(&self, rule: fn(&str) -> Unknown) {
        self.lock().unknown = Some(rule);
    }

    /// The state of an order, if there is such an order.
    #[must_use]
    pub fn order(&self, out_trade_no: &str) -> Option<TradeState> {
        self.lock().orders.get(out_trade_no).copied()
    }

    /// Changes whom the gateway knows: a rotated key, another merchant.
    pub fn set_identity(&self, identity: Identity) {
        self.lock().identity = identity;
    }

    /// Makes calls about one order go wrong.
    pub fn fault_on_order(&self, out_trade_no: &str, times: Times, fault: Fault) {
        self.lock().faults_by_order.entry(out_trade_no.to_owned()).or_default().push_back((times, fault));
    }

    /// Makes the next calls go wrong, whichever orders they are about.
    pub fn fault_on_next_calls(&self, times: Times, fault: Fault) {
        self.lock().faults_by_call.push_back((times, fault));
    }

    /// Forgets all faults by call and by order.
    pub fn clear_faults(&self) {
        let mut books = self.lock();
        books.faults_by_call.clear();
        books.faults_by_order.clear();
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.iter().map(|(_, received)| received.clone()).collect()
    }

    /// Forgets what was received.
    pub fn clear_received(&self) {
        self.lock().received.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
