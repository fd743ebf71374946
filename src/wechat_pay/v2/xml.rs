//! Flat XML documents: the only kind that WeChat Pay API v2 sends and takes.
//!
//! Read through events and not into a struct, since the signature covers fields that no struct knows. A document that
//! is not plainly one flat `<xml>` is rejected as a whole: two readers that disagree about a document are how forgeries
//! pass.

use quick_xml::{
    Reader,
    escape::{partial_escape, resolve_predefined_entity},
    events::{BytesDecl, BytesRef, BytesStart, Event},
};

use crate::wechat_pay::{Fields, VerifyError};

/// The first rule that a document broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum XmlError {
    /// Not UTF-8, or declared to be something else.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not well-formed, truncated, or followed by something.
    #[error("it is not one well-formed XML document")]
    Malformed,
    /// A DOCTYPE, which no reply has and attacks need.
    #[error("it has a DOCTYPE")]
    Doctype,
    /// The root is not `<xml>`.
    #[error("its root is not <xml>")]
    Root,
    /// An element within a field, an attribute, or text between fields: the signature would not cover it.
    #[error("it is not flat")]
    Nested,
    /// A field that is there twice.
    #[error("it repeats a field")]
    Repeated,
}

/// What is not such a document is not a reply.
impl From<XmlError> for VerifyError {
    fn from(error: XmlError) -> Self {
        Self::NotAReply(error.to_string().into())
    }
}

/// Reads a document into its non-empty fields.
///
/// # Errors
/// [`XmlError`] says which rule it broke.
pub(crate) fn parse(document: &[u8]) -> Result<Fields, XmlError> {
    let document = str::from_utf8(document).map_err(|_| XmlError::NotUtf8)?;
    let mut reader = Reader::from_str(document);
    let mut fields = Fields::new();
    let mut is_first = true;
    // Before the root.
    loop {
        match reader.read_event() {
            Ok(Event::Decl(declaration)) if is_first => is_utf8(&declaration)?,
            Ok(Event::Start(tag)) if name(&tag)? == "xml" => break,
            Ok(Event::Empty(tag)) if name(&tag)? == "xml" => return end(&mut reader).map(|()| fields),
            Ok(Event::Start(_) | Event::Empty(_)) => return Err(XmlError::Root),
            Ok(event) if is_between(&event) => {}
            Ok(event) => return Err(error(&event)),
            Err(_) => return Err(XmlError::Malformed),
        }
        is_first = false;
    }
    // Within the root.
    loop {
        let (field, value) = match reader.read_event() {
            Ok(Event::Start(tag)) => (field_name(&tag)?, value(&mut reader)?),
            Ok(Event::Empty(tag)) => (field_name(&tag)?, String::new()),
            Ok(Event::End(_)) => break,
            Ok(event) if is_between(&event) => continue,
            Ok(Event::Text(_) | Event::CData(_) | Event::GeneralRef(_)) => return Err(XmlError::Nested),
            Ok(event) => return Err(error(&event)),
            Err(_) => return Err(XmlError::Malformed),
        };
        if fields.insert(field, value).is_some() {
            return Err(XmlError::Repeated);
        }
    }
    end(&mut reader)?;
    fields.retain(|_, value| !value.is_empty());
    Ok(fields)
}

/// Nothing but white space and comments follows the root.
fn end(reader: &mut Reader<&[u8]>) -> Result<(), XmlError> {
    loop {
        match reader.read_event() {
            Ok(Event::Eof) => return Ok(()),
            Ok(event) if is_between(&event) => {}
            Ok(_) | Err(_) => return Err(XmlError::Malformed),
        }
    }
}

/// White space and comments mean nothing between elements.
fn is_between(event: &Event<'_>) -> bool {
    match event {
        Event::Text(text) => text.bytes().all(|b| b" \t\r\n".contains(&b)),
        Event::Comment(_) => true,
        _ => false,
    }
}

