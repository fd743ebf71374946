//! The fields of an order, each with its rule.

use super::Problem;

/// Upper limit of every field, in characters: `String(32)` in WeChat Pay's tables.
const MAX_CHARACTERS: usize = 32;

/// Length of a nonce that is generated here, in characters.
const NONCE_CHARACTERS: usize = 32;

macro_rules! field {
    ($(#[$doc:meta])* $name:ident, $wire_name:literal, $is_allowed:expr, zh: $zh:literal, en: $en:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// The field's name on the wire.
            pub(crate) const NAME: &'static str = $wire_name;

            /// Takes a value that is within the field's rule.
            ///
            /// # Errors
            /// [`Problem`] has the rule that it breaks.
            pub fn parse(value: String) -> Result<Self, Problem> {
                if Self::is_valid(&value) { Ok(Self(value)) } else { Err(Problem::new($zh, $en)) }
            }

            /// Whether a value is within the field's rule.
            pub(crate) fn is_valid(value: &str) -> bool {
                let is_allowed: fn(u8) -> bool = $is_allowed;
                (1..=MAX_CHARACTERS).contains(&value.len()) && value.bytes().all(is_allowed)
            }

            /// The value as it goes over the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
    };
}

field!(
    /// `mch_id`: the merchant's number, 1–32 digits.
    MchId, "mch_id", |b| b.is_ascii_digit(),
    zh: "须为1到32位数字",
    en: "must be 1 to 32 digits"
);
field!(
    /// `sub_mch_id`: the sub-merchant's number, 1–32 digits.
    SubMchId, "sub_mch_id", |b| b.is_ascii_digit(),
    zh: "须为1到32位数字",
    en: "must be 1 to 32 digits"
);
field!(
    /// `out_trade_no`: the merchant's order number, 1–32 of `0-9 A-Z a-z _ - | * @`
    /// (WeChat Pay API v2, closeorder; CloudPay's own page loses the last three at its table's bar).
    OutTradeNo, "out_trade_no", |b| b.is_ascii_alphanumeric() || b"_-|*@".contains(&b),
    zh: "须为1到32个字符,只能是数字、大小写字母_-|*@",
    en: "must be 1 to 32 characters of 0-9 A-Z a-z _ - | * @"
);
field!(
    /// `nonce_str`: a random string, 1–32 visible ASCII characters without `&` and `=`: these separate the fields of the
    /// text that API v2 signs, and a caller must not write fields into it.
    NonceStr, "nonce_str", |b| b.is_ascii_graphic() && !b"&=".contains(&b),
    zh: "须为1到32个可见ASCII字符,不含&和=",
    en: "must be 1 to 32 visible ASCII characters, without & and ="
);
field!(
    /// `sub_appid`: the mini-program's appid, 1–32 letters and digits.
    SubAppid, "sub_appid", |b| b.is_ascii_alphanumeric(),
    zh: "须为1到32个字母或数字",
    en: "must be 1 to 32 letters and digits"
);

impl NonceStr {
    /// A new nonce from the operating system's randomness.
    ///
    /// # Panics
    /// When the operating system has no randomness to give, which no Linux that has booted lacks.
    #[must_use]
    pub(crate) fn generate() -> Self {
        // 32 letters: five bits each, so that no character is likelier than another.
        const ALPHABET: [u8; 32] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        let mut random = [0_u8; NONCE_CHARACTERS];
        #[expect(clippy::expect_used, reason = "without randomness nothing here is safe to send")]
        getrandom::fill(&mut random).expect("the operating system has randomness");
        let letters = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32)));
        Self(letters.map(|&letter| char::from(letter)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_nonce_is_a_valid_one_and_each_is_new() {
        let one = NonceStr::generate();
        assert_eq!(one.as_str().len(), NONCE_CHARACTERS);
        assert_eq!(NonceStr::parse(one.as_str().to_owned()), Ok(one.clone()));
        assert_ne!(one, NonceStr::generate());
    }

    #[test]
    fn every_field_takes_just_what_its_rule_says() {
        let of = |allowed: &str| -> Vec<bool> { (0..=255_u8).map(|b| allowed.as_bytes().contains(&b)).collect() };
        let takes = |parse: fn(String) -> bool| -> Vec<bool> {
            (0..=255_u8).map(|b| parse(char::from(b).to_string())).collect()
        };
        let letters_and_digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let visible_but_separators: String = ('!'..='~').filter(|c| !"&=".contains(*c)).collect();
        assert_eq!(takes(|v| MchId::parse(v).is_ok()), of("0123456789"));
        assert_eq!(takes(|v| SubMchId::parse(v).is_ok()), of("0123456789"));
        assert_eq!(takes(|v| OutTradeNo::parse(v).is_ok()), of(&format!("{letters_and_digits}_-|*@")));
        assert_eq!(takes(|v| NonceStr::parse(v).is_ok()), of(&visible_but_separators));
        assert_eq!(takes(|v| SubAppid::parse(v).is_ok()), of(letters_and_digits));
    }

    #[test]
    fn a_field_has_1_to_32_characters() {
        for (length, fits) in [(0, false), (1, true), (32, true), (33, false)] {
            assert_eq!(MchId::parse("1".repeat(length)).is_ok(), fits, "{length}");
            assert_eq!(SubMchId::parse("1".repeat(length)).is_ok(), fits, "{length}");
            assert_eq!(OutTradeNo::parse("1".repeat(length)).is_ok(), fits, "{length}");
            assert_eq!(NonceStr::parse("1".repeat(length)).is_ok(), fits, "{length}");
            assert_eq!(SubAppid::parse("1".repeat(length)).is_ok(), fits, "{length}");
        }
    }
}
