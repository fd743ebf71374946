//! Flat XML documents: the only kind that WeChat Pay API v2 sends and takes.
//!
//! Read through events and not into a struct, since the sign covers fields that no struct knows. What is not plainly
//! one flat `<xml>` document is refused whole: two readers that disagree about a document are how forgeries pass.

use std::borrow::Cow;

use quick_xml::{
    Reader,
    escape::{escape, resolve_predefined_entity},
    events::{BytesDecl, BytesStart, Event},
};

/// The largest reply that is read: 64 KiB; real ones are below 1 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// The fields of a document in the byte order of their names, each name once.
#[derive(Debug, PartialEq, Eq)]
pub struct Fields<'a>(Vec<(&'a str, Cow<'a, str>)>);

/// The first rule that a document broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFlat {
    /// More than [`MAX_BYTES`](super::MAX_BYTES).
    #[error("it has more than 64 KiB")]
    TooLarge,
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
    /// An element within a field, an attribute, or text between fields: the sign would not cover it.
    #[error("it is not flat")]
    Nested,
    /// A field that is there twice.
    #[error("it repeats a field")]
    Repeated,
}

impl<'a> Fields<'a> {
    /// Reads a document.
    ///
    /// # Errors
    /// [`NotFlat`] says which rule it broke.
    pub fn parse(document: &'a [u8]) -> Result<Self, NotFlat> {
        if document.len() > MAX_BYTES {
            return Err(NotFlat::TooLarge);
        }
        let document = str::from_utf8(document).map_err(|_| NotFlat::NotUtf8)?;
        let document = document.strip_prefix('\u{feff}').unwrap_or(document);
        let mut fields = Vec::with_capacity(16);
        read(document, &mut fields)?;
        fields.sort_unstable_by_key(|&(name, _)| name);
        if fields.windows(2).any(|pair| matches!(pair, [(one, _), (other, _)] if one == other)) {
            return Err(NotFlat::Repeated);
        }
        Ok(Self(fields))
    }

    /// The value of a field that is there and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let place = self.0.binary_search_by_key(&name, |&(name, _)| name).ok()?;
        self.0.get(place).map(|(_, value)| value.as_ref()).filter(|value| !value.is_empty())
    }

    /// The fields that aren't empty, in the byte order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (*name, value.as_ref())).filter(|(_, value)| !value.is_empty())
    }
}

fn read<'a>(document: &'a str, fields: &mut Vec<(&'a str, Cow<'a, str>)>) -> Result<(), NotFlat> {
    let mut events = Events { document, reader: Reader::from_str(document) };
    let mut is_first = true;
    loop {
        match events.next()? {
            Item::Declaration if is_first => {}
            Item::Space(_) | Item::Comment => {}
            Item::Start("xml") => break,
            Item::Empty("xml") => return events.end(),
            Item::Start(_) | Item::Empty(_) => return Err(NotFlat::Root),
            Item::Declaration | Item::Text(_) | Item::End | Item::Eof => return Err(NotFlat::Malformed),
        }
        is_first = false;
    }
    loop {
        match events.next()? {
            Item::Start(name) => fields.push((name, events.value()?)),
            Item::Empty(name) => fields.push((name, Cow::Borrowed(""))),
            Item::Space(_) | Item::Comment => {}
            Item::End => return events.end(),
            Item::Text(_) => return Err(NotFlat::Nested),
            Item::Declaration | Item::Eof => return Err(NotFlat::Malformed),
        }
    }
}

