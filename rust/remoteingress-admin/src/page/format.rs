//! Figures as people read them. `page/format.ts` has the same for the page that is live.

use std::fmt;

use remoteingress_config::{civil_date::civil_date, reasons::Transport};

/// Three digits that count, with a decimal prefix: `1.25 MB`.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0 as f64;
        let mut prefixes = ["", "k", "M", "G", "T", "P"].into_iter().peekable();
        let mut prefix = prefixes.next().unwrap_or_default();
        let mut is_scaled = false;
        while rest >= 999.5 {
            let Some(next) = prefixes.next() else { break };
            prefix = next;
            rest /= 1_000.0;
            is_scaled = true;
        }
        let digits = match rest {
            _ if !is_scaled || rest >= 99.95 => 0,
            _ if rest >= 9.995 => 1,
            _ => 2,
        };
        write!(formatter, "{rest:.digits$} {prefix}B")
    }
}

/// A number with commas between its thousands.
pub(super) struct Count(pub(super) u64);

impl fmt::Display for Count {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                formatter.write_str(",")?;
            }
            write!(formatter, "{digit}")?;
        }
        Ok(())
    }
}

/// Length of a time in ms, in the two units that count most: `3 d 4 h`.
pub(super) struct Length(pub(super) u64);

impl fmt::Display for Length {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
        match () {
            () if minutes == 0 => write!(formatter, "{seconds} s"),
            () if hours == 0 => write!(formatter, "{minutes} min {} s", seconds % 60),
            () if days == 0 => write!(formatter, "{hours} h {} min", minutes % 60),
            () => write!(formatter, "{days} d {} h", hours % 24),
        }
    }
}

/// Round trip in ms.
pub(super) struct RoundTrip(pub(super) Option<f64>);

impl fmt::Display for RoundTrip {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => formatter.write_str("not measured"),
            Some(ms) if ms >= 100.0 => write!(formatter, "{ms:.0} ms"),
            Some(ms) if ms >= 10.0 => write!(formatter, "{ms:.1} ms"),
            Some(ms) => write!(formatter, "{ms:.2} ms"),
        }
    }
}

/// Time in ms since 1970, as `2026-11-29 12:03:44` in UTC.
pub(super) struct Utc(pub(super) u64);

impl fmt::Display for Utc {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000;
        let (year, month, day) = civil_date(seconds / 86_400);
        let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
        write!(
            formatter,
            "{year}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"
        )
    }
}

/// Name of a transport that people know it by.
pub(super) fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::TcpTls => "TLS",
        Transport::Quic => "QUIC",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let bytes = [0, 999, 1_000, 12_345, 999_499, 999_600, 5_250_000_000];
        let shown: Vec<String> = bytes
            .iter()
            .map(|count| Bytes(*count).to_string())
            .collect();
        let expected = [
            "0 B", "999 B", "1.00 kB", "12.3 kB", "999 kB", "1.00 MB", "5.25 GB",
        ];
        assert_eq!(shown, expected);
        assert_eq!(Count(1_234_567).to_string(), "1,234,567");
        assert_eq!(Count(999).to_string(), "999");
        let lengths = [12_000, 61_000, 3_660_000, 273_600_000].map(|ms| Length(ms).to_string());
        assert_eq!(lengths, ["12 s", "1 min 1 s", "1 h 1 min", "3 d 4 h"]);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(Utc(0).to_string(), "1970-01-01 00:00:00");
        assert_eq!(Utc(951_827_696_000).to_string(), "2000-02-29 12:34:56");
        assert_eq!(Utc(1_796_000_000_000).to_string(), "2026-11-30 00:53:20");
    }
}
