//! A map that keeps the entries used last.

use std::collections::HashMap;

/// How many entries there are at most.
pub(super) const LIMIT: usize = 1000;

/// At most [`LIMIT`] values, those used last.
#[derive(Debug)]
pub(super) struct Recent<T> {
    /// Each with the number of its last use.
    entries: HashMap<String, (u64, T)>,
    uses: u64,
}

impl<T> Recent<T> {
    pub(super) fn new() -> Self {
        Self { entries: HashMap::new(), uses: 0 }
    }

    /// A value, which counts as a use of it.
    pub(super) fn get(&mut self, key: &str) -> Option<&T> {
        self.uses += 1;
        let (used, value) = self.entries.get_mut(key)?;
        *used = self.uses;
        Some(value)
    }

    /// Adds or replaces a value, in place of the one that was not used for longest if there are too many.
    pub(super) fn insert(&mut self, key: &str, value: T) {
        self.uses += 1;
        self.entries.insert(key.to_owned(), (self.uses, value));
        if self.entries.len() > LIMIT {
            let oldest = self.entries.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| key.clone());
            oldest.and_then(|key| self.entries.remove(&key));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn remove(&mut self, key: &str) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_value_that_was_not_used_for_longest_makes_room() {
        let mut recent = Recent::new();
        for number in 0..LIMIT {
            recent.insert(&number.to_string(), number);
        }
        assert_eq!(recent.get("0"), Some(&0));
        recent.insert("new", LIMIT);
        assert_eq!(recent.len(), LIMIT);
        assert_eq!(recent.get("0"), Some(&0));
        assert_eq!(recent.get("1"), None, "it was used longest ago");
        recent.insert("2", 7);
        assert_eq!(recent.get("2"), Some(&7));
        assert_eq!(recent.get("3"), Some(&3), "what is replaced displaces nothing");
        recent.remove("2");
        assert_eq!(recent.get("2"), None);
    }
}
