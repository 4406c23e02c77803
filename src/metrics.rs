//! How a room declares its metrics: a struct of collectors, made once per registry, no statics.

pub use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
};

/// Buckets for times from 100 µs to 60 s, in seconds.
pub const SECONDS_BUCKETS: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// Declares a room's metrics as a struct. The doc comment is the help text; the first string is
/// the metric's name. `register` makes the collectors and adds them to a registry.
///
/// Kinds: `counter`, `gauge`, `histogram`, and with label names `counter_vec`, `gauge_vec`,
/// `histogram_vec`. Labels are few and fixed: never a CID, a peer or a path.
#[macro_export]
macro_rules! metrics {
    ($(#[$outer:meta])* pub struct $name:ident {
        $( #[doc = $help:literal] $field:ident: $kind:ident($metric:literal $(, $label:literal)*), )*
    }) => {
        $(#[$outer])*
        #[derive(Clone, Debug)]
        pub struct $name { $( #[doc = $help] pub $field: $crate::metrics!(@type $kind), )* }

        impl $name {
            /// Makes the collectors and adds them to `registry`.
            pub fn register(registry: &$crate::metrics::Registry) -> prometheus::Result<Self> {
                Ok(Self { $( $field: {
                    let collector = $crate::metrics!(@make $kind, $metric, $help.trim(), [$($label),*]);
                    registry.register(Box::new(collector.clone()))?;
                    collector
                }, )* })
            }
        }
    };
    (@type counter) => { $crate::metrics::IntCounter };
    (@type gauge) => { $crate::metrics::IntGauge };
    (@type histogram) => { $crate::metrics::Histogram };
    (@type counter_vec) => { $crate::metrics::IntCounterVec };
    (@type gauge_vec) => { $crate::metrics::IntGaugeVec };
    (@type histogram_vec) => { $crate::metrics::HistogramVec };
    (@make counter, $m:expr, $h:expr, [$($l:literal),*]) => { $crate::metrics::IntCounter::new($m, $h)? };
    (@make gauge, $m:expr, $h:expr, [$($l:literal),*]) => { $crate::metrics::IntGauge::new($m, $h)? };
    (@make histogram, $m:expr, $h:expr, [$($l:literal),*]) => {
        $crate::metrics::Histogram::with_opts(prometheus::HistogramOpts::new($m, $h)
            .buckets($crate::metrics::SECONDS_BUCKETS.to_vec()))?
    };
    (@make counter_vec, $m:expr, $h:expr, [$($l:literal),*]) => {
        $crate::metrics::IntCounterVec::new(prometheus::Opts::new($m, $h), &[$($l),*])?
    };
    (@make gauge_vec, $m:expr, $h:expr, [$($l:literal),*]) => {
        $crate::metrics::IntGaugeVec::new(prometheus::Opts::new($m, $h), &[$($l),*])?
    };
    (@make histogram_vec, $m:expr, $h:expr, [$($l:literal),*]) => {
        $crate::metrics::HistogramVec::new(prometheus::HistogramOpts::new($m, $h)
            .buckets($crate::metrics::SECONDS_BUCKETS.to_vec()), &[$($l),*])?
    };
}
