//! Tables that say to every reader what they are, also where a narrow screen shows their rows as cards.

use std::fmt::Display;

use super::html::Html;

/// A column's heading, and the class of its cells.
pub(super) type Column = (&'static str, &'static str);

/// What stands around a table: its heading, and ids by which the script finds its parts.
pub(super) struct Section {
    /// Id of the table's body; the heading's and the count's are made from it.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) caption: &'static str,
}

/// Writes a section with a table; `rows` writes the body.
pub(super) fn section(
    html: &mut Html,
    section: &Section,
    tools: &'static str,
    columns: &[Column],
    rows: impl FnOnce(&mut Html),
) {
    let Section { id, title, caption } = *section;
    html.raw("<section class=\"panel\" id=\"section-")
        .text(id)
        .raw("\" aria-labelledby=\"heading-")
        .text(id);
    html.raw("\"><div class=\"head\"><h2 id=\"heading-")
        .text(id)
        .raw("\">")
        .text(title);
    html.raw("</h2><p class=\"count\" id=\"")
        .text(id)
        .raw("-count\"></p>")
        .raw(tools)
        .raw("</div>");
    html.raw("<div class=\"scroll\"><table role=\"table\" class=\"")
        .text(id);
    html.raw("\"><caption class=\"unseen\">")
        .text(caption)
        .raw("</caption>");
    html.raw("<thead role=\"rowgroup\"><tr role=\"row\">");
    for (label, class) in columns {
        html.raw("<th scope=\"col\" role=\"columnheader\" class=\"")
            .text(class)
            .raw("\">")
            .text(label)
            .raw("</th>");
    }
    html.raw("</tr></thead><tbody role=\"rowgroup\" id=\"")
        .text(id)
        .raw("\">");
    rows(html);
    html.raw("</tbody></table></div></section>");
}

/// Writes a cell whose content `fill` writes.
pub(super) fn cell(html: &mut Html, (label, class): Column, fill: impl FnOnce(&mut Html)) {
    html.raw("<td role=\"cell\" class=\"")
        .text(class)
        .raw("\" data-label=\"")
        .text(label)
        .raw("\">");
    fill(html);
    html.raw("</td>");
}

/// Writes the cell that names its row.
pub(super) fn row_header(html: &mut Html, (label, class): Column, fill: impl FnOnce(&mut Html)) {
    html.raw("<th scope=\"row\" role=\"rowheader\" class=\"")
        .text(class)
        .raw("\" data-label=\"")
        .text(label)
        .raw("\">");
    fill(html);
    html.raw("</th>");
}

/// Writes a cell of text.
pub(super) fn text_cell(html: &mut Html, column: Column, value: impl Display) {
    cell(html, column, |html| {
        html.text(value);
    });
}

/// Writes the only row of a table without any.
pub(super) fn empty(html: &mut Html, columns: &[Column], sentence: &'static str) {
    html.raw("<tr class=\"empty\" role=\"row\"><td role=\"cell\" colspan=\"")
        .text(columns.len());
    html.raw("\">").raw(sentence).raw("</td></tr>");
}

/// How a state is meant; it picks icon and colour.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tone {
    Good,
    Warning,
    Bad,
}

impl Tone {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

/// Writes the inside of an element that shows a state: an icon of its own shape, and a word.
pub(super) fn state(html: &mut Html, tone: Tone, word: impl Display) {
    let tone = tone.as_str();
    html.raw("<span class=\"pill\" data-tone=\"").text(tone);
    html.raw("\"><svg class=\"icon\" aria-hidden=\"true\"><use href=\"#icon-")
        .text(tone);
    html.raw("\"/></svg><span>")
        .text(word)
        .raw("</span></span>");
}

/// Writes a list of facts.
pub(super) fn facts(html: &mut Html, facts: &[(&'static str, String)]) {
    for (term, fact) in facts {
        html.raw("<div><dt>")
            .text(term)
            .raw("</dt><dd>")
            .text(fact)
            .raw("</dd></div>");
    }
}
