//! Several merchants, each with a secret of its own.

use sandbox::{
    Sandbox,
    mock::{
        identity::{Api, Flaw, Identity, MchType, Merchant},
        rsa::Key,
        secrets::SECRET_ID,
    },
};
use serde_json::{Value, json};

use crate::support::{authorization, body_of, exchange};

/// The secret of this name, or the error.
async fn secret(sandbox: &Sandbox, name: &str) -> Value {
    let headers = format!("{}x-amz-target: secretsmanager.GetSecretValue\r\n", authorization("secretsmanager"));
    let headers = format!("{headers}content-type: application/x-amz-json-1.1\r\n");
    let request = json!({"SecretId": name}).to_string();
    let reply = exchange(&sandbox.secrets.url(), "POST /", &headers, request.as_bytes()).await.unwrap();
    let reply: Value = serde_json::from_str(body_of(&reply)).unwrap();
    reply["SecretString"].as_str().map_or(reply.clone(), |secret| serde_json::from_str(secret).unwrap())
}

fn merchant(mch_id: &str, place: usize, api: Api, flaw: Option<Flaw>) -> Merchant {
    Merchant { identity: Identity::numbered(mch_id, place).with_api(api), flaw }
}

#[tokio::test]
async fn each_of_several_merchants_has_a_secret_of_its_own_or_none() {
    let sandbox = Sandbox::start().await.unwrap();
    let merchants = [
        merchant("1230000110", 0, Api::V2, None),
        merchant("1230000111", 1, Api::V3, None),
        merchant("1230000112", 2, Api::V2, Some(Flaw::WrongKey)),
        merchant("1230000113", 3, Api::V3, Some(Flaw::WrongKey)),
        merchant("1230000114", 4, Api::V3, Some(Flaw::NoSecret)),
    ];
    sandbox.know(&merchants);
    assert_eq!(sandbox.environment()[0], ("WECHAT_PAY_SECRET_ID", "wechat-pay/{mch_id}".to_owned()));
    let mut keys = Vec::new();
    for Merchant { identity, flaw } in &merchants {
        let secret = secret(&sandbox, &format!("wechat-pay/{}", identity.mch_id)).await;
        if *flaw == Some(Flaw::NoSecret) {
            assert_eq!(secret["__type"], "ResourceNotFoundException");
            continue;
        }
        assert_eq!(secret["mch_id"], identity.mch_id);
        let key = if identity.api == Api::V2 { &secret["api_key"] } else { &secret["private_key"] };
        let right =
            if identity.api == Api::V2 { json!(identity.api_key) } else { json!(identity.v3.key.private_pem()) };
        assert_eq!(*key == right, flaw.is_none(), "{identity:?}");
        keys.push(key.to_string());
    }
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 4);
}

#[tokio::test]
async fn one_merchants_secret_has_the_usual_name_whatever_the_number() {
    let sandbox = Sandbox::start().await.unwrap();
    sandbox.know(&[merchant("1230000110", 0, Api::V3, None)]);
    assert_eq!(sandbox.environment()[0].1, SECRET_ID);
    assert_eq!(secret(&sandbox, SECRET_ID).await["mch_id"], "1230000110");
}

#[test]
fn a_secret_of_api_v3_has_its_four_values_and_nothing_of_api_v2() {
    let mut identity =
        Identity { sub_appid: Some("wx".to_owned()), sign_type: Some("MD5".to_owned()), ..Identity::default() };
    identity.api = Api::V3;
    let v3 = identity.v3.clone();
    let mut expected = json!({
        "mch_id": "1230000109",
        "private_key": v3.key.private_pem(),
        "serial_no": v3.serial_no,
        "public_key_id": v3.public_key_id,
        "public_key": Key::Platform.public_pem(),
    });
    assert_eq!(identity.secret(), expected);
    identity.mch_type = MchType::Merchant;
    identity.v3.other_public_keys = true;
    expected["mch_type"] = json!("merchant");
    expected["other_public_keys"] = json!({v3.certificate_serial: Key::Certificate.public_pem()});
    assert_eq!(identity.secret(), expected);
}
