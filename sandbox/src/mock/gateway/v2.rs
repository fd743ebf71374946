//! API v2: XML at `/pay/closeorder` and `/pay/orderquery`.

mod reply;
mod request;

use self::reply::{Draft, Replies};
use super::{
    Fault, Received,
    reply::{Reply, Request, Says},
};
use crate::mock::{
    identity::Identity,
    signed_xml::{Fields, sign},
};

/// The request, if it is right in itself; else the reply that it gets.
pub(super) fn accept(identities: &[Identity], received: &Received) -> Result<Request, Reply> {
    let mch_id = received.fields.get("mch_id");
    let identity = identities.iter().find(|identity| Some(&identity.mch_id) == mch_id).or(identities.first());
    let Some(identity) = identity else {
        return Err(respond(Draft::unsigned_fail("mch_id不存在").document(&[])));
    };
    request::check(identity, received).map_err(|fail| respond(fail.document(&[])))?;
    let call = received.call.unwrap_or(super::Call::CloseOrder);
    Ok(Request { identity: identity.clone(), call, fields: received.fields.clone(), v3: None })
}

/// Writes a reply.
pub(super) fn reply(request: &Request, says: &Says, fault: Option<&Fault>) -> Reply {
    let replies = Replies { identity: &request.identity, call: request.call, request: &request.fields };
    let mut draft = match says {
        Says::Closed => replies.closed(),
        Says::Order { out_trade_no, order, state } => replies.queried(out_trade_no, order, *state),
        Says::Error(err_code) => replies.failed(err_code),
        Says::UnsignedFail(return_msg) => Draft::unsigned_fail(return_msg),
        Says::RateLimited => Draft::unsigned_fail("频率限制,请稍后再试"),
        Says::Made => replies.made(),
        Says::Fields(fields) => {
            replies.signed(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
        }
    };
    respond(match fault {
        Some(Fault::Forge) => draft.forge().document(&[]),
        Some(Fault::Edit(edits)) => {
            draft.edit(edits);
            draft.document(&[])
        }
        Some(Fault::Tamper(edits)) => draft.document(edits),
        _ => draft.document(&[]),
    })
}

/// Whether a reply needs no signature, or has the right one.
pub(super) fn is_genuine(reply: &Fields, request: &Fields, identity: &Identity) -> bool {
    let sign_type = request.get("sign_type").map(String::as_str).unwrap_or_default();
    reply.get("sign").is_none_or(|signature| *signature == sign(reply, &identity.api_key, sign_type))
}

fn respond(body: String) -> Reply {
    Reply { status: 200, headers: vec![("content-type", "text/plain".to_owned())], body }
}
