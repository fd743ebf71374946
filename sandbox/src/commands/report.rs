//! What a person reads at a glance, on standard error: in colour on a terminal, plain in a pipe.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write, stderr},
};

use sandbox::mock::{
    event_bus::Event,
    gateway::{Fault, Received},
    identity::Api,
    signed_xml::read_xml,
};
use serde_json::Value;

/// The colour of a heading, as terminals number them.
#[derive(Clone, Copy)]
pub enum Colour {
    /// Something is not right.
    Red = 31,
    /// All is well.
    Green = 32,
    /// Worth a look.
    Yellow = 33,
    /// A part of the story.
    Cyan = 36,
}

/// Writes a line with a heading.
pub fn line(heading: &str, text: &str, colour: Colour) {
    let mut out = stderr().lock();
    let is_plain = std::env::var_os("NO_COLOR").is_some() || !out.is_terminal();
    let _ = if is_plain {
        writeln!(out, "{heading:>10}  {text}")
    } else {
        writeln!(out, "\u{1b}[{}m{heading:>10}\u{1b}[0m  {text}", colour as u8)
    };
}

/// What an `outcome` means and what to do now, in both languages.
const OUTCOMES: [(&str, Colour, &str, &str); 7] = [
    (
        "closed",
        Colour::Green,
        "the order is closed, as WeChat Pay says; not confirmed / 微信支付返回已关闭，未经查单确认",
        "send \"confirm\": true before you release the stock (the queue does by default) / \
         释放库存之前请带上 \"confirm\": true（队列默认带）",
    ),
    (
        "paid",
        Colour::Green,
        "the order is paid, or was and is refunded / 订单已支付，或支付后已退款",
        "book the payment; check total_fee / 更新为已支付，核对 total_fee",
    ),
    (
        "not_found",
        Colour::Yellow,
        "this merchant has no such order / 这个商户号下没有这笔订单",
        "check the merchant first, then the number: under another merchant it may still be payable / \
         先核对商户号，再核对单号：它在别的商户号下可能仍可支付",
    ),
    (
        "open",
        Colour::Yellow,
        "the order is not closed and may be paid any moment / 订单未关闭，仍可支付",
        "call again / 重新调用",
    ),
    (
        "rejected",
        Colour::Red,
        "WeChat Pay rejected the request itself / 微信支付拒绝了请求本身",
        "fix the secret or the setup / 改正 Secret 或配置",
    ),
    ("not_sent", Colour::Red, "nothing was sent / 请求未发送", "see why / 看 why 一行"),
    ("unknown", Colour::Red, "nobody can say whether the order is closed / 关单结果未知", "call again / 重新调用"),
];

/// Says what an `outcome` means and what to do now.
pub fn outcome(outcome: &str, is_confirmed: bool) {
    let row = OUTCOMES.iter().find(|(name, ..)| *name == outcome).or(OUTCOMES.last());
    let Some(&(_, colour, mut means, mut to_do)) = row else { return };
    if outcome == "closed" && is_confirmed {
        means = "the order is closed, and a query confirmed it / 订单已关闭，已经查单确认";
        to_do = "release the stock / 释放库存";
    }
    line("outcome", &format!("{outcome:<9} {means}"), colour);
    line("to do", to_do, colour);
}

/// One exchange with the gateway: what was sent, and what came back.
pub fn exchange(received: &Received, with_wire: bool) {
    let field = |name: &str| received.fields.get(name).map(|value| format!(", {name} {value}")).unwrap_or_default();
    let call = received.path.rsplit('/').next().unwrap_or_default();
    let call = if received.api == Some(Api::V3) { &received.path } else { call };
    let (method, endpoint) = (&received.method, received.endpoint + 1);
    let text = format!("{method} {call} to endpoint {endpoint}{}{}", field("out_trade_no"), field("sub_mch_id"));
    line("sent", &text, Colour::Cyan);
    if with_wire {
        wire("→", &received.headers, &received.body);
    }
    line("came back", &came_back(received), Colour::Cyan);
    if let (true, Some(reply)) = (with_wire, &received.reply) {
        wire("←", &received.reply_headers, reply);
    }
}

fn came_back(received: &Received) -> String {
    let reply = received.status.map(|status| {
        let fields = received.reply_fields();
        let status = (received.api == Some(Api::V3)).then(|| format!("HTTP status {status}"));
        let named = ["return_code", "return_msg", "result_code", "err_code", "trade_state"]
            .into_iter()
            .filter_map(|name| Some(format!("{name} {}", fields.get(name)?)));
        let mut text = status.into_iter().chain(named).collect::<Vec<_>>().join(", ");
        let is_signed = fields.contains_key("sign") || received.reply_headers.contains_key("wechatpay-signature");
        if is_signed && matches!(received.fault, Some(Fault::Forge)) {
            text.push_str("; its signature does not match: somebody else sent it");
        }
        text
    });
    match (&received.fault, reply) {
        (_, Some(reply)) => reply,
        (Some(Fault::Hang), None) => "nothing".to_owned(),
        (Some(Fault::Reset), None) => "a connection reset".to_owned(),
        (Some(Fault::Status(status)), None) => format!("HTTP status {status}"),
        (_, None) => "nothing that is a reply".to_owned(),
    }
}

/// The headers that belong to a signature, and the document; signatures are cut short.
fn wire(direction: &str, headers: &BTreeMap<String, String>, document: &str) {
    let show = |text: &str| line(direction, text, Colour::Yellow);
    for (name, value) in headers {
        let signed = value.split_once("signature=\"").map_or(value.as_str(), |(_, rest)| rest);
        match name.as_str() {
            "authorization" | "wechatpay-signature" => show(&format!("{name}: {}", shorten(value, signed))),
            _ if name.starts_with("wechatpay-") => show(&format!("{name}: {value}")),
            _ => {}
        }
    }
    let signature = read_xml(document).and_then(|fields| fields.get("sign").cloned()).unwrap_or_default();
    shorten(document, &signature).lines().for_each(show);
}

/// The text with all but the start of the signature left out, up to a quotation mark after it.
fn shorten(text: &str, signature: &str) -> String {
    let signature = signature.split('"').next().unwrap_or_default();
    match signature.get(..8) {
        Some(start) => text.replace(signature, &format!("{start}…")),
        None => text.to_owned(),
    }
}

/// An event that the function published.
pub fn event(event: &Event) {
    let detail = |name: &str| event.detail.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (outcome, number) = (detail("outcome"), detail("out_trade_no"));
    let text =
        format!("{} \"{}\" to bus {}: {outcome}, out_trade_no {number}", event.source, event.detail_type, event.bus);
    line("event", &text, Colour::Green);
    line("", &event.detail.to_string(), Colour::Green);
}
