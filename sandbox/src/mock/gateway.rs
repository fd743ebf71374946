//! WeChat Pay, API v2 and API v3: stateful, strict, and as faulty as wanted. What it does not reproduce is said in
//! [`crate::mock`].
//!
//! One gateway has one or more endpoints in front of it, as the real one has (`api.mch.weixin.qq.com`,
//! `api2.mch.weixin.qq.com`).

mod endpoint;
mod fault;
mod order;
mod reply;
mod state;
mod v2;
mod v3;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

pub use endpoint::Endpoint;
pub use fault::{Fault, Times, V3Fault};
pub use order::{OPENID, Order, TradeState, transaction_id};
use tokio::sync::mpsc;
use tokio_rustls::rustls::ServerConfig;

use crate::mock::{
    identity::{Api, Identity},
    lock,
    signed_xml::{Fields, read_xml},
};
use fault::Planned;
use state::{ANY_ORDER, GatewayState};

/// The gateway; clones share the same orders.
#[derive(Clone, Debug)]
pub struct Gateway {
    state: Arc<Mutex<GatewayState>>,
    endpoints: Arc<Vec<Endpoint>>,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// `/pay/closeorder`, or its like of API v3.
    CloseOrder,
    /// `/pay/orderquery`, or its like of API v3.
    OrderQuery,
}

impl Call {
    /// Every call.
    pub const ALL: [Self; 2] = [Self::CloseOrder, Self::OrderQuery];
}

/// How an order starts that was never put into the gateway.
#[derive(Clone, Debug, Default)]
pub struct Unknown {
    /// The order, if there is to be one.
    pub order: Option<Order>,
    /// What goes wrong with every call about it; with one call alone, if that is named.
    pub fault: Option<(Option<Call>, Fault)>,
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Which endpoint took it, from 0.
    pub endpoint: usize,
    /// Of which interface it was, if the gateway knows the path.
    pub api: Option<Api>,
    /// Which call it was, if any that the gateway knows.
    pub call: Option<Call>,
    /// The HTTP method.
    pub method: String,
    /// The path, as it was sent.
    pub path: String,
    /// The query, as it was sent.
    pub query: String,
    /// The headers, by name in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: String,
    /// The body's fields, if it is a flat document; with API v3 number and merchants, under the names of API v2.
    pub fields: Fields,
    /// What was made to go wrong with it.
    pub fault: Option<Fault>,
    /// The document that was sent back, if any was.
    pub reply: Option<String>,
    /// Its HTTP status.
    pub status: Option<u16>,
    /// Its headers, by name in lower case.
    pub reply_headers: BTreeMap<String, String>,
    /// When it came.
    pub at: Instant,
}

impl Received {
    /// What the reply says, in the fields of API v2: of API v3 the status is left out, and 204 is SUCCESS.
    #[must_use]
    pub fn reply_fields(&self) -> Fields {
        let reply = self.reply.as_deref().unwrap_or_default();
        match (self.api, self.status) {
            (Some(Api::V3), Some(204)) => Fields::from([("result_code".to_owned(), "SUCCESS".to_owned())]),
            (Some(Api::V3), _) => v3::reply_fields(reply),
            _ => read_xml(reply).unwrap_or_default(),
        }
    }

    /// A field; empty if it is not there.
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map(String::as_str).unwrap_or_default()
    }
}

