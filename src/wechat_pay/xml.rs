//! Flat XML documents: the only kind that WeChat Pay API v2 sends and takes.
//!
//! Read through events and not into a struct, since the sign covers fields that no struct knows. What is not plainly
//! one flat `<xml>` document is refused whole: two readers that disagree about a document are how forgeries pass.

use quick_xml::{
    Reader,
    escape::{partial_escape, resolve_predefined_entity},
    events::{BytesDecl, BytesRef, BytesStart, Event},
};

/// The largest reply that is read: 64 KiB; real ones are below 1 KiB.
pub const MAX_BYTES: usize = 64 * 1024;

/// The fields of a document that aren't empty, in the byte order of their names, each name once.
#[derive(Clone)]
pub struct Fields {
    /// Names and values, one after another: one allocation for all of them.
    text: String,
    places: Vec<Place>,
    has_capitals: bool,
}

/// Where in the text a field is: its name from `start` to `value`, its value from there to `end`.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    value: usize,
    end: usize,
}

/// The first rule that a document broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFlat {
    /// More than [`MAX_BYTES`].
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

impl Fields {
    /// Reads a document.
    ///
    /// # Errors
    /// [`NotFlat`] says which rule it broke.
    pub fn parse(document: &[u8]) -> Result<Self, NotFlat> {
        if document.len() > MAX_BYTES {
            return Err(NotFlat::TooLarge);
        }
        let document = str::from_utf8(document).map_err(|_| NotFlat::NotUtf8)?;
        let mut fields =
            Self { text: String::with_capacity(document.len()), places: Vec::with_capacity(16), has_capitals: false };
        fields.read(document)?;
        let Self { text, places, .. } = &mut fields;
        let name = |place: &Place| text.as_bytes().get(place.start..place.value);
        places.sort_unstable_by(|one, other| name(one).cmp(&name(other)));
        if places.windows(2).any(|pair| matches!(pair, [one, other] if name(one) == name(other))) {
            return Err(NotFlat::Repeated);
        }
        places.retain(|place| place.value < place.end);
        Ok(fields)
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let is_it = |place: &&Place| place.value - place.start == name.len() && place.name(&self.text) == name;
        self.places.iter().find(is_it).map(|place| place.value(&self.text))
    }

    /// The fields in the byte order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.places.iter().map(|place| (place.name(&self.text), place.value(&self.text)))
    }

    /// Whether a name has capital letters, which none of WeChat Pay's is known to have.
    #[must_use]
    pub fn has_capitals(&self) -> bool {
        self.has_capitals
    }

    /// Forgets the fields whose name is not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&str) -> bool) {
        self.places.retain(|place| is_kept(place.name(&self.text)));
    }

    fn read(&mut self, document: &str) -> Result<(), NotFlat> {
        let mut reader = Reader::from_str(document);
        // White space means nothing between elements, and everything within a field.
        reader.config_mut().trim_text_start = true;
        // Even white space before a declaration makes a document malformed.
        let mut is_first = !document.trim_start_matches('\u{feff}').starts_with(char::is_whitespace);
        loop {
            match reader.read_event() {
                Ok(Event::Decl(declaration)) if is_first => is_utf8(&declaration)?,
                Ok(Event::Comment(_)) => {}
                Ok(Event::Start(tag)) if name(&tag)? == "xml" => break,
                Ok(Event::Empty(tag)) if name(&tag)? == "xml" => return end(&mut reader),
                Ok(Event::Start(_) | Event::Empty(_)) => return Err(NotFlat::Root),
                Ok(Event::DocType(_)) => return Err(NotFlat::Doctype),
                Ok(_) | Err(_) => return Err(NotFlat::Malformed),
            }
            is_first = false;
        }
        loop {
            match reader.read_event() {
                Ok(Event::Start(tag)) => {
                    let (start, value) = self.read_name(&tag)?;
                    reader.config_mut().trim_text_start = false;
                    self.read_value(&mut reader)?;
                    reader.config_mut().trim_text_start = true;
                    self.places.push(Place { start, value, end: self.text.len() });
                }
                Ok(Event::Empty(tag)) => {
                    let (start, value) = self.read_name(&tag)?;
                    self.places.push(Place { start, value, end: value });
                }
                Ok(Event::End(_)) => return end(&mut reader),
                Ok(Event::Comment(_)) => {}
                Ok(Event::Text(_) | Event::CData(_) | Event::GeneralRef(_)) => return Err(NotFlat::Nested),
                Ok(Event::DocType(_)) => return Err(NotFlat::Doctype),
                Ok(_) | Err(_) => return Err(NotFlat::Malformed),
            }
        }
    }

    /// Takes a field's name, and says where it starts and ends.
    fn read_name(&mut self, tag: &BytesStart<'_>) -> Result<(usize, usize), NotFlat> {
        let (name, start) = (name(tag)?, self.text.len());
        // Every name known is made of these; whatever else is allowed takes longer to tell.
        let is_plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if !is_plain {
            let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
            if !is_name {
                return Err(NotFlat::Malformed);
            }
            self.has_capitals |= name.bytes().any(|b| b.is_ascii_uppercase());
        }
        self.text.push_str(name);
        Ok((start, self.text.len()))
    }

    /// Takes the text of a field, up to its end tag. Line ends stay as they came: WeChat Pay signs the raw value.
    fn read_value(&mut self, reader: &mut Reader<&[u8]>) -> Result<(), NotFlat> {
        loop {
            match reader.read_event() {
                Ok(Event::CData(text)) => self.text.push_str(&text),
                Ok(Event::Text(text)) => self.text.push_str(&text),
                Ok(Event::GeneralRef(reference)) => self.read_reference(&reference)?,
                Ok(Event::End(_)) => return Ok(()),
                Ok(Event::Start(_) | Event::Empty(_) | Event::Comment(_)) => return Err(NotFlat::Nested),
                Ok(Event::DocType(_)) => return Err(NotFlat::Doctype),
                Ok(_) | Err(_) => return Err(NotFlat::Malformed),
            }
        }
    }

    fn read_reference(&mut self, reference: &BytesRef<'_>) -> Result<(), NotFlat> {
        match reference.resolve_char_ref().map_err(|_| NotFlat::Malformed)? {
            Some(character) => self.text.push(character),
            None => self.text.push_str(resolve_predefined_entity(reference).ok_or(NotFlat::Malformed)?),
        }
        Ok(())
    }
}

