//! Paths and queries of requests.

use std::fmt::Write as _;

/// An id as a part of a path or a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            // A string takes whatever comes.
            let _ = write!(escaped, "%{byte:02X}");
        }
    }
    escaped
}

pub(super) fn with_query(path: &str, fields: [Option<(&str, String)>; 2]) -> String {
    let fields = fields.into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    if fields.is_empty() {
        path.to_owned()
    } else {
        format!("{path}?{}", fields.join("&"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_escaped_and_queries_have_what_is_given() {
        assert_eq!(escaped("edge-1/../ä"), "edge-1%2F..%2F%C3%A4");
        assert_eq!(with_query("/p", [None, None]), "/p");
        let fields = [Some(("a", "1".to_owned())), Some(("b", "2".to_owned()))];
        assert_eq!(with_query("/p", fields), "/p?a=1&b=2");
    }
}