/// What a document is made of, as far as it matters here.
enum Item<'a> {
    Declaration,
    /// White space, of no meaning between elements.
    Space(Cow<'a, str>),
    Comment,
    Start(&'a str),
    Empty(&'a str),
    Text(Cow<'a, str>),
    End,
    Eof,
}

struct Events<'a> {
    document: &'a str,
    reader: Reader<&'a [u8]>,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Item<'a>, NotFlat> {
        let position = self.reader.buffer_position();
        match self.reader.read_event().map_err(|_| NotFlat::Malformed)? {
            Event::Start(tag) => self.name(position, &tag).map(Item::Start),
            Event::Empty(tag) => self.name(position, &tag).map(Item::Empty),
            Event::End(_) => Ok(Item::End),
            Event::Text(text) => {
                let text = text.into_inner();
                let is_space = text.bytes().all(|b| b" \t\r\n".contains(&b));
                Ok(if is_space { Item::Space(text) } else { Item::Text(text) })
            }
            Event::CData(data) => Ok(Item::Text(data.into_inner())),
            Event::GeneralRef(reference) => {
                let character = reference.resolve_char_ref().map_err(|_| NotFlat::Malformed)?;
                let text = match character {
                    Some(character) => Cow::Owned(character.to_string()),
                    None => resolve_predefined_entity(&reference).map(Cow::Borrowed).ok_or(NotFlat::Malformed)?,
                };
                Ok(Item::Text(text))
            }
            Event::Comment(_) => Ok(Item::Comment),
            Event::Decl(declaration) if is_utf8(&declaration) => Ok(Item::Declaration),
            Event::Decl(_) => Err(NotFlat::NotUtf8),
            Event::DocType(_) => Err(NotFlat::Doctype),
            Event::PI(_) => Err(NotFlat::Malformed),
            Event::Eof => Ok(Item::Eof),
        }
    }

    /// The name of the tag that began at `position`, borrowed from the document.
    fn name(&self, position: u64, tag: &BytesStart<'_>) -> Result<&'a str, NotFlat> {
        if !tag.attributes_raw().trim_ascii().is_empty() {
            return Err(NotFlat::Nested);
        }
        let start = usize::try_from(position).map_err(|_| NotFlat::Malformed)? + "<".len();
        let name = self.document.get(start..start + tag.name().0.len()).ok_or(NotFlat::Malformed)?;
        let mut letters = name.bytes();
        let is_name = letters.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
            && letters.all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if is_name { Ok(name) } else { Err(NotFlat::Malformed) }
    }

    /// The text of a field, up to its end tag. Line ends stay as they came: WeChat Pay signs the raw value.
    fn value(&mut self) -> Result<Cow<'a, str>, NotFlat> {
        let mut value = Cow::Borrowed("");
        loop {
            match self.next()? {
                Item::Space(text) | Item::Text(text) if value.is_empty() => value = text,
                Item::Space(text) | Item::Text(text) => value.to_mut().push_str(&text),
                Item::End => return Ok(value),
                Item::Start(_) | Item::Empty(_) | Item::Comment => return Err(NotFlat::Nested),
                Item::Declaration | Item::Eof => return Err(NotFlat::Malformed),
            }
        }
    }

    /// Nothing of weight follows the root.
    fn end(&mut self) -> Result<(), NotFlat> {
        loop {
            match self.next()? {
                Item::Space(_) | Item::Comment => {}
                Item::Eof => return Ok(()),
                _ => return Err(NotFlat::Malformed),
            }
        }
    }
}

fn is_utf8(declaration: &BytesDecl<'_>) -> bool {
    match declaration.encoding() {
        None => true,
        Some(Ok(encoding)) => encoding.eq_ignore_ascii_case("utf-8") || encoding.eq_ignore_ascii_case("utf8"),
        Some(Err(_)) => false,
    }
}

/// Writes a document of fields whose names are plain.
#[must_use]
pub fn write<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut document = String::with_capacity(512);
    document.push_str("<xml>");
    for (name, value) in fields {
        for part in ["<", name, ">", &escape(value), "</", name, ">"] {
            document.push_str(part);
        }
    }
    document.push_str("</xml>");
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(document: &str) -> Result<Vec<(String, String)>, NotFlat> {
        Fields::parse(document.as_bytes())
            .map(|fields| fields.0.into_iter().map(|(name, value)| (name.to_owned(), value.into_owned())).collect())
    }

    #[test]
    fn flat_documents_are_read_however_they_are_written() {
        let expected = Ok(vec![("a".to_owned(), "1<&>".to_owned()), ("b".to_owned(), String::new())]);
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
    fn what_is_not_one_flat_document_is_refused() {
        for (document, why) in [
            ("", NotFlat::Malformed),
            (" ", NotFlat::Malformed),
            ("SUCCESS", NotFlat::Malformed),
            ("{\"return_code\":\"SUCCESS\"}", NotFlat::Malformed),
            ("<html></html>", NotFlat::Root),
            ("<XML><a>1</a></XML>", NotFlat::Root),
            ("<return_code>SUCCESS</return_code>", NotFlat::Root),
            ("<xml><a>1</a>", NotFlat::Malformed),
            ("<xml><a>1", NotFlat::Malformed),
            ("<xml><a>1</b></xml>", NotFlat::Malformed),
            ("<xml><a>1</a></xml><xml/>", NotFlat::Malformed),
            ("<xml/><a/>", NotFlat::Malformed),
            ("<xml><a>1</a></xml>x", NotFlat::Malformed),
            ("x<xml><a>1</a></xml>", NotFlat::Malformed),
            ("</xml>", NotFlat::Malformed),
            ("<xml><a><b>1</b></a></xml>", NotFlat::Nested),
            ("<xml><a><b/></a></xml>", NotFlat::Nested),
            ("<xml><a x=\"1\">1</a></xml>", NotFlat::Nested),
            ("<xml a=\"1\"><a>1</a></xml>", NotFlat::Nested),
            ("<xml>text<a>1</a></xml>", NotFlat::Nested),
            ("<xml><![CDATA[ ]]><a>1</a></xml>", NotFlat::Nested),
            ("<xml><a>SUC<!-- -->CESS</a></xml>", NotFlat::Nested),
            ("<xml><a>1</a><a>1</a></xml>", NotFlat::Repeated),
            ("<xml><a/><b>2</b><a>1</a></xml>", NotFlat::Repeated),
            ("<!DOCTYPE xml><xml><a>1</a></xml>", NotFlat::Doctype),
            ("<!DOCTYPE xml [<!ENTITY e SYSTEM \"file:///etc/passwd\">]><xml><a>&e;</a></xml>", NotFlat::Doctype),
            ("<xml><!DOCTYPE a><a>1</a></xml>", NotFlat::Doctype),
            ("<xml><a>&e;</a></xml>", NotFlat::Malformed),
            ("<xml><a>&#x110000;</a></xml>", NotFlat::Malformed),
            ("<xml><a>1 & 2</a></xml>", NotFlat::Malformed),
            ("<xml><?php 1 ?><a>1</a></xml>", NotFlat::Malformed),
            ("<xml><?xml version=\"1.0\"?></xml>", NotFlat::Malformed),
            ("<?xml version=\"1.0\" encoding=\"GBK\"?><xml/>", NotFlat::NotUtf8),
            ("<xml><1a>1</1a></xml>", NotFlat::Malformed),
            ("<xml><名>1</名></xml>", NotFlat::Malformed),
        ] {
            assert_eq!(parse(document), Err(why), "{document}");
        }
        assert_eq!(Fields::parse(b"<xml><a>\xd6\xd0</a></xml>"), Err(NotFlat::NotUtf8));
    }

    #[test]
    fn a_document_has_64_kib_at_most() {
        let of = |bytes: usize| format!("<xml><a>{}</a></xml>", "x".repeat(bytes - "<xml><a></a></xml>".len()));
        assert!(parse(&of(MAX_BYTES)).is_ok());
        assert_eq!(parse(&of(MAX_BYTES + 1)), Err(NotFlat::TooLarge));
    }

    #[test]
    fn what_is_written_reads_back() {
        let fields = [("a", "<&>\"']]>"), ("b", "订单"), ("c", "1|*@_-")];
        let document = write(fields.into_iter());
        let read = Fields::parse(document.as_bytes()).unwrap();
        assert_eq!(read.iter().collect::<Vec<_>>(), fields);
        assert_eq!((read.get("b"), read.get("d")), (Some("订单"), None));
    }
}