impl Gateway {
    /// Starts a gateway with an endpoint at each address, over TLS if told how; port 0 lets the system choose. With a
    /// certificate of another [`crate::mock::tls::Authority`] than the function trusts, it is one that the function must
    /// not talk to.
    ///
    /// # Errors
    /// When an address is taken.
    pub async fn start(
        tls: Option<Arc<ServerConfig>>,
        identity: Identity,
        addresses: &[SocketAddr],
    ) -> anyhow::Result<Self> {
        let state = Arc::new(Mutex::new(GatewayState::default()));
        lock(&state).identities.push(identity);
        let mut endpoints = Vec::new();
        for (index, &address) in addresses.iter().enumerate() {
            endpoints.push(Endpoint::start(index, address, Arc::clone(&state), tls.clone()).await?);
        }
        Ok(Self { state, endpoints: Arc::new(endpoints) })
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

    /// Puts an order into the gateway: one in a state, or one that is told how to behave.
    pub fn put_order(&self, out_trade_no: &str, order: impl Into<Order>) {
        self.lock().orders.insert(out_trade_no.to_owned(), order.into());
    }

    /// Lets the payer pay an order, if there is such an order and it can be paid.
    pub fn pay(&self, out_trade_no: &str) {
        if let Some(order) = self.lock().orders.get_mut(out_trade_no)
            && matches!(order.state, TradeState::NotPay | TradeState::UserPaying | TradeState::PayError)
        {
            order.state = TradeState::Success;
        }
    }

    /// Says how orders start that were never put into the gateway. Without a rule there are no such orders: closeorder
    /// answers SUCCESS and orderquery `ORDERNOTEXIST`, as the real gateway does.
    pub fn unknown_orders(&self, rule: fn(&str) -> Unknown) {
        self.lock().unknown = Some(rule);
    }

    /// The state of an order, if there is such an order.
    #[must_use]
    pub fn order(&self, out_trade_no: &str) -> Option<TradeState> {
        self.lock().orders.get(out_trade_no).map(|order| order.state)
    }

    /// Changes whom the gateway knows: a rotated key, another merchant.
    pub fn set_identity(&self, identity: Identity) {
        self.set_identities(vec![identity]);
    }

    /// Changes whom the gateway knows: several merchants. An order is any's, unless it says whose it is.
    pub fn set_identities(&self, identities: Vec<Identity>) {
        self.lock().identities = identities;
    }

    /// Whom the gateway knows.
    #[must_use]
    pub fn identities(&self) -> Vec<Identity> {
        self.lock().identities.clone()
    }

    /// Limits the requests that each merchant may make a second, or no longer.
    pub fn set_rate_limit(&self, requests: Option<u32>) {
        self.lock().rate_limit = requests;
    }

    /// Makes calls about one order go wrong, whichever they are.
    pub fn fault_on_order(&self, out_trade_no: &str, times: Times, fault: Fault) {
        self.lock().plan(out_trade_no, Planned { endpoint: None, call: None, times, fault });
    }

    /// Makes one call about one order go wrong.
    pub fn fault_on_order_call(&self, out_trade_no: &str, call: Call, times: Times, fault: Fault) {
        self.lock().plan(out_trade_no, Planned { endpoint: None, call: Some(call), times, fault });
    }

    /// Makes the next calls go wrong, whichever they are and whichever orders they are about.
    pub fn fault_on_next_calls(&self, times: Times, fault: Fault) {
        self.lock().plan(ANY_ORDER, Planned { endpoint: None, call: None, times, fault });
    }

    /// Makes one call go wrong, whichever orders it is about: orderquery is down while closeorder is not, for instance.
    pub fn fault_on_call(&self, call: Call, times: Times, fault: Fault) {
        self.lock().plan(ANY_ORDER, Planned { endpoint: None, call: Some(call), times, fault });
    }

    /// Makes every call at one endpoint go wrong; one call alone, if that is named.
    pub fn fault_on_endpoint(&self, endpoint: usize, call: Option<Call>, fault: Fault) {
        let endpoint = Some(endpoint);
        self.lock().plan(ANY_ORDER, Planned { endpoint, call, times: Times::Always, fault });
    }

    /// Forgets all faults.
    pub fn clear_faults(&self) {
        self.lock().faults.clear();
    }

    /// Everything received so far.
    #[must_use]
    pub fn received(&self) -> Vec<Received> {
        self.lock().received.iter().map(|received| lock(received).clone()).collect()
    }

    /// How many requests of this call were received so far.
    #[must_use]
    pub fn count(&self, call: Call) -> usize {
        self.lock().received.iter().filter(|received| lock(received).call == Some(call)).count()
    }

    /// Forgets what was received.
    pub fn clear_received(&self) {
        self.lock().received.clear();
    }

    /// Every exchange from now on, as soon as it is over: the reply was made, or the connection is gone.
    #[must_use]
    pub fn watch(&self) -> mpsc::UnboundedReceiver<Received> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().watchers.push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, GatewayState> {
        lock(&self.state)
    }
}

/// The time as API v3 writes it, in seconds.
fn unix_time() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
