//! serde's own words, pinned: `describe` reads them, and serde may change them in any version. A test that fails here
//! names the message whose reading must follow.

use std::num::{NonZeroU16, NonZeroU32};

use serde::Deserialize;
use serde_json::json;

use super::{decode, json::Json};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct Three {
    one: u16,
    two: Option<Word>,
    three: Option<Vec<bool>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct Two {
    one: Option<u16>,
    two: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only decoded")]
struct One {
    one: Option<u16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Empty {}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Word {
    Left,
    Right,
    Both,
}

/// A test for each message: what serde says, and what the user reads.
macro_rules! pinned {
    ($($name:ident: $type:ty, $value:tt, $said:literal, $told:literal;)+) => {$(
        #[test]
        fn $name() {
            let value = json!($value);
            let said = <$type>::deserialize(Json(&value)).unwrap_err();
            assert_eq!(said.to_string(), $said);
            assert_eq!(decode::<$type>(&value).unwrap_err().message, $told);
        }
    )+};
}

pinned! {
    a_missing_field: Three, {},
        "missing field `one`",
        "one: is missing";
    an_unknown_field_of_several: Three, {"four": 4},
        "unknown field `four`, expected one of `one`, `two`, `three`",
        "four: is not a known field; expected one of `one`, `two`, `three`";
    an_unknown_field_of_two: Two, {"four": 4},
        "unknown field `four`, expected `one` or `two`",
        "four: is not a known field; expected `one` or `two`";
    an_unknown_field_of_one: One, {"four": 4},
        "unknown field `four`, expected `one`",
        "four: is not a known field; expected `one`";
    an_unknown_field_of_none: Empty, {"four": 4},
        "unknown field `four`, there are no fields",
        "four: is not a known field; expected none";
    an_unknown_variant: Word, "canary",
        "unknown variant `canary`, expected one of `left`, `right`, `both`",
        "the top level: must be one of `left`, `right`, `both`";
    a_number_where_text_belongs: String, 7,
        "invalid type: integer `7`, expected a string",
        "the top level: must be a string, not integer `7`";
    a_fraction_where_a_whole_number_belongs: u32, 0.5,
        "invalid type: floating point `0.5`, expected u32",
        "the top level: must be a whole number from 0 to 4294967295, not floating point `0.5`";
    text_where_a_number_belongs: u16, "canary",
        "invalid type: string \"canary\", expected u16",
        "the top level: must be a whole number from 0 to 65535, not a string";
    a_number_that_is_too_large: u16, 65_536,
        "invalid value: integer `65536`, expected u16",
        "the top level: must be a whole number from 0 to 65535, not integer `65536`";
    zero_where_it_is_none: NonZeroU16, 0,
        "invalid value: integer `0`, expected a nonzero u16",
        "the top level: must be a whole number from 1 to 65535, not integer `0`";
    zero_where_it_is_none_of_32_bits: NonZeroU32, 0,
        "invalid value: integer `0`, expected a nonzero u32",
        "the top level: must be a whole number from 1 to 4294967295, not integer `0`";
    null_where_a_value_belongs: bool, null,
        "invalid type: null, expected a boolean",
        "the top level: must be true or false, not null";
    an_object_where_a_list_belongs: Vec<bool>, {},
        "invalid type: map, expected a sequence",
        "the top level: must be a list, not an object";
    a_list_where_an_object_belongs: Three, [],
        "invalid type: sequence, expected struct Three",
        "the top level: must be an object, not a list";
}
