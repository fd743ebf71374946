//! Which secret a merchant's key is in.

/// What stands in a secret's name for the merchant's number.
const PLACEHOLDER: &str = "{mch_id}";

/// Name or ARN of the secret: of the one that there is, or of one for each merchant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretId {
    /// One merchant's.
    One(String),
    /// What every merchant's begins with; the rest is the merchant's `mch_id`.
    PerMerchant(String),
}

/// Why a text is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has a {{ or }} other than in {{mch_id}} at its end, once, after a name that ends in / or -")]
pub struct InvalidSecretId;

impl SecretId {
    /// Takes a name or an ARN, with `{mch_id}` at its end where there are several merchants.
    ///
    /// # Errors
    /// [`InvalidSecretId`] when it has braces that mean something else: a name with them is a mistyped placeholder, and
    /// without a name before it a placeholder would stand for every secret of the account.
    pub fn parse(text: String) -> Result<Self, InvalidSecretId> {
        let has_braces = |text: &str| text.contains(['{', '}']);
        if !has_braces(&text) {
            return Ok(Self::One(text));
        }
        let prefix = text.strip_suffix(PLACEHOLDER).ok_or(InvalidSecretId)?;
        let name = prefix.strip_suffix(['/', '-']).ok_or(InvalidSecretId)?;
        if has_braces(prefix) || name.is_empty() || name.ends_with(':') {
            return Err(InvalidSecretId);
        }
        Ok(Self::PerMerchant(prefix.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_stands_once_at_the_end_of_a_name() {
        let arn = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:";
        for name in ["wechat-pay", "wechat-pay/close-order", "mch_id", &format!("{arn}wechat-pay-AbCdEf")] {
            assert_eq!(SecretId::parse(name.to_owned()), Ok(SecretId::One(name.to_owned())));
        }
        for prefix in ["wechat-pay/", "wechat-pay-", "a/b/", &format!("{arn}wechat-pay/")] {
            let parsed = SecretId::parse(format!("{prefix}{{mch_id}}"));
            assert_eq!(parsed, Ok(SecretId::PerMerchant(prefix.to_owned())));
        }
        for wrong in [
            "{mch_id}",
            "/{mch_id}",
            "-{mch_id}",
            &format!("{arn}{{mch_id}}"),
            &format!("{arn}/{{mch_id}}"),
            "wechat-pay{mch_id}",
            "wechat-pay/{mch_id}/key",
            "wechat-pay/{mch_id}-{mch_id}",
            "{mch_id}/{mch_id}",
            "wechat-pay/{mchId}",
            "wechat-pay/{MCH_ID}",
            "wechat-pay/{mch_id",
            "wechat-pay/mch_id}",
            "wechat-pay/{{mch_id}}",
            "wechat-pay/{}",
        ] {
            assert_eq!(SecretId::parse(wrong.to_owned()), Err(InvalidSecretId), "{wrong}");
        }
    }
}
