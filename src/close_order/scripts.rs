//! Whole operations by scripts of replies, on a paused clock: deadlines, lost connections, key rotations, replies to
//! something else. A script says what WeChat Pay does with each request; `rules` has what must hold of any script.

mod rules;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Mutex,
    time::Duration,
};

use sandbox::mock::signed_xml::{sign, xml};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Batch, CloseOrder, Invocation};
use crate::{
    answer::Answer,
    http_client::SendError,
    merchants::mock::{Answer as Secret, KEY, MockSecrets, ROTATED, secret, secret_of},
    order::Order,
    outcome::Outcome,
    wechat_pay::{
        Call, Connection, Endpoint, Endpoints, Exchange, ExchangeError, Exchanger, ReplyError, Request, WireResponse,
    },
};

/// What comes back for one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Said {
    /// Closeorder's SUCCESS, whatever was asked.
    Success,
    /// A signed failure.
    Code(&'static str),
    /// A query's reply about this order, whatever was asked.
    State(&'static str),
    /// A query's reply about another order.
    OtherState(&'static str),
    /// An unsigned FAIL.
    Unsigned(&'static str),
    /// SUCCESS or a state, by the call, signed with a key that nobody has.
    Forged,
    /// A proxy's page.
    Page,
    /// HTTP 502.
    BadGateway,
    Lost,
    Refused,
    Hang,
}

use Said::{BadGateway, Code, Forged, Hang, Lost, OtherState, Page, Refused, State, Success, Unsigned};

/// What WeChat Pay's rate limit says.
const RATE_LIMIT: Said = Unsigned("频率限制");

/// One request that was sent.
#[derive(Clone, Debug)]
struct Sent {
    call: Call,
    said: Said,
    at: Instant,
    connection: Connection,
    endpoint: String,
    has_new_key: bool,
    /// Whether the reply was verified.
    is_verified: bool,
}

/// WeChat Pay, by a script: what it says to closes and to queries, each after so many milliseconds.
struct Script {
    closes: Mutex<VecDeque<(u64, Said)>>,
    queries: Mutex<VecDeque<(u64, Said)>>,
    sent: Mutex<Vec<Sent>>,
    /// From when on the old key is rejected.
    rotated_after: Option<Duration>,
    start: Instant,
    secrets: MockSecrets,
}

impl Script {
    fn is_rotated(&self) -> bool {
        self.rotated_after.is_some_and(|after| self.start.elapsed() >= after)
    }

    fn body(said: Said, request: &Request<'_>, key: &str) -> Option<String> {
        let base = [
            ("return_code", "SUCCESS"),
            ("appid", "wx8888888888888888"),
            ("mch_id", "1900000109"),
            ("sub_mch_id", "1900000110"),
            ("nonce_str", "n"),
        ];
        let extra: &[(&str, &str)] = match (said, request.call) {
            (Success, _) | (Forged, Call::CloseOrder) => &[("result_code", "SUCCESS")],
            (Code(code), _) => &[("result_code", "FAIL"), ("err_code", code)],
            (State(state), _) => &[("result_code", "SUCCESS"), ("out_trade_no", "1"), ("trade_state", state)],
            (OtherState(state), _) => &[("result_code", "SUCCESS"), ("out_trade_no", "2"), ("trade_state", state)],
            (Forged, Call::OrderQuery) => {
                &[("result_code", "SUCCESS"), ("out_trade_no", "1"), ("trade_state", "CLOSED")]
            }
            (Unsigned(text), _) => {
                return Some(format!(
                    "<xml><return_code>FAIL</return_code><return_msg>{text}</return_msg><err_code>ORDERCLOSED</err_code></xml>"
                ));
            }
            (Page, _) => return Some("<html></html>".to_owned()),
            (BadGateway | Lost | Refused | Hang, _) => return None,
        };
        let fields = base.iter().chain(extra).map(|&(name, value)| (name.to_owned(), value.to_owned()));
        let mut fields: BTreeMap<_, _> = fields.collect();
        let key = if said == Forged { "f".repeat(32) } else { key.to_owned() };
        fields.insert("sign".to_owned(), sign(&fields, &key, "MD5"));
        Some(xml(&fields))
    }
}

impl Exchanger for &Script {
    async fn exchange(
        &self,
        endpoint: &Endpoint,
        request: Request<'_>,
        connection: Connection,
        limit: Duration,
    ) -> Exchange {
        let steps = if request.call == Call::CloseOrder { &self.closes } else { &self.queries };
        let (delay, said) = steps.lock().unwrap().pop_front().unwrap_or((1, Lost));
        let at = Instant::now();
        let wire = request.write();
        // Whose key it is shows in the signature, as it does to WeChat Pay.
        let has_new_key = *request.account == crate::merchants::mock::merchant(ROTATED);
        let said = if self.is_rotated() && !has_new_key && !matches!(said, Lost | Refused | Hang | BadGateway) {
            Unsigned("签名错误")
        } else {
            said
        };
        let delay = Duration::from_millis(delay);
        let result = if said == Hang || delay >= limit {
            sleep(limit).await;
            Err(ExchangeError::Send(SendError::TimedOut))
        } else {
            sleep(delay).await;
            let unverified = |status, error| Err(ReplyError { status, error }.into());
            let key = if has_new_key { ROTATED } else { KEY };
            match (said, Script::body(said, &request, key)) {
                (Lost, _) => Err(SendError::ConnectionLost.into()),
                (Refused, _) => Err(SendError::Refused.into()),
                (_, None) => unverified(502, None),
                (_, Some(body)) => {
                    request.verify(&WireResponse::ok(body)).or_else(|error| unverified(200, Some(error)))
                }
            }
        };
        if self.is_rotated() {
            self.secrets.set(secret(ROTATED));
        }
        let is_verified = result.is_ok();
        let endpoint = endpoint.to_string();
        let sent = Sent { call: request.call, said, at, connection, endpoint, has_new_key, is_verified };
        self.sent.lock().unwrap().push(sent);
        Exchange { result, request_id: None, signature: wire.signature }
    }
}

/// An order and what WeChat Pay does with its requests.
#[derive(Clone, Debug, Default)]
struct Case {
    closes: Vec<(u64, Said)>,
    queries: Vec<(u64, Said)>,
    confirm: bool,
    is_in_a_batch: bool,
    /// Whether another order of the batch has met the rate limit.
    has_other_met_limit: bool,
    rotated_after: Option<Duration>,
    time: Duration,
}

/// How it ended.
struct Ended {
    answer: Answer,
    json: Value,
    sent: Vec<Sent>,
    took: Duration,
    /// Whether the merchant's next orders wait out the rate limit.
    is_waited_for: bool,
}

impl Case {
    fn new(closes: &[Said], queries: &[Said]) -> Self {
        let quick = |said: &[Said]| said.iter().map(|&said| (10, said)).collect();
        let time = Duration::from_mins(1);
        Self { closes: quick(closes), queries: quick(queries), confirm: true, time, ..Self::default() }
    }

    async fn run(&self) -> Ended {
        let secrets = MockSecrets::new(secret(KEY));
        self.run_with(secrets).await
    }

    async fn run_with(&self, secrets: MockSecrets) -> Ended {
        let start = Instant::now();
        let script = Script {
            closes: Mutex::new(self.closes.clone().into()),
            queries: Mutex::new(self.queries.clone().into()),
            sent: Mutex::default(),
            rotated_after: self.rotated_after,
            start,
            secrets: secrets.clone(),
        };
        let endpoint = |host: &str| Endpoint::parse(&format!("https://{host}")).unwrap();
        let endpoints = Endpoints::new(endpoint("one"), [endpoint("two")]);
        let close_order = CloseOrder::new(secrets.only(), &script, endpoints, Duration::from_secs(5));
        let order = json!({"sub_mch_id": "1900000110", "out_trade_no": "1", "confirm": self.confirm});
        let order = Order::from_json(&order.to_string(), "event").unwrap();
        let batch = Batch::default();
        if self.has_other_met_limit {
            batch.sent("1900000109", true);
        }
        let invocation = Invocation { batch: self.is_in_a_batch.then_some(&batch), ..Invocation::default() };
        let answer = close_order.close(&order, false, start + self.time, invocation).await;
        let json = serde_json::to_value(&answer).unwrap();
        let took = start.elapsed();
        let sent = script.sent.lock().unwrap().clone();
        close_order.end_batch(&batch);
        let is_waited_for = !close_order.not_waited_for.contains("1900000109");
        Ended { answer, json, sent, took, is_waited_for }
    }
}

impl Ended {
    fn said(&self) -> (&str, bool, Option<&str>) {
        (self.answer.outcome.as_str(), self.answer.confirmed, self.json.get("err_code").and_then(Value::as_str))
    }

    fn calls(&self) -> [usize; 2] {
        [Call::CloseOrder, Call::OrderQuery].map(|call| self.sent.iter().filter(|sent| sent.call == call).count())
    }
}

#[tokio::test(start_paused = true)]
async fn of_each_script_the_outcome_its_proof_and_the_requests() {
    let not_confirmed = ("unknown", false, Some("NOTCONFIRMED"));
    let not_closed = ("open", true, Some("ORDERNOTCLOSED"));
    let bad_query = [Code("SYSTEMERROR")];
    for (closes, queries, expected, calls) in [
        (&[Success][..], &[State("CLOSED")][..], ("closed", true, None), [1, 1]),
        (&[Success], &[State("SUCCESS")], ("paid", true, Some("ORDERPAID")), [1, 1]),
        (&[Success], &[Code("ORDERNOTEXIST")], ("not_found", true, Some("ORDERNOTEXIST")), [1, 1]),
        (&[Success], &bad_query, not_confirmed, [1, 1]),
        (&[Code("ORDERPAID")], &bad_query, not_confirmed, [1, 1]),
        (&[Code("ORDERNOTEXIST")], &bad_query, not_confirmed, [1, 1]),
        (&[Code("ORDERCLOSED")], &[Code("ORDERNOTEXIST")], not_confirmed, [1, 1]),
        (&[Code("USERPAYING")], &[Code("ORDERNOTEXIST")], ("open", false, Some("USERPAYING")), [1, 1]),
        (&[Code("TRADE_STATE_ERROR")], &[Code("ORDERNOTEXIST")], ("unknown", false, Some("TRADE_STATE_ERROR")), [1, 1]),
        (&[Code("NEW")], &[Code("ORDERNOTEXIST")], ("not_found", true, Some("ORDERNOTEXIST")), [1, 1]),
        // A connection out of step: the next reply on it is one that another request was for.
        (&[Success], &[Code("ORDERPAID"), State("SUCCESS")], ("paid", true, Some("ORDERPAID")), [1, 2]),
        (&[Success], &[Success, State("SUCCESS")], ("paid", true, Some("ORDERPAID")), [1, 2]),
        (&[Success], &[OtherState("CLOSED"), State("CLOSED")], ("closed", true, None), [1, 2]),
        (&[Success], &[OtherState("CLOSED"), OtherState("CLOSED")], not_confirmed, [1, 2]),
        (&[State("CLOSED")], &[State("NOTPAY")], ("open", true, None), [1, 1]),
        // The second round.
        (&[Success, Success], &[State("NOTPAY"), State("CLOSED")], ("closed", true, None), [2, 2]),
        (&[Success, Success], &[State("NOTPAY"), State("NOTPAY")], not_closed, [2, 2]),
        (&[Success, Success], &[State("NOTPAY"), Code("ORDERNOTEXIST")], not_closed, [2, 2]),
        (&[Success, Success], &[State("NOTPAY"), Code("NEW")], not_closed, [2, 2]),
        (&[Success, Unsigned("no")], &[State("NOTPAY"), State("CLOSED")], ("closed", true, None), [2, 2]),
        (&[Success, Code("NOAUTH")], &[State("NOTPAY"), State("SUCCESS")], ("paid", true, Some("ORDERPAID")), [2, 2]),
        (&[Success, Refused, Refused], &[State("NOTPAY"), State("NOTPAY")], not_closed, [3, 2]),
        (&[Success, Code("ORDERPAID")], &[State("NOTPAY"), Code("NEW")], not_confirmed, [2, 2]),
        (&[Success, Code("ORDERPAID")], &[State("NOTPAY"), Code("ORDERNOTEXIST")], not_confirmed, [2, 2]),
        (&[Success, Code("ORDERPAID")], &[State("NOTPAY"), State("NOTPAY")], not_confirmed, [2, 2]),
        (
            &[Success, Code("ORDERPAID")],
            &[State("NOTPAY"), State("SUCCESS")],
            ("paid", true, Some("ORDERPAID")),
            [2, 2],
        ),
        // Connections and bodies.
        (&[Lost, Lost, Lost], &[State("CLOSED")], ("closed", true, Some("ORDERCLOSED")), [3, 1]),
        (&[Refused, Success], &[Page, State("CLOSED")], ("closed", true, None), [2, 2]),
        (&[Refused, Refused, Refused], &[], ("not_sent", false, None), [3, 0]),
        (&[BadGateway, RATE_LIMIT], &[State("NOTPAY")], ("open", true, None), [2, 1]),
        (&[RATE_LIMIT], &[], ("unknown", false, None), [1, 0]),
        (&[Unsigned("no")], &[], ("rejected", false, None), [1, 0]),
        (&[Forged], &[State("NOTPAY")], ("open", true, None), [1, 1]),
        (&[Success], &[Forged], not_confirmed, [1, 1]),
    ] {
        let ended = Case::new(closes, queries).run().await;
        assert_eq!((ended.said(), ended.calls()), (expected, calls), "{closes:?} {queries:?}: {}", ended.json);
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_after_a_connection_out_of_step_goes_out_on_a_new_one() {
    for (closes, queries, expected) in [
        (
            &[Success][..],
            &[Code("ORDERPAID"), State("SUCCESS")][..],
            [Connection::Pooled, Connection::Pooled, Connection::New],
        ),
        (&[Success], &[Lost, State("CLOSED")], [Connection::Pooled, Connection::Pooled, Connection::New]),
        (&[State("CLOSED")], &[Lost, State("CLOSED")], [Connection::Pooled, Connection::New, Connection::New]),
    ] {
        let ended = Case::new(closes, queries).run().await;
        assert_eq!(ended.sent.iter().map(|sent| sent.connection).collect::<Vec<_>>(), expected, "{closes:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_starts_where_closeorder_was_last_answered() {
    for (closes, queries, expected) in [
        (&[Code("SYSTEMERROR"), Success][..], &[State("CLOSED")][..], &["https://two"][..]),
        (&[Success], &[State("CLOSED")], &["https://one"]),
        // The first query ends at the other endpoint, and the second round's closes are not answered.
        (
            &[Success, BadGateway, BadGateway],
            &[Page, State("NOTPAY"), State("CLOSED")],
            &["https://one", "https://two", "https://one"],
        ),
    ] {
        let ended = Case::new(closes, queries).run().await;
        let queried = ended.sent.iter().filter(|sent| sent.call == Call::OrderQuery).map(|sent| &*sent.endpoint);
        assert_eq!(queried.collect::<Vec<_>>(), expected, "{closes:?}: {:?}", ended.sent);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_shows_the_last_state_that_a_query_showed() {
    for (second, expected) in [
        (State("CLOSED"), "CLOSED"),
        (State("SUCCESS"), "SUCCESS"),
        (State("USERPAYING"), "USERPAYING"),
        (Code("ORDERNOTEXIST"), "NOTPAY"),
        (Code("NEW"), "NOTPAY"),
    ] {
        let ended = Case::new(&[Success, Success], &[State("NOTPAY"), second]).run().await;
        assert_eq!(ended.json["trade_state"], expected, "{second:?}: {}", ended.json);
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_key_that_comes_after_the_last_attempt_signs_the_query() {
    let case = Case {
        rotated_after: Some(Duration::from_millis(100)),
        ..Case::new(&[BadGateway, BadGateway, Success], &[State("CLOSED")])
    };
    let ended = case.run().await;
    assert_eq!(ended.said(), ("closed", true, Some("ORDERCLOSED")), "{}", ended.json);
    assert_eq!(ended.sent.iter().map(|sent| sent.has_new_key).collect::<Vec<_>>(), [false, false, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_query_that_fails_over_its_signature_is_made_again_with_the_new_key() {
    let mut case = Case { rotated_after: Some(Duration::from_secs(1)), ..Case::new(&[Success], &[]) };
    case.closes = vec![(1000, Success)];
    case.queries = vec![(10, State("CLOSED")), (10, State("CLOSED"))];
    let ended = case.run().await;
    assert_eq!((ended.said(), ended.calls()), (("closed", true, None), [1, 2]), "{}", ended.json);
    assert!(ended.sent[2].has_new_key);
}

#[tokio::test(start_paused = true)]
async fn a_key_of_another_merchant_is_not_used() {
    let secrets = MockSecrets::new(secret(KEY));
    let reads = secrets.clone();
    let case = Case::new(&[Unsigned("签名错误")], &[]);
    let other = async move {
        sleep(Duration::from_millis(105)).await;
        let Secret::Secret(text) = secret_of("1900000199", ROTATED) else { unreachable!() };
        reads.set(Secret::Secret(text));
    };
    let (ended, ()) = tokio::join!(case.run_with(secrets.clone()), other);
    assert_eq!((ended.said(), ended.calls()), (("rejected", false, None), [1, 0]), "{}", ended.json);
    assert_eq!(secrets.reads(), 2, "it was read anew");
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_not_used_if_its_kind_of_merchant_has_no_such_order() {
    let secrets = MockSecrets::new(secret(KEY));
    let changed = secrets.clone();
    let case = Case::new(&[Unsigned("签名错误"), Success], &[State("CLOSED")]);
    let change = async move {
        sleep(Duration::from_millis(105)).await;
        let mut ordinary: Value = match secret(ROTATED) {
            Secret::Secret(text) => serde_json::from_str(&text).unwrap(),
            _ => unreachable!(),
        };
        ordinary["mch_type"] = json!("merchant");
        changed.set(Secret::Secret(ordinary.to_string()));
    };
    let (ended, ()) = tokio::join!(case.run_with(secrets.clone()), change);
    assert_eq!((ended.said(), ended.calls()), (("rejected", false, None), [1, 0]), "{}", ended.json);
    assert_eq!(secrets.reads(), 2, "it was read anew");
}

#[tokio::test(start_paused = true)]
async fn a_reply_in_hand_is_returned_in_time_however_long_the_secret_is_read_anew() {
    let wrong_signature = Unsigned("签名错误");
    for (closes, queries, expected) in [
        (&[wrong_signature][..], &[][..], ("rejected", false, None)),
        (&[Success], &[wrong_signature], ("unknown", false, Some("NOTCONFIRMED"))),
        (&[Success], &[Forged], ("unknown", false, Some("NOTCONFIRMED"))),
        (&[BadGateway, wrong_signature], &[], ("unknown", false, None)),
    ] {
        for time in [Duration::from_millis(1500), Duration::from_secs(4), Duration::from_mins(15)] {
            let secrets = MockSecrets::new(secret(KEY));
            let case = Case { time, ..Case::new(closes, queries) };
            let hang = async {
                sleep(Duration::from_millis(5)).await;
                secrets.set(Secret::Hang);
            };
            let (ended, ()) = tokio::join!(case.run_with(secrets.clone()), hang);
            assert_eq!(ended.said(), expected, "{closes:?} {queries:?} {time:?}: {}", ended.json);
            assert!(ended.took <= time && secrets.reads() >= 2, "{closes:?} {queries:?} {time:?}: {:?}", ended.took);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_batch_the_rate_limit_is_waited_out_and_costs_no_attempt() {
    let limited = [RATE_LIMIT, RATE_LIMIT, RATE_LIMIT, RATE_LIMIT, RATE_LIMIT];
    let closes = [&limited[..], &[BadGateway, BadGateway, Success]].concat();
    let queries = [Code("FREQUENCY_LIMITED"), RATE_LIMIT, Code("FREQUENCY_LIMITED"), Page, State("CLOSED")];
    let case = Case { is_in_a_batch: true, time: Duration::from_mins(2), ..Case::new(&closes, &queries) };
    let ended = case.run().await;
    assert_eq!((ended.said(), ended.calls()), (("closed", true, None), [8, 5]), "{}", ended.json);
    // Means of 1 + 2 + 4 + 8 + 8 s for the close, 1 + 2 + 4 s for the query, each give or take a half.
    assert!((15..46).contains(&ended.took.as_secs()), "{:?}", ended.took);
    let [first, second] = [0, 1].map(|place| &ended.sent[place]);
    assert_eq!((&first.endpoint, first.connection), (&second.endpoint, second.connection), "the same endpoint");

    let ended = Case { is_in_a_batch: false, ..case }.run().await;
    assert_eq!((ended.said(), ended.calls()), (("unknown", false, None), [1, 0]), "somebody waits: {}", ended.json);
    assert!(ended.answer.is_rate_limited);
}

#[tokio::test(start_paused = true)]
async fn in_a_batch_a_close_that_is_limited_is_made_again_unless_the_order_is_being_paid() {
    let limited = Code("FREQUENCY_LIMITED");
    for (closes, queries, expected, calls, is_rate_limited) in [
        (
            &[limited, limited, Success][..],
            &[Code("NEW"), limited, Code("NEW"), State("CLOSED")][..],
            ("closed", true, None),
            [3, 4],
            false,
        ),
        (
            &[limited, limited, limited, BadGateway, BadGateway, Success],
            &[Code("NEW"), Code("NEW"), Code("NEW"), State("CLOSED")],
            ("closed", true, None),
            [6, 4],
            false,
        ),
        (&[limited], &[State("USERPAYING")], ("open", true, Some("FREQUENCY_LIMITED")), [1, 1], false),
    ] {
        let ended = Case { is_in_a_batch: true, ..Case::new(closes, queries) }.run().await;
        assert_eq!((ended.said(), ended.calls()), (expected, calls), "{closes:?}: {}", ended.json);
        assert_eq!(ended.answer.is_rate_limited, is_rate_limited);
    }
    // It was the rate limit, and has closed nothing: a rejection behind it is one, and a limit is asked no more.
    for (second, outcome) in [(Unsigned("no"), Outcome::Rejected), (Code("NOAUTH"), Outcome::Rejected)] {
        let case = Case { is_in_a_batch: true, ..Case::new(&[limited, second], &[Code("NEW")]) };
        let ended = case.run().await;
        assert_eq!((ended.answer.outcome, ended.calls()), (outcome, [2, 1]), "{second:?}: {}", ended.json);
    }
    let case = Case { is_in_a_batch: true, ..Case::new(&[BadGateway, limited, Unsigned("no")], &[Code("NEW"); 2]) };
    let ended = case.run().await;
    assert_eq!((ended.answer.outcome, ended.calls()), (Outcome::Unknown, [3, 2]), "{}", ended.json);
    // What is left when the time is up: a second before its end at the latest.
    for said in [RATE_LIMIT, limited] {
        let many = vec![said; 40];
        let time = Duration::from_secs(20);
        let ended = Case { is_in_a_batch: true, time, ..Case::new(&many, &[Code("NEW"); 40]) }.run().await;
        assert_eq!((ended.answer.outcome, ended.answer.reason()), (Outcome::Unknown, Some("rate_limited")));
        assert!(ended.took < time && ended.calls()[0] <= 12, "{:?}", ended.calls());
    }
    let ended = Case::new(&[Success, limited], &[State("NOTPAY"), Code("NEW")]).run().await;
    assert_eq!((ended.said(), ended.answer.reason()), (("open", true, Some("ORDERNOTCLOSED")), Some("rate_limited")));
    // The shortest pause, half a second, would leave less than a second.
    for (closes, queries, calls) in [
        (&[RATE_LIMIT; 2][..], &[][..], [1, 0]),
        (&[limited; 2], &[Code("NEW")], [1, 1]),
        (&[Success], &[limited; 2], [1, 1]),
    ] {
        let time = Duration::from_millis(1400);
        let ended = Case { is_in_a_batch: true, time, ..Case::new(closes, queries) }.run().await;
        assert_eq!((ended.calls(), ended.answer.reason()), (calls, Some("rate_limited")), "{closes:?}");
    }
    for (closes, queries, is_waited_for) in [
        (vec![RATE_LIMIT; 40], vec![], false),
        (vec![limited; 40], vec![RATE_LIMIT; 40], false),
        (vec![limited; 40], vec![Code("NEW"); 40], true),
        (vec![limited], vec![State("USERPAYING")], true),
        (vec![RATE_LIMIT, Success], vec![RATE_LIMIT; 40], true),
    ] {
        let time = Duration::from_secs(20);
        let ended = Case { is_in_a_batch: true, time, ..Case::new(&closes, &queries) }.run().await;
        assert_eq!(ended.is_waited_for, is_waited_for, "{} {:?} {}", closes.len(), queries.first(), ended.json);
    }
    // A query that proves nothing for the limit alone.
    let ended = Case { is_in_a_batch: true, time: Duration::from_secs(20), ..Case::new(&[Success], &[RATE_LIMIT; 40]) };
    let ended = ended.run().await;
    assert_eq!((ended.said(), ended.answer.reason()), (("unknown", false, Some("NOTCONFIRMED")), Some("rate_limited")));
}

#[tokio::test(start_paused = true)]
async fn a_batch_knows_of_the_limit_what_never_began_and_a_merchant_that_is_limited_is_not_waited_for_again() {
    // Over the limit, a close is told so without a signature, or with one, and then its query as well.
    for (limited, per_attempt) in [(RATE_LIMIT, 1), (Code("FREQUENCY_LIMITED"), 2)] {
        let script = Script {
            closes: Mutex::new(vec![(10, limited); 100].into()),
            queries: Mutex::new(vec![(10, limited); 100].into()),
            sent: Mutex::default(),
            rotated_after: None,
            start: Instant::now(),
            secrets: MockSecrets::new(secret(KEY)),
        };
        let endpoints = Endpoints::new(Endpoint::parse("https://one").unwrap(), []);
        let close_order = CloseOrder::new(script.secrets.only(), &script, endpoints, Duration::from_secs(5));
        let order = Order::from_json(r#"{"sub_mch_id": "1900000110", "out_trade_no": "1"}"#, "event").unwrap();
        // What an order comes to that has so much time, and how many requests it takes.
        let close = async |batch: &Batch, time: u64| {
            let sent = script.sent.lock().unwrap().len();
            let invocation = Invocation { batch: Some(batch), ..Invocation::default() };
            let answer = close_order.close(&order, true, Instant::now() + Duration::from_secs(time), invocation).await;
            (answer.outcome, answer.reason().unwrap().to_owned(), script.sent.lock().unwrap().len() - sent)
        };

        let batch = Batch::default();
        assert_eq!(close(&batch, 0).await, (Outcome::NotSent, "DeadlineExceeded".to_owned(), 0));
        let (outcome, reason, requests) = close(&batch, 20).await;
        assert_eq!((outcome, &*reason), (Outcome::Unknown, "rate_limited"));
        assert!(requests > per_attempt, "it is waited for");
        assert_eq!(close(&batch, 0).await, (Outcome::NotSent, "rate_limited".to_owned(), 0));

        close_order.end_batch(&batch);
        assert_eq!(close(&Batch::default(), 20).await, (Outcome::Unknown, "rate_limited".to_owned(), per_attempt));
        sleep(Duration::from_mins(3)).await;
        assert!(close(&Batch::default(), 20).await.2 > per_attempt, "it is waited for again after three minutes");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_time_to_begin_reads_and_sends_nothing_and_says_whether_the_rate_limit_took_the_time() {
    for (has_other_met_limit, reason) in [(true, "rate_limited"), (false, "DeadlineExceeded")] {
        let secrets = MockSecrets::new(secret(KEY));
        let case =
            Case { is_in_a_batch: true, has_other_met_limit, time: Duration::ZERO, ..Case::new(&[Success], &[]) };
        let ended = case.run_with(secrets.clone()).await;
        assert_eq!((ended.said(), ended.answer.reason()), (("not_sent", false, None), Some(reason)), "{}", ended.json);
        assert_eq!((ended.calls(), secrets.reads(), ended.took), ([0, 0], 0, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_in_hand_when_the_time_runs_out_is_returned() {
    for (closes, queries, time, expected) in [
        (vec![(10, Success)], vec![(10, Hang)], 2000, ("unknown", false, Some("NOTCONFIRMED"))),
        (vec![(950, Success)], vec![], 1900, ("unknown", false, Some("NOTCONFIRMED"))),
        (vec![(950, Code("USERPAYING"))], vec![], 1900, ("open", false, Some("USERPAYING"))),
        (
            vec![(10, Code("SYSTEMERROR")), (10, Hang), (10, Hang)],
            vec![],
            1500,
            ("unknown", false, Some("SYSTEMERROR")),
        ),
        (vec![(10, Hang)], vec![], 900, ("unknown", false, None)),
    ] {
        let case = Case { closes, queries, time: Duration::from_millis(time), ..Case::new(&[], &[]) };
        let ended = case.run().await;
        assert_eq!(ended.said(), expected, "{case:?}: {}", ended.json);
        assert!(ended.took <= case.time, "{:?}", ended.took);
    }
}