impl Place {
    fn name<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.start..self.value).unwrap_or_default()
    }

    fn value<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.value..self.end).unwrap_or_default()
    }
}

/// The name of a tag, which has nothing else.
fn name<'a>(tag: &'a BytesStart<'_>) -> Result<&'a str, NotFlat> {
    if tag.attributes_raw().trim_ascii().is_empty() { Ok(tag.name().0) } else { Err(NotFlat::Nested) }
}

/// Nothing of weight follows the root.
fn end(reader: &mut Reader<&[u8]>) -> Result<(), NotFlat> {
    loop {
        match reader.read_event() {
            Ok(Event::Comment(_)) => {}
            Ok(Event::Eof) => return Ok(()),
            Ok(_) | Err(_) => return Err(NotFlat::Malformed),
        }
    }
}

fn is_utf8(declaration: &BytesDecl<'_>) -> Result<(), NotFlat> {
    match declaration.encoding() {
        None => Ok(()),
        Some(Ok(encoding)) if ["utf-8", "utf8"].iter().any(|name| encoding.eq_ignore_ascii_case(name)) => Ok(()),
        Some(_) => Err(NotFlat::NotUtf8),
    }
}

/// Writes a document of fields whose names are plain.
#[must_use]
pub fn write<'a>(fields: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut document = String::with_capacity(512);
    document.push_str("<xml>");
    for (name, value) in fields {
        // Looked at as a whole, since hardly any value needs it.
        let needs_escape = value.bytes().fold(false, |found, b| found | matches!(b, b'<' | b'>' | b'&'));
        let value = if needs_escape { partial_escape(value) } else { value.into() };
        for part in ["<", name, ">", &value, "</", name, ">"] {
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
        Fields::parse(document.as_bytes()).map(|fields| {
            fields
                .places
                .iter()
                .map(|it| [it.name(&fields.text), it.value(&fields.text)].map(str::to_owned).into())
                .collect()
        })
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
            ("\n<?xml version=\"1.0\"?><xml/>", NotFlat::Malformed),
            ("<!-- --><?xml version=\"1.0\"?><xml/>", NotFlat::Malformed),
            ("\u{feff}\u{feff}<xml/>", NotFlat::Malformed),
            ("<?xml version=\"1.0\" encoding=\"GBK\"?><xml/>", NotFlat::NotUtf8),
            ("<xml><1a>1</1a></xml>", NotFlat::Malformed),
            ("<xml><>1</></xml>", NotFlat::Malformed),
            ("<xml></xml><>", NotFlat::Malformed),
            ("<xml><a=1&b>1</a=1&b></xml>", NotFlat::Malformed),
            ("<xml><名>1</名></xml>", NotFlat::Malformed),
        ] {
            assert_eq!(parse(document), Err(why), "{document}");
        }
        assert_eq!(Fields::parse(b"<xml><a>\xd6\xd0</a></xml>").err(), Some(NotFlat::NotUtf8));
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
