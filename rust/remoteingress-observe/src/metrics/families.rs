//! The shapes of metrics here: one sample, or one for each set of labels.

use crate::histogram::{BOUNDS, Counts};
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::fmt;

/// Labels of a sample.
pub(super) type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Name, description and unit of a metric.
pub(super) struct About {
    pub(super) name: &'static str,
    /// The text adds a full stop to it.
    pub(super) help: &'static str,
    pub(super) unit: Option<Unit>,
}

impl About {
    /// A metric that counts things.
    pub(super) const fn new(name: &'static str, help: &'static str) -> Self {
        let unit = None;
        Self { name, help, unit }
    }

    /// A metric in seconds or bytes; its name in the text ends with the unit.
    pub(super) const fn of(name: &'static str, unit: Unit, help: &'static str) -> Self {
        let unit = Some(unit);
        Self { name, help, unit }
    }
}

/// Values that go up and down.
pub(super) fn gauges<'a, const N: usize, V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
) -> fmt::Result {
    let unit = about.unit.as_ref();
    let mut family = encoder.encode_descriptor(about.name, about.help, unit, MetricType::Gauge)?;
    for (labels, value) in samples {
        family.encode_family(&labels)?.encode_gauge(&value)?;
    }
    Ok(())
}

/// One value that goes up and down.
pub(super) fn gauge<V: EncodeGaugeValue>(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    value: V,
) -> fmt::Result {
    gauges(encoder, about, [([], value)])
}

/// Counts since the start; their names in the text end with `_total`.
pub(super) fn counters<'a, const N: usize, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    samples: impl IntoIterator<Item = (Labels<'a, N>, V)>,
) -> fmt::Result {
    let unit = about.unit.as_ref();
    let mut family =
        encoder.encode_descriptor(about.name, about.help, unit, MetricType::Counter)?;
    for (labels, value) in samples {
        let mut sample = family.encode_family(&labels)?;
        sample.encode_counter::<NoLabelSet, V, f64>(&value, None)?;
    }
    Ok(())
}

/// One count since the start.
pub(super) fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    value: u64,
) -> fmt::Result {
    counters(encoder, about, [([], value)])
}

/// Durations by size.
pub(super) fn histograms<'a, const N: usize>(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    samples: impl IntoIterator<Item = (Labels<'a, N>, &'a Counts)>,
) -> fmt::Result {
    let unit = about.unit.as_ref();
    let mut family =
        encoder.encode_descriptor(about.name, about.help, unit, MetricType::Histogram)?;
    for (labels, counts) in samples {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(counts.buckets).collect();
        let count = counts.buckets.iter().sum();
        let mut sample = family.encode_family(&labels)?;
        sample.encode_histogram::<NoLabelSet>(counts.sum, count, &buckets, None)?;
    }
    Ok(())
}

/// The durations of one thing by size.
pub(super) fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    about: &About,
    counts: &Counts,
) -> fmt::Result {
    histograms(encoder, about, [([], counts)])
}