/// Why an event stands where no document of ours has one.
fn error(event: &Event<'_>) -> XmlError {
    if matches!(event, Event::DocType(_)) { XmlError::Doctype } else { XmlError::Malformed }
}

/// The text of a field, up to its end tag. Line ends stay as they came: WeChat Pay signs the raw value.
fn value(reader: &mut Reader<&[u8]>) -> Result<String, XmlError> {
    let mut value = String::new();
    loop {
        match reader.read_event() {
            Ok(Event::CData(text)) => value.push_str(&text),
            Ok(Event::Text(text)) => value.push_str(&text),
            Ok(Event::GeneralRef(reference)) => push_reference(&mut value, &reference)?,
            Ok(Event::End(_)) => return Ok(value),
            Ok(Event::Start(_) | Event::Empty(_) | Event::Comment(_)) => return Err(XmlError::Nested),
            Ok(event) => return Err(error(&event)),
            Err(_) => return Err(XmlError::Malformed),
        }
    }
}

fn push_reference(value: &mut String, reference: &BytesRef<'_>) -> Result<(), XmlError> {
    match reference.resolve_char_ref().map_err(|_| XmlError::Malformed)? {
        Some(character) => value.push(character),
        None => value.push_str(resolve_predefined_entity(reference).ok_or(XmlError::Malformed)?),
    }
    Ok(())
}

/// Whether a text has the form of a field's name: `A-Z a-z 0-9 _`.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// The name of a tag, which has nothing else.
fn name<'a>(tag: &'a BytesStart<'_>) -> Result<&'a str, XmlError> {
    if tag.attributes_raw().trim_ascii().is_empty() { Ok(tag.name().0) } else { Err(XmlError::Nested) }
}

fn field_name(tag: &BytesStart<'_>) -> Result<String, XmlError> {
    let name = name(tag)?;
    // No XML name begins with a digit.
    if is_name(name) && !name.starts_with(|first: char| first.is_ascii_digit()) {
        Ok(name.to_owned())
    } else {
        Err(XmlError::Malformed)
    }
}

fn is_utf8(declaration: &BytesDecl<'_>) -> Result<(), XmlError> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if ["utf-8", "utf8"].iter().any(|name| encoding.eq_ignore_ascii_case(name)) => Ok(()),
        Some(_) => Err(XmlError::NotUtf8),
    }
}

