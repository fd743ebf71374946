//! As much of DER (X.690) as a public key needs. Any bytes may come: what does not fit is `None`.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// What is left to read.
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(der: &'a [u8]) -> Self {
        Self(der)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The contents of the next element, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (header, rest) = self.0.split_first_chunk::<2>()?;
        let [found, length] = *header;
        let (length, rest) = match length {
            0..=0x7f => (usize::from(length), rest),
            0x81 => rest.split_first().map(|(length, rest)| (usize::from(*length), rest))?,
            0x82 => rest.split_first_chunk().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest))?,
            // No key has 64 KiB.
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length).filter(|_| found == tag)?;
        self.0 = rest;
        Some(contents)
    }

    /// The next integer, which is greater than zero, without its leading zeros.
    pub(super) fn take_positive(&mut self) -> Option<&'a [u8]> {
        let number = self.take(INTEGER)?;
        let is_negative = number.first().is_some_and(|first| *first >= 0x80);
        let first = number.iter().position(|byte| *byte != 0)?;
        number.get(first..).filter(|_| !is_negative)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_its_tag_and_all_of_its_length() {
        let long = |length: usize| {
            [&[0x02, 0x82][..], &u16::try_from(length).unwrap().to_be_bytes(), &vec![7; length]].concat()
        };
        for (der, expected) in [
            (vec![0x02, 0x01, 0x05], Some(1)),
            (vec![0x02, 0x00], Some(0)),
            (vec![0x02, 0x81, 0x01, 0x05], Some(1)),
            (long(300), Some(300)),
            (vec![0x03, 0x01, 0x05], None),
            (vec![0x02, 0x02, 0x05], None),
            (vec![0x02, 0x80, 0x05, 0x00, 0x00], None),
            (vec![0x02, 0x83, 0x00, 0x00, 0x01, 0x05], None),
            (vec![0x02, 0x82, 0x01], None),
            (vec![0x02], None),
            (vec![], None),
        ] {
            assert_eq!(Der::new(&der).take(INTEGER).map(<[u8]>::len), expected, "{der:02x?}");
        }
    }

    #[test]
    fn elements_are_read_one_after_the_other() {
        let mut der = Der::new(&[0x02, 0x01, 0x05, 0x30, 0x00]);
        assert_eq!(der.take(SEQUENCE), None, "another tag leaves it unread");
        assert_eq!((der.take(INTEGER), der.take(SEQUENCE)), (Some(&[5][..]), Some(&[][..])));
        assert!(der.is_empty());
    }

    #[test]
    fn a_positive_integer_is_its_digits() {
        for (der, expected) in [
            (&[0x02, 0x01, 0x05][..], Some(&[5][..])),
            (&[0x02, 0x02, 0x00, 0x85], Some(&[0x85])),
            (&[0x02, 0x01, 0x85], None),
            (&[0x02, 0x01, 0x00], None),
            (&[0x02, 0x00], None),
        ] {
            assert_eq!(Der::new(der).take_positive(), expected, "{der:02x?}");
        }
    }
}
