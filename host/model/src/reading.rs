//! How far a reader of a message that is being written is: what it has is not given to it twice, however the pieces come.

/// A place within a message: block, and bytes of that block.
pub type Place = (u32, usize);

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Where what comes next belongs; `None` while the beginning was missed, until it is told again or the whole comes.
    at: Option<Place>,
    had: Place,
}

impl Reading {
    /// A reader that has the message up to `had`.
    #[must_use]
    pub const fn resumed(had: Place) -> Self {
        Self { at: None, had }
    }

    #[must_use]
    pub const fn had(&self) -> Place {
        self.had
    }

    /// A block begins, for the first time or told again. Blocks count only without a gap from the first one.
    pub fn begin(&mut self, index: u32) {
        self.at = match (self.at, index) {
            (_, 0) => Some((0, 0)),
            (Some((before, _)), index) if index == before + 1 => Some((index, 0)),
            _ => None,
        };
    }

    /// The block comes next, whole.
    pub const fn at_block(&mut self, index: u32) {
        self.at = Some((index, 0));
    }

    /// Something may be missing from here on.
    pub const fn lost(&mut self) {
        self.at = None;
    }

    /// The part of this chunk that the reader does not have.
    pub fn news<'c>(&mut self, index: u32, chunk: &'c str) -> Option<&'c str> {
        let (block, start) = self.at.filter(|(block, _)| *block == index)?;
        let end = (block, start + chunk.len());
        self.at = Some(end);
        if end <= self.had {
            return None;
        }
        let known = if self.had.0 == block { self.had.1.saturating_sub(start) } else { 0 };
        self.had = end;
        chunk.get(known..).filter(|news| !news.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_twice_and_nothing_out_of_place() {
        let mut reading = Reading::default();
        assert_eq!(reading.news(0, "missed"), None, "the beginning is not known");
        reading.begin(0);
        assert_eq!(reading.news(0, "Hel"), Some("Hel"));
        reading.begin(0);
        assert_eq!(reading.news(0, "Hello"), Some("lo"), "told again from its beginning");
        reading.lost();
        assert_eq!(reading.news(0, "?"), None);
        reading.begin(1);
        assert_eq!(reading.news(1, "?"), None, "a gap before it");
        reading.at_block(0);
        assert_eq!(reading.news(0, "Hello you"), Some(" you"));
        reading.begin(1);
        assert_eq!((reading.news(1, "x"), reading.had()), (Some("x"), (1, 1)));
        let mut later = Reading::resumed((1, 1));
        later.begin(0);
        assert_eq!(later.news(0, "Hello you"), None);
        later.begin(1);
        assert_eq!(later.news(1, "xy"), Some("y"));
    }
}
