//! Any bytes as the secret: nothing panics, and no error quotes it.
#![no_main]

use close_order::wechat_pay::Account;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|secret: &[u8]| {
    match Account::from_secret(secret) {
        Ok(account) => {
            let json = secret.strip_prefix("\u{feff}".as_bytes()).unwrap_or(secret);
            let json: serde_json::Value = serde_json::from_slice(json).unwrap();
            // Either key, and never both.
            let key = match (json["api_key"].as_str().unwrap_or_default(), json["private_key"].as_str().unwrap_or_default()) {
                (key, "") => {
                    assert_eq!(key.len(), 32);
                    key
                }
                ("", key) => key,
                _ => panic!("both sets of credentials are taken"),
            };
            let shown = format!("{account:?}");
            assert!(Some(key) == account.merchant().appid() || key == account.merchant().mch_id() || !shown.contains(key), "{shown}");
        }
        // All errors are made of constants: a value of any length would show in them.
        Err(malformed) => assert!(malformed.to_string().len() < 200),
    }
});
