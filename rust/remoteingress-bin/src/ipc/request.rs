//! A line of stdin as a request, checked before it is taken apart. Pure.

use super::stdio::Line;
use remoteingress_config::error::{CodedError, ErrorCode};
use serde_json::Value;
use std::collections::{HashSet, VecDeque};

/// Levels of objects and arrays in a request (threats A5.4).
const MAX_DEPTH: usize = 32;
/// Ids that are remembered, to refuse their repetition.
const MAX_IDS: usize = 16_384;
/// The longest id, in bytes.
const MAX_ID_LEN: usize = 256;

#[derive(Debug, PartialEq)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) method: String,
    pub(super) params: Value,
}

impl Request {
    /// An error comes with the id that it answers, if there is one.
    pub(super) fn parse(line: &Line) -> Result<Self, (Option<String>, CodedError)> {
        let bad = |message: &str| CodedError::new(ErrorCode::BadRequest, message);
        let Line::Whole(line) = line else {
            return Err((None, bad("a line is longer than 1 MiB")));
        };
        if depth(line) > MAX_DEPTH {
            return Err((None, bad("the line has more than 32 levels")));
        }
        let value: Value =
            serde_json::from_slice(line).map_err(|_| (None, bad("the line is not JSON")))?;
        let Value::Object(mut fields) = value else {
            return Err((None, bad("the line is not a JSON object")));
        };
        let id = match fields.remove("id") {
            Some(Value::String(id)) if id.len() <= MAX_ID_LEN => id,
            _ => return Err((None, bad("id must be a string of at most 256 bytes"))),
        };
        let Some(Value::String(method)) = fields.remove("method") else {
            return Err((Some(id), bad("method must be a string")));
        };
        let params = fields
            .remove("params")
            .unwrap_or_else(|| serde_json::json!({}));
        match fields.keys().next() {
            Some(unknown) => {
                let message = format!("{unknown}: is not a field of a request");
                Err((Some(id), bad(&message)))
            }
            None => Ok(Self { id, method, params }),
        }
    }
}

/// The deepest nesting, without building anything.
fn depth(line: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in line {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Ids of late.
#[derive(Debug, Default)]
pub(super) struct Recent {
    order: VecDeque<String>,
    ids: HashSet<String>,
}

impl Recent {
    /// False if the id was there.
    pub(super) fn insert(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > MAX_IDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn parse(line: &str) -> Result<Request, (Option<String>, CodedError)> {
        Request::parse(&Line::Whole(line.as_bytes().to_vec()))
    }

    #[test]
    fn a_request_has_id_method_and_params() {
        let request = parse(r#"{"id":"1","method":"ping"}"#).expect("a request");
        assert_eq!(request.params, json!({}));
        let error = |line: &str| {
            let (id, error) = parse(line).expect_err("no request");
            (id, error.message)
        };
        assert_eq!(error(r#"{"id":"1"}"#).0.as_deref(), Some("1"));
        assert_eq!(error(r#"{"id":7,"method":"ping"}"#).0, None);
        assert_eq!(
            error(r#"{"id":"1","method":"x","extra":1}"#),
            (
                Some("1".to_owned()),
                "extra: is not a field of a request".to_owned()
            )
        );
        assert_eq!(error("[1]").1, "the line is not a JSON object");
        let deep = format!(r#"{{"id":"1","method":"x","params":{}}}"#, "[".repeat(100));
        assert_eq!(error(&deep).1, "the line has more than 32 levels");
        assert!(
            parse(r#"{"id":"1","method":"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\"["}"#).is_ok()
        );
    }

    #[test]
    fn an_id_is_new_once() {
        let mut recent = Recent::default();
        assert!(recent.insert("a"));
        assert!(!recent.insert("a"));
        for i in 0..MAX_IDS {
            assert!(recent.insert(&i.to_string()));
        }
        assert_eq!(recent.ids.len(), MAX_IDS);
        assert!(recent.insert("a"));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(line in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = Request::parse(&Line::Whole(line));
        }
    }
}
