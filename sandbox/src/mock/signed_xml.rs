//! WeChat Pay's signed XML: documents as the gateway writes and reads them, and the signatures in them. Written for the
//! mock and not shared with the function, so that a mistake in one is not cancelled by the same mistake in the other.

use std::{collections::BTreeMap, fmt::Write};

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use sha2::Sha256;

/// The fields of a document, by name.
pub type Fields = BTreeMap<String, String>;

/// Signs the non-empty fields but `sign` with `key`; `sign_type` is WeChat Pay's own name of the algorithm, and all but
/// `HMAC-SHA256` is MD5.
#[must_use]
pub fn sign(fields: &Fields, key: &str, sign_type: &str) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        if name != "sign" && !value.is_empty() {
            let _ = write!(text, "{name}={value}&");
        }
    }
    let _ = write!(text, "key={key}");
    if sign_type == "HMAC-SHA256" {
        let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).map(|mac| mac.chain_update(&text).finalize());
        mac.map(|mac| hex::encode_upper(mac.into_bytes())).unwrap_or_default()
    } else {
        hex::encode_upper(Md5::digest(&text))
    }
}

/// Writes a document as WeChat Pay does, with every value in CDATA.
#[must_use]
pub fn xml(fields: &Fields) -> String {
    let elements = fields.iter().map(|(name, value)| {
        let value = value.replace("]]>", "]]]]><![CDATA[>");
        format!("<{name}><![CDATA[{value}]]></{name}>\n")
    });
    format!("<xml>{}</xml>", elements.collect::<String>())
}

/// Reads a flat document; `None` if it is none.
#[must_use]
pub fn read_xml(document: &str) -> Option<Fields> {
    let document = roxmltree::Document::parse(document).ok()?;
    let root = document.root_element();
    let mut fields = Fields::new();
    for element in root.children().filter(roxmltree::Node::is_element) {
        if element.children().any(|child| child.is_element()) {
            return None;
        }
        let text = element.children().filter_map(|child| child.text()).collect();
        if fields.insert(element.tag_name().name().to_owned(), text).is_some() {
            return None;
        }
    }
    (root.tag_name().name() == "xml").then_some(fields)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_vector_signs_as_published() {
        let vectors: Vec<Value> = serde_json::from_str(include_str!("../../../tests/vectors.json")).unwrap();
        for vector in vectors {
            let fields: Fields = serde_json::from_value(vector["params"].clone()).unwrap();
            let published = ["MD5", "HMAC-SHA256"].into_iter().filter(|sign_type| vector.get(sign_type).is_some());
            for sign_type in published {
                let key = vector["key"].as_str().unwrap();
                assert_eq!(sign(&fields, key, sign_type), vector[sign_type], "{} {sign_type}", vector["name"]);
            }
        }
    }

    #[test]
    fn what_is_written_reads_back_and_what_is_not_flat_does_not() {
        let fields = Fields::from([("a".into(), "<&>]]>".into()), ("b".into(), String::new())]);
        assert_eq!(read_xml(&xml(&fields)), Some(fields));
        for document in ["", "<xml><a><b/></a></xml>", "<xml><a/><a/></xml>", "<html/>", "<xml>"] {
            assert_eq!(read_xml(document), None, "{document}");
        }
    }
}
