//! Any text as the secret: nothing panics, and no complaint quotes it.
#![no_main]

use close_order::merchant::Merchant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|secret: &str| {
    match Merchant::from_secret(secret) {
        Ok(merchant) => {
            let key =
                serde_json::from_str::<serde_json::Value>(secret).unwrap()["api_key"].as_str().unwrap().to_owned();
            assert_eq!(key.len(), 32);
            let shown = format!("{merchant:?}");
            assert!(key == merchant.appid() || key == merchant.mch_id() || !shown.contains(&key), "{shown}");
        }
        // All complaints are made of constants: a value of any length would show in them.
        Err(malformed) => assert!(malformed.to_string().len() < 100),
    }
});
