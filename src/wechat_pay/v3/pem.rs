//! PEM as it comes out of a secret: with line feeds, CR LF, the two characters `\n`, or blanks in place of line feeds (which
//! the console's key/value editor makes of them).

use rustls::pki_types::pem::{PemObject, SectionKind};
use zeroize::Zeroizing;

/// What a text holds.
pub(super) enum Pem {
    /// The first section of a kind that is known.
    Section(SectionKind, Zeroizing<Vec<u8>>),
    /// A private key behind a passphrase.
    Encrypted,
    /// No PEM, or one that is cut.
    Invalid,
}

impl Pem {
    pub(super) fn read(text: &str) -> Self {
        // PKCS#8 says so in its first line, OpenSSL's own form of PKCS#1 in its second.
        if text.contains("-----BEGIN ENCRYPTED ") || text.contains("Proc-Type: 4,ENCRYPTED") {
            return Self::Encrypted;
        }
        let lines = with_line_feeds(text);
        match <(SectionKind, Vec<u8>)>::from_pem_slice(lines.as_bytes()) {
            Ok((kind, der)) => Self::Section(kind, Zeroizing::new(der)),
            Err(_) => Self::Invalid,
        }
    }
}

/// The text with a line for each boundary, and line feeds for whatever stands in their place.
fn with_line_feeds(text: &str) -> Zeroizing<String> {
    // As much as it can come to, so that no copy is left behind by growing.
    let mut lines = Zeroizing::new(String::with_capacity(text.len() * 2));
    let mut rest = text;
    while let Some(start) = rest.find("-----") {
        let (body, boundary) = rest.split_at(start);
        let end = boundary.get(5..).and_then(|label| label.find("-----")).map_or(boundary.len(), |end| end + 10);
        let (boundary, behind) = boundary.split_at(end);
        push_body(&mut lines, body);
        // The same structure in another wrapper; both are read.
        let name = boundary.replace("RSA PUBLIC KEY", "PUBLIC KEY");
        lines.extend(["\n", &name, "\n"]);
        rest = behind;
    }
    push_body(&mut lines, rest);
    lines
}

fn push_body(lines: &mut String, body: &str) {
    let mut characters = body.chars().peekable();
    while let Some(character) = characters.next() {
        let is_escape = character == '\\' && characters.next_if(|next| matches!(next, 'n' | 'r')).is_some();
        lines.push(if is_escape || character.is_whitespace() { '\n' } else { character });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wechat_pay::v3::vectors::{der, private_pem};

    #[test]
    fn pem_is_read_however_its_lines_were_kept() {
        let pem = private_pem();
        let expected = der("merchant_private_pkcs8_b64");
        for text in [
            pem.clone(),
            pem.trim_end().to_owned(),
            pem.replace('\n', "\r\n"),
            pem.replace('\n', "\r"),
            pem.replace('\n', "\\n"),
            pem.replace('\n', "\\r\\n"),
            pem.replace('\n', " "),
            pem.replace('\n', "\t"),
            pem.replace('\n', "\u{a0}"),
            pem.replace('\n', ""),
            pem.replace('\n', "\n\n"),
            pem.replace('\n', "  \n  "),
            format!(" \n\t{pem}\r\n "),
            format!("\\n{pem}\\n"),
            format!("Bag Attributes\n    friendlyName: Tenpay\n{pem}"),
        ] {
            let Pem::Section(kind, der) = Pem::read(&text) else { panic!("{text}") };
            assert_eq!(kind, SectionKind::PrivateKey, "{text}");
            assert_eq!(*der, expected, "{text}");
        }
    }

    #[test]
    fn what_is_cut_or_has_other_characters_is_invalid() {
        let pem = private_pem();
        let (begin, end) = ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----");
        for text in [
            "",
            begin,
            "-----",
            "----------",
            "-----BEGIN PRIVATE KEY",
            &pem.replace(begin, ""),
            &pem.replace(end, ""),
            &pem.replace(begin, "").replace(end, ""),
            &pem.replace(end, "-----END PUBLIC KEY-----"),
            &pem.replace("PRIVATE KEY", "OPENSSH PRIVATE KEY"),
            &pem.replace("MII", "M\\II"),
            &pem.replace("MII", "密"),
        ] {
            assert!(matches!(Pem::read(text), Pem::Invalid), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_odd_to_be_read(
            parts in proptest::collection::vec(
                prop_oneof![
                    "(?s).{0,8}",
                    Just("-----BEGIN PRIVATE KEY-----".to_owned()),
                    Just("-----END PRIVATE KEY-----".to_owned()),
                    Just("-----BEGIN ".to_owned()),
                    Just("-----".to_owned()),
                    Just("\\n".to_owned()),
                    Just("AAAA".to_owned()),
                ],
                0..8,
            ),
        ) {
            let text = parts.concat();
            Pem::read(&text);
            prop_assert!(with_line_feeds(&text).len() <= text.len() * 2);
        }
    }
}
