//! What a person reads at a glance, on standard error: in colour on a terminal, plain in a pipe.

use std::io::{IsTerminal, Write, stderr};

use sandbox::mock::gateway::Received;
use serde_json::Value;

/// What a reply means, and what to do now.
pub struct Meaning {
    /// What it means.
    pub means: &'static str,
    /// What to do now.
    pub to_do: &'static str,
    /// Whether the order is settled.
    pub is_settled: bool,
}

/// Reads a direct call's result, an HTTP answer's body, or a function error.
pub fn meaning(answer: &Value) -> Meaning {
    let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default();
    let (means, to_do, is_settled) = match (text("returnCode"), text("resultCode"), text("err_code"), text("errorType"))
    {
        ("SUCCESS", "SUCCESS", ..) => ("the order is closed", "nothing", true),
        ("SUCCESS", _, "ORDERCLOSED", _) => ("the order was closed before", "nothing", true),
        ("SUCCESS", _, "ORDERPAID", _) => ("the order is paid and stays so", "treat it as a paid order", true),
        ("SUCCESS", _, "ORDERNOTEXIST", _) => ("there is no such order", "check the order number", true),
        ("SUCCESS", _, "SYSTEMERROR", _) => ("WeChat Pay has an error", "call again", false),
        ("SUCCESS", _, "SIGNERROR", _) => ("WeChat Pay refused the sign", "check the key in the secret", false),
        ("SUCCESS", ..) => ("WeChat Pay refused, see err_code", "query the order before anything else", false),
        ("FAIL", ..) if answer.get("errCode").is_some_and(|code| code == 0) => {
            ("WeChat Pay refused the request, see returnMsg", "correct the request or the secret", false)
        }
        ("FAIL", ..) => ("refused by the function, nothing was sent", "see returnMsg", false),
        (.., "CredentialsUnavailable") => ("no key, nothing was sent", "check the secret, then call again", false),
        (.., "") if answer.get("batchItemFailures").is_some() => {
            ("a batch was answered", "the messages in batchItemFailures come back by themselves", true)
        }
        _ => ("the outcome is unknown: the order may be closed", "call again", false),
    };
    Meaning { means, to_do, is_settled }
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

/// One call: what was sent and what came back.
pub fn call(received: &Received) {
    sent(received);
    came_back(received);
}

/// What was sent.
pub fn sent(received: &Received) {
    let field = |name: &str| received.fields.get(name).map_or("-", String::as_str);
    let text = format!(
        "{} {} to endpoint {}: sub_mch_id {}, out_trade_no {}",
        received.method,
        received.path,
        received.endpoint + 1,
        field("sub_mch_id"),
        field("out_trade_no"),
    );
    line("sent", &text, Colour::Cyan);
}

/// What came back.
pub fn came_back(received: &Received) {
    let text = match &received.reply {
        None => "nothing that is a reply".to_owned(),
        Some(reply) => {
            let fields = sandbox::mock::signed_xml::read_xml(reply).unwrap_or_default();
            let named = ["return_code", "return_msg", "result_code", "err_code"]
                .into_iter()
                .filter_map(|name| Some(format!("{name} {}", fields.get(name)?)));
            named.collect::<Vec<_>>().join(", ")
        }
    };
    line("came back", &text, Colour::Cyan);
}

/// A document with its sign cut short.
pub fn wire(direction: &str, document: &str) {
    let sign = sandbox::mock::signed_xml::read_xml(document)
        .and_then(|fields| fields.get("sign").cloned())
        .unwrap_or_default();
    let shown = match sign.get(..8) {
        Some(start) => document.replace(&sign, &format!("{start}…")),
        None => document.to_owned(),
    };
    for shown in shown.lines() {
        line(direction, shown, Colour::Yellow);
    }
}
