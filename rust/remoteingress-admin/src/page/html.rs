//! Writes HTML of which only literals are markup: every value is escaped.

use std::fmt::{self, Display, Write};

/// A page that is being written.
#[derive(Debug, Default)]
pub(super) struct Html {
    text: String,
}

impl Html {
    /// Markup. Only a literal is taken for it, so that no value ever is.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.text.push_str(markup);
        self
    }

    /// A value, as the text of an element or of a quoted attribute.
    pub(super) fn text(&mut self, value: impl Display) -> &mut Self {
        // Writing into a string doesn't fail, and a value that can't be formatted is shown as far as it got.
        let _ = write!(Escaped(&mut self.text), "{value}");
        self
    }

    pub(super) fn finish(self) -> String {
        self.text
    }
}

struct Escaped<'a>(&'a mut String);

impl Write for Escaped<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            match character {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                other => self.0.push(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_never_markup() {
        let mut html = Html::default();
        html.raw("<b title=\"").text("\" onclick='x'").raw("\">");
        html.text("<script>&amp;").raw("</b>");
        let escaped = "<b title=\"&quot; onclick=&#39;x&#39;\">&lt;script&gt;&amp;amp;</b>";
        assert_eq!(html.finish(), escaped);
    }
}
