//! One line of the log, from the fields that were given: as JSON for programs, as text for people.

use remoteingress_config::civil_date::civil_date;
use serde_json::{Map, Value};
use std::fmt::{Debug, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::Level;
use tracing::field::{Field, Visit};

/// Name of the field that holds the data of an event of the interface, as JSON.
const DATA: &str = "data";
/// Name of the field that says which event of the interface it is.
const EVENT: &str = "event";
const MESSAGE: &str = "message";

/// The fields of a line, in the order in which they were given.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(super) fn add(&mut self, name: &'static str, value: impl Into<Value>) {
        self.0.push((name, value.into()));
    }

    fn get(&self, name: &str) -> Option<&Value> {
        let field = self.0.iter().find(|field| field.0 == name);
        field.map(|(_, value)| value)
    }

    /// `{"timestamp", "level", "target", "fields": {"message", …}}`; the data of an event is an object in `fields`.
    pub(super) fn json(&self, level: Level, target: &str) -> String {
        let mut fields = String::new();
        let data = self.event_data();
        // The message first, as a person looks for it.
        let (message, others): (Vec<_>, Vec<_>) =
            self.0.iter().partition(|(name, _)| *name == MESSAGE);
        for (name, value) in message.into_iter().chain(others) {
            let comma = if fields.is_empty() { "" } else { "," };
            let name_in_json = Value::from(*name);
            // A string takes all that is written.
            let _ = match &data {
                Some(data) if *name == DATA => {
                    let data = Value::Object(data.clone());
                    write!(fields, "{comma}{name_in_json}:{data}")
                }
                _ => write!(fields, "{comma}{name_in_json}:{value}"),
            };
        }
        let (timestamp, target) = (Value::from(time(Duration::ZERO)), Value::from(target));
        format!(
            "{{\"timestamp\":{timestamp},\"level\":\"{level}\",\"target\":{target},\"fields\":{{{fields}}}}}\n"
        )
    }

    /// Time, level and message, then each other field as `name=value`; of an event, its name and data.
    pub(super) fn text(&self, level: Level) -> String {
        let mut line = format!("{} {level:5}", time(Duration::ZERO));
        let data = self.event_data();
        let said = [EVENT, MESSAGE].iter().find_map(|name| {
            let is_event = *name == EVENT;
            self.get(name).filter(|_| !is_event || self.is_event())
        });
        if let Some(said) = said {
            line.push(' ');
            line.push_str(&shown(said, true));
        }
        let is_said = |name: &str| match name {
            MESSAGE => true,
            EVENT => self.is_event(),
            DATA => data.is_some(),
            _ => false,
        };
        let own = self.0.iter().filter(|(name, _)| !is_said(name));
        let own = own.map(|(name, value)| (*name, value));
        let more = data.iter().flatten();
        for (name, value) in own.chain(more.map(|(name, value)| (name.as_str(), value))) {
            // A string takes all that is written.
            let _ = write!(line, " {name}={}", shown(value, false));
        }
        line.push('\n');
        line
    }

    /// An event of the interface, which `remoteingress-observe` logs with its name and its data as JSON.
    fn is_event(&self) -> bool {
        self.get(MESSAGE).is_some_and(|message| message == "event") && self.get(EVENT).is_some()
    }

    fn event_data(&self) -> Option<Map<String, Value>> {
        let text = self.get(DATA).filter(|_| self.is_event())?.as_str()?;
        serde_json::from_str(text).ok()
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field.name(), format!("{value:?}"));
    }
}

/// A value as a person reads it, on one line and without what would act on a terminal.
fn shown(value: &Value, is_sentence: bool) -> String {
    let Value::String(text) = value else {
        return value.to_string();
    };
    let is_plain = |letter: char| !letter.is_control() && (is_sentence || letter != ' ');
    if !text.is_empty() && text.chars().all(is_plain) && (is_sentence || !text.contains('"')) {
        text.clone()
    } else if is_sentence {
        let escape = |letter: char| {
            let is_control = letter.is_control();
            let (escaped, plain) = (
                is_control.then(|| letter.escape_default()),
                (!is_control).then_some(letter),
            );
            escaped.into_iter().flatten().chain(plain)
        };
        text.chars().flat_map(escape).collect()
    } else {
        format!("{text:?}")
    }
}

/// The time of so long ago as RFC 3339 writes it, in UTC.
pub(crate) fn time(ago: Duration) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    rfc_3339(now.unwrap_or_default().saturating_sub(ago))
}

/// A time since 1970.
fn rfc_3339(time: Duration) -> String {
    let (days, rest) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let (year, month, day) = civil_date(days);
    let (hour, minute, second) = (rest / 3_600, rest / 60 % 60, rest % 60);
    let micros = time.subsec_micros();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event() -> Fields {
        let mut fields = Fields::default();
        fields.add("message", "event");
        fields.add("event", "edgeConnected");
        let data = json!({"edgeId": "edge 1", "remoteAddress": "192.0.2.7:40000", "ports": [443]});
        fields.add("data", data.to_string());
        fields
    }

    fn without_time(line: &str) -> &str {
        assert!(line.ends_with('\n') && line.matches('\n').count() == 1);
        line.split_once(' ').unwrap().1.trim_end()
    }

    #[test]
    fn an_event_is_fields_in_json() {
        let line: Value = serde_json::from_str(&event().json(Level::INFO, "a::b")).unwrap();
        let data = json!({"edgeId": "edge 1", "remoteAddress": "192.0.2.7:40000", "ports": [443]});
        let fields = json!({"message": "event", "event": "edgeConnected", "data": data});
        assert_eq!(line["fields"], fields);
        assert_eq!(
            (&line["level"], &line["target"]),
            (&json!("INFO"), &json!("a::b"))
        );
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn an_event_is_its_name_and_fields_in_text() {
        let line = event().text(Level::INFO);
        let expected =
            "INFO  edgeConnected edgeId=\"edge 1\" ports=[443] remoteAddress=192.0.2.7:40000";
        assert_eq!(without_time(&line), expected);
    }

    #[test]
    fn a_message_and_its_fields_stay_on_one_line() {
        let mut fields = Fields::default();
        fields.add("message", "it said \"no\"\n\u{1b}[31m");
        fields.add("port", 443);
        fields.add("error", "two words\n");
        fields.add("empty", "");
        fields.add("data", "not an event's");
        let line = fields.text(Level::WARN);
        assert_eq!(
            without_time(&line),
            r#"WARN  it said "no"\n\u{1b}[31m port=443 error="two words\n" empty="" data="not an event's""#
        );
        let json: Value = serde_json::from_str(&fields.json(Level::WARN, "t")).unwrap();
        assert_eq!(json["fields"]["data"], "not an event's");
    }

    #[test]
    fn a_time_is_written_as_rfc_3339() {
        let time = Duration::new(1_795_944_600, 123_456_789);
        assert_eq!(rfc_3339(time), "2026-11-29T09:30:00.123456Z");
        assert_eq!(rfc_3339(Duration::ZERO), "1970-01-01T00:00:00.000000Z");
    }
}
