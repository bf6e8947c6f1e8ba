//! Colours, where there is a terminal that wants them, and symbols.

/// How much the screen can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) colours: bool,
    /// Columns to wrap text at; `None`: the reader wraps.
    pub(crate) width: Option<usize>,
}

impl Style {
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colours: false, width: None };

    fn paint(self, code: &str, text: &str) -> String {
        if self.colours && !text.is_empty() {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint("31", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint("36", text)
    }

    /// A name of somebody or something.
    pub(crate) fn name(self, text: &str) -> String {
        self.paint("1;36", text)
    }
}
