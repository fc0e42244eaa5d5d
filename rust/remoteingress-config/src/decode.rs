//! JSON to a type, or an error that names the field by its path and quotes no string: it might be a secret.

mod json;
#[cfg(test)]
mod pinned;

use serde::de::DeserializeOwned;
use serde_json::Value;

use self::json::Json;
use crate::error::CodedError;

/// Reads a value of JSON as a `T`.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, CodedError> {
    serde_path_to_error::deserialize(Json(value)).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        let (path, problem) = describe(path, &error.inner().to_string());
        CodedError::invalid_config(
            if path.is_empty() {
                "the top level"
            } else {
                &path
            },
            problem,
        )
    })
}

/// Turns serde's words into the user's.
fn describe(path: String, message: &str) -> (String, String) {
    if let Some(field) = quoted_after(message, "missing field `") {
        return (below(&path, field), "is missing".to_owned());
    }
    let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
    if let Some(field) = quoted_after(found, "unknown field `") {
        let known = message
            .split_once(", expected ")
            .map_or("none", |(_, known)| known);
        let path = if last_segment(&path) == field {
            path
        } else {
            below(&path, field)
        };
        return (path, format!("is not a known field; expected {known}"));
    }
    if found.starts_with("unknown variant `") {
        return (path, format!("must be {expected}"));
    }
    let found = found
        .strip_prefix("invalid type: ")
        .or_else(|| found.strip_prefix("invalid value: "));
    if let Some(found) = found {
        let problem = format!(
            "must be {}, not {}",
            expected_in_plain_words(expected),
            found_in_plain_words(found)
        );
        return (path, problem);
    }
    (path, message.to_owned())
}

fn quoted_after<'a>(message: &'a str, start: &str) -> Option<&'a str> {
    message.strip_prefix(start)?.split('`').next()
}

fn below(path: &str, field: &str) -> String {
    if path.is_empty() {
        field.to_owned()
    } else {
        format!("{path}.{field}")
    }
}

fn last_segment(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

fn expected_in_plain_words(expected: &str) -> &str {
    match expected {
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "a nonzero u16" => "a whole number from 1 to 65535",
        "a nonzero u32" => "a whole number from 1 to 4294967295",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "an object",
        expected if expected.starts_with("struct ") => "an object",
        expected => expected,
    }
}

fn found_in_plain_words(found: &str) -> &str {
    match found {
        "sequence" => "a list",
        "map" => "an object",
        found if found.starts_with("string ") => "a string",
        found => found,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only decoded")]
    struct Outer {
        some_name: String,
        #[serde(default)]
        list: Vec<Inner>,
        inner: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only decoded")]
    struct Inner {
        count: NonZeroU16,
        choice: Option<Choice>,
        flag: Option<bool>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase")]
    enum Choice {
        Left,
        Right,
        Both,
    }

    fn problem(value: Value) -> String {
        let text = decode::<Outer>(&value).unwrap_err().to_string();
        text.strip_prefix("E_INVALID_CONFIG: ").unwrap().to_owned()
    }

    #[test]
    fn every_fault_has_its_path() {
        let inner = |inner: Value| json!({"someName": "x", "list": [{"count": 1}, inner]});
        for (value, expected) in [
            (json!({}), "someName: is missing"),
            (json!([]), "the top level: must be an object, not a list"),
            (
                json!({"someName": "x", "inner": [1]}),
                "inner: must be an object, not a list",
            ),
            (
                json!({"someName": "x", "list": {"canary": 1}}),
                "list: must be a list, not an object",
            ),
            (
                json!({"someName": "x", "list": [[1]]}),
                "list[0]: must be an object, not a list",
            ),
            (
                inner(json!({"count": 1, "choice": {"left": null}})),
                "list[1].choice: must be a string",
            ),
            (
                json!(7),
                "the top level: must be an object, not integer `7`",
            ),
            (
                json!("canary"),
                "the top level: must be an object, not a string",
            ),
            (
                json!({"someName": 7}),
                "someName: must be a string, not integer `7`",
            ),
            (
                json!({"someName": null}),
                "someName: must be a string, not null",
            ),
            (
                json!({"someName": "x", "list": "canary"}),
                "list: must be a list, not a string",
            ),
            (
                json!({"someName": "x", "inner": "canary, expected x"}),
                "inner: must be an object, not a string",
            ),
            (
                json!({"someName": "x", "inner": {"count": 1, "extra": 2}}),
                "inner.extra: is not a known field; expected one of `count`, `choice`, `flag`",
            ),
            (
                json!({"someName": "x", "other": 1}),
                "other: is not a known field; expected one of `someName`, `list`, `inner`",
            ),
            (inner(json!({})), "list[1].count: is missing"),
            (
                inner(json!({"count": 0})),
                "list[1].count: must be a whole number from 1 to 65535, not integer `0`",
            ),
            (
                inner(json!({"count": 65536})),
                "list[1].count: must be a whole number from 1 to 65535, not integer `65536`",
            ),
            (
                inner(json!({"count": "canary"})),
                "list[1].count: must be a whole number from 1 to 65535, not a string",
            ),
            (
                inner(json!({"count": 1, "flag": 1})),
                "list[1].flag: must be true or false, not integer `1`",
            ),
            (
                inner(json!({"count": 1, "choice": "canary"})),
                "list[1].choice: must be one of `left`, `right`, `both`",
            ),
        ] {
            assert_eq!(problem(value), expected);
        }
    }
}
