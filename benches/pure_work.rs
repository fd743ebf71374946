//! The pure work of one order, from the event's JSON to the signed request and from the reply to the answer's JSON,
//! beside its baseline: the bare MD5 digests of the same two texts.
//!
//! `cargo bench --bench pure_work` shows the times, and below them the ratio of the whole to the digests: a guard against
//! regressions, which other machines and other days move less than the times. It has no target.

#![expect(clippy::unwrap_used, reason = "a benchmark may stop at the first thing that is not as it should be")]

use std::{
    hint::black_box,
    io::Write,
    time::{Duration, Instant},
};

use close_order::{
    answer::Answer,
    order::Order,
    outcome::Outcome,
    wechat_pay::{Account, Payment, Request, WireResponse},
};
use divan::Bencher;
use md5::{Digest, Md5};
use sandbox::{
    mock::identity::Identity,
    mock::signed_xml::{Fields, read_xml, sign, xml},
};

const EVENT: &str = include_str!("../events/close-order.json");

/// Rounds, each of which gives a ratio, and how often either side is done in one.
const ROUNDS: usize = 301;
const TIMES: u32 = 500;

fn main() {
    divan::main();
    let case = Case::new();
    // In turn, so that what else the machine does meets both alike.
    let mut ratios: Vec<f64> = std::iter::repeat_with(|| {
        let digests = time(|| case.digests());
        time(|| case.whole()).as_secs_f64() / digests.as_secs_f64()
    })
    .take(ROUNDS)
    .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let _ = writeln!(
        std::io::stdout(),
        "\nthe whole ÷ the digests: {:.2} ×, the median of {ROUNDS} rounds",
        ratios.get(ROUNDS / 2).unwrap()
    );
}

fn time<T>(work: impl Fn() -> T) -> Duration {
    let start = Instant::now();
    for _ in 0..TIMES {
        black_box(work());
    }
    start.elapsed()
}

#[divan::bench]
fn event_to_signed_request(bencher: Bencher) {
    let case = Case::new();
    bencher.bench_local(|| case.request());
}

#[divan::bench]
fn reply_to_answer(bencher: Bencher) {
    let case = Case::new();
    let order = order();
    bencher.bench_local(|| case.answer(&Request::close(&order, &case.account)));
}

#[divan::bench]
fn the_whole(bencher: Bencher) {
    let case = Case::new();
    bencher.bench_local(|| case.whole());
}

#[divan::bench]
fn the_digests(bencher: Bencher) {
    let case = Case::new();
    bencher.bench_local(|| case.digests());
}

/// One order's documents.
struct Case {
    account: Account,
    reply: WireResponse,
    /// What the request's signature and the reply's are digests of.
    texts: [String; 2],
}

impl Case {
    fn new() -> Self {
        let identity = Identity::default();
        let account = Account::from_secret(identity.secret().to_string().as_bytes()).unwrap();
        let request = read_xml(&Request::close(&order(), &account).write().body).unwrap();
        let mut reply: Fields = [
            ("return_code", "SUCCESS"),
            ("return_msg", "OK"),
            ("appid", &identity.appid),
            ("mch_id", &identity.mch_id),
            ("sub_mch_id", request.get("sub_mch_id").unwrap()),
            ("nonce_str", "BFK89FC6rxKCOjLX"),
            ("result_code", "SUCCESS"),
            ("result_msg", "OK"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        reply.insert("sign".to_owned(), sign(&reply, &identity.api_key, "MD5"));
        let texts = [&request, &reply].map(|fields| signed_text(fields, &identity.api_key));
        Self { account, reply: WireResponse::ok(xml(&reply)), texts }
    }

    fn request(&self) -> String {
        let order = Order::from_json(black_box(EVENT), "event").unwrap();
        Request::close(&order, &self.account).write().body
    }

    fn answer(&self, request: &Request<'_>) -> Vec<u8> {
        let reply = request.verify(black_box(&self.reply)).unwrap();
        serde_json::to_vec(&Answer::reply(Outcome::Closed, &reply, Payment::default(), request.ids())).unwrap()
    }

    fn whole(&self) -> (String, Vec<u8>) {
        let order = Order::from_json(black_box(EVENT), "event").unwrap();
        let request = Request::close(&order, &self.account);
        (request.write().body, self.answer(&request))
    }

    fn digests(&self) -> [[u8; 16]; 2] {
        self.texts.each_ref().map(|text| Md5::digest(black_box(text.as_bytes())).into())
    }
}

fn order() -> Order {
    Order::from_json(EVENT, "event").unwrap()
}

/// The text of which a document's signature is the digest.
fn signed_text(fields: &Fields, key: &str) -> String {
    let parts = fields.iter().filter(|(name, _)| *name != "sign").map(|(name, value)| format!("{name}={value}&"));
    let text = parts.chain([format!("key={key}")]).collect::<String>();
    let digest: Vec<String> = Md5::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(fields.get("sign"), Some(&digest.concat()), "the signature is the digest of this text");
    text
}