/// Writes a document of fields whose names are plain.
#[must_use]
pub(crate) fn write(fields: &Fields) -> String {
    let mut document = String::with_capacity(512);
    document.push_str("<xml>");
    for (name, value) in fields {
        document.extend(["<", name, ">", &partial_escape(value.as_str()), "</", name, ">"]);
    }
    document.push_str("</xml>");
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Result<Vec<(String, String)>, XmlError> {
        super::parse(document.as_bytes()).map(|fields| fields.into_iter().collect())
    }

    #[test]
    fn flat_documents_are_read_however_they_are_written() {
        let expected = Ok(vec![("a".to_owned(), "1<&>".to_owned())]);
        for document in [
            "<xml><a>1&lt;&amp;&gt;</a><b></b></xml>",
            "<xml><b/><a><![CDATA[1<&>]]></a></xml>",
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<xml>\n  <a>1&#60;&#x26;></a>\n  <b />\n</xml>\n",
            "\u{feff}<xml ><a><![CDATA[1<]]><![CDATA[&]]>></a ><b><![CDATA[]]></b></xml><!-- end -->",
            "<!-- start --><xml><!-- middle --><a>1<![CDATA[<&]]>&gt;</a><b/></xml>",
        ] {
            assert_eq!(parse(document), expected, "{document}");
        }
    }

    #[test]
    fn white_space_between_fields_means_nothing_and_within_one_it_does() {
        assert_eq!(parse("<xml>\r\n\t<a> 1\r\n </a> </xml>"), Ok(vec![("a".to_owned(), " 1\r\n ".to_owned())]));
        assert_eq!(parse("<xml><a> </a></xml>"), Ok(vec![("a".to_owned(), " ".to_owned())]));
    }

    #[test]
    fn what_is_not_one_flat_document_is_rejected() {
        for (document, why) in [
            ("", XmlError::Malformed),
            (" ", XmlError::Malformed),
            ("SUCCESS", XmlError::Malformed),
            ("{\"return_code\":\"SUCCESS\"}", XmlError::Malformed),
            ("<html></html>", XmlError::Root),
            ("<XML><a>1</a></XML>", XmlError::Root),
            ("<return_code>SUCCESS</return_code>", XmlError::Root),
            ("<xml><a>1</a>", XmlError::Malformed),
            ("<xml><a>1", XmlError::Malformed),
            ("<xml><a>1</b></xml>", XmlError::Malformed),
            ("<xml><a>1</a></xml><xml/>", XmlError::Malformed),
            ("<xml/><a/>", XmlError::Malformed),
            ("<xml><a>1</a></xml>x", XmlError::Malformed),
            ("x<xml><a>1</a></xml>", XmlError::Malformed),
            ("</xml>", XmlError::Malformed),
            ("<xml><a><b>1</b></a></xml>", XmlError::Nested),
            ("<xml><a><b/></a></xml>", XmlError::Nested),
            ("<xml><a x=\"1\">1</a></xml>", XmlError::Nested),
            ("<xml a=\"1\"><a>1</a></xml>", XmlError::Nested),
            ("<xml>text<a>1</a></xml>", XmlError::Nested),
            ("<xml><![CDATA[ ]]><a>1</a></xml>", XmlError::Nested),
            ("<xml><a>SUC<!-- -->CESS</a></xml>", XmlError::Nested),
            ("<xml><a>1</a><a>1</a></xml>", XmlError::Repeated),
            ("<xml><a/><b>2</b><a>1</a></xml>", XmlError::Repeated),
            ("<!DOCTYPE xml><xml><a>1</a></xml>", XmlError::Doctype),
            ("<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><xml><a>&e;</a></xml>", XmlError::Doctype),
            ("<xml><!DOCTYPE a><a>1</a></xml>", XmlError::Doctype),
            ("<xml><a>&e;</a></xml>", XmlError::Malformed),
            ("<xml><a>&#x110000;</a></xml>", XmlError::Malformed),
            ("<xml><a>1 & 2</a></xml>", XmlError::Malformed),
            ("<xml><?php 1 ?><a>1</a></xml>", XmlError::Malformed),
            ("<xml><?xml version=\"1.0\"?></xml>", XmlError::Malformed),
            ("\n<?xml version=\"1.0\"?><xml/>", XmlError::Malformed),
            ("<!-- --><?xml version=\"1.0\"?><xml/>", XmlError::Malformed),
            ("\u{feff}\u{feff}<xml/>", XmlError::Malformed),
            ("<?xml version=\"1.0\" encoding=\"GBK\"?><xml/>", XmlError::NotUtf8),
            ("<xml><1a>1</1a></xml>", XmlError::Malformed),
            ("<xml><>1</></xml>", XmlError::Malformed),
            ("<xml></xml><>", XmlError::Malformed),
            ("<xml><a-b>1</a-b></xml>", XmlError::Malformed),
            ("<xml><a.b>1</a.b></xml>", XmlError::Malformed),
            ("<xml><a=1&b>1</a=1&b></xml>", XmlError::Malformed),
            ("<xml><名>1</名></xml>", XmlError::Malformed),
        ] {
            assert_eq!(parse(document), Err(why), "{document}");
        }
        assert_eq!(super::parse(b"<xml><a>\xd6\xd0</a></xml>").err(), Some(XmlError::NotUtf8));
    }

    #[test]
    fn what_is_written_reads_back() {
        let fields = [("a", "<&>\"']]>"), ("b", "订单"), ("c", "1|*@_-"), ("d", "one\rtwo")];
        let fields: Fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(super::parse(write(&fields).as_bytes()), Ok(fields));
    }
}
