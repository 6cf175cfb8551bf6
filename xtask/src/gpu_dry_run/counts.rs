//! The counts of the null GPU, read from its file while it runs or afterwards. The layout is `Row` of
//! xtask/nullgpu/card.hpp.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

const ROW: usize = 256;
const NAME: usize = 240;

/// The number of calls, and the bytes that they were about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CallCount {
    pub(super) times: u64,
    pub(super) bytes: u64,
}

/// The counts, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct CallCounts(BTreeMap<String, CallCount>);

/// The counts in groups; numbers of a network, a step or a run are fractions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Totals {
    /// All that the card is given to compute: kernels, convolutions, batch norms and products.
    pub(super) launches: f64,
    pub(super) kernels: f64,
    pub(super) convolutions_forward: f64,
    pub(super) convolutions_backward: f64,
    pub(super) batch_norms: f64,
    pub(super) products: f64,
    /// Between host and device, either way.
    pub(super) copies: f64,
    /// Copies during which the host waits: of pageable memory, or by a synchronous call.
    pub(super) blocking_copies: f64,
    pub(super) pageable_bytes_to_device: f64,
    pub(super) pinned_bytes_to_device: f64,
    pub(super) bytes_to_host: f64,
    pub(super) synchronisations: f64,
}

impl CallCounts {
    /// Reads the file of a process; nothing has been counted where there is none yet.
    pub(super) fn read(path: &Path) -> Result<Self> {
        match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            read => Ok(Self::parse(&read.with_context(|| format!("cannot read {}", path.display()))?)),
        }
    }

    fn parse(file: &[u8]) -> Self {
        let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let rows = file.chunks_exact(ROW).map_while(|row| {
            let name = row[..NAME].split(|&byte| byte == 0).next().filter(|name| !name.is_empty())?;
            let count = CallCount { times: number(&row[NAME..NAME + 8]), bytes: number(&row[NAME + 8..]) };
            Some((String::from_utf8_lossy(name).into_owned(), count))
        });
        let mut counts = BTreeMap::<String, CallCount>::new();
        for (name, count) in rows {
            // Two long names may have been cut to one.
            let entry = counts.entry(name).or_default();
            *entry = CallCount { times: entry.times + count.times, bytes: entry.bytes + count.bytes };
        }
        Self(counts)
    }

    /// Returns the counts since an earlier reading.
    pub(super) fn since(&self, before: &Self) -> Self {
        let later = self.0.iter().map(|(name, now)| {
            let CallCount { times, bytes } = before.0.get(name).copied().unwrap_or_default();
            (name.clone(), CallCount { times: now.times - times, bytes: now.bytes.saturating_sub(bytes) })
        });
        Self(later.collect())
    }

    /// Everything whose name begins so.
    pub(super) fn of(&self, prefix: &str) -> CallCount {
        self.of_all(|name| name.starts_with(prefix))
    }

    fn of_all(&self, wanted: impl Fn(&str) -> bool) -> CallCount {
        self.0.iter().filter(|(name, _)| wanted(name)).fold(CallCount::default(), |sum, (_, count)| CallCount {
            times: sum.times + count.times,
            bytes: sum.bytes + count.bytes,
        })
    }

    /// The number of times that each happened.
    pub(super) fn times(&self) -> BTreeMap<String, f64> {
        self.0.iter().map(|(name, count)| (name.clone(), count.times as f64)).collect()
    }

    /// Most bytes of device memory that the process held at once.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.of("memory device").bytes
    }

    pub(super) fn totals(&self) -> Totals {
        let times = |prefix| self.of(prefix).times as f64;
        let convolutions = |passes: &[&str]| {
            let found = self.of_all(|name| {
                let pass = name.strip_prefix("convolution ").and_then(|rest| rest.split(' ').next());
                pass.is_some_and(|pass| passes.contains(&pass))
            });
            found.times as f64
        };
        let between = |name: &str| name.starts_with("copy to ");
        let waits = |name: &str| between(name) && (name.contains("pageable") || name.ends_with(", synchronous"));
        let bytes = |prefix| self.of(prefix).bytes as f64;
        let kernels = times("kernel ");
        let batch_norms = times("batch norm ");
        let products = times("product ");
        Totals {
            launches: kernels + batch_norms + products + times("convolution "),
            kernels,
            convolutions_forward: convolutions(&["forward"]),
            convolutions_backward: convolutions(&["backward-data", "backward-filter"]),
            batch_norms,
            products,
            copies: self.of_all(between).times as f64,
            blocking_copies: self.of_all(waits).times as f64,
            pageable_bytes_to_device: bytes("copy to device, pageable"),
            pinned_bytes_to_device: bytes("copy to device, pinned"),
            bytes_to_host: bytes("copy to host"),
            synchronisations: times("synchronisation "),
        }
    }
}

impl Totals {
    /// Each number combined with that of `other`.
    pub(super) fn with(&self, other: &Self, combine: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            launches: combine(self.launches, other.launches),
            kernels: combine(self.kernels, other.kernels),
            convolutions_forward: combine(self.convolutions_forward, other.convolutions_forward),
            convolutions_backward: combine(self.convolutions_backward, other.convolutions_backward),
            batch_norms: combine(self.batch_norms, other.batch_norms),
            products: combine(self.products, other.products),
            copies: combine(self.copies, other.copies),
            blocking_copies: combine(self.blocking_copies, other.blocking_copies),
            pageable_bytes_to_device: combine(self.pageable_bytes_to_device, other.pageable_bytes_to_device),
            pinned_bytes_to_device: combine(self.pinned_bytes_to_device, other.pinned_bytes_to_device),
            bytes_to_host: combine(self.bytes_to_host, other.bytes_to_host),
            synchronisations: combine(self.synchronisations, other.synchronisations),
        }
    }

    /// All bytes that crossed between host and device.
    pub(super) fn bytes(&self) -> f64 {
        self.pageable_bytes_to_device + self.pinned_bytes_to_device + self.bytes_to_host
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(rows: &[(&str, u64, u64)]) -> Vec<u8> {
        let mut file = Vec::new();
        for (name, times, bytes) in rows {
            let mut row = name.as_bytes().to_vec();
            row.resize(NAME, 0);
            row.extend(times.to_le_bytes());
            row.extend(bytes.to_le_bytes());
            file.extend(row);
        }
        file.resize(file.len() + 3 * ROW, 0);
        file
    }

    #[test]
    fn rows_are_grouped_by_their_names() {
        let counts = CallCounts::parse(&file(&[
            ("kernel add<float>", 3, 0),
            ("convolution forward 1x1x32x32 by 6x1x5x5", 2, 0),
            ("convolution backward-data 1x1x32x32 by 6x1x5x5", 1, 0),
            ("convolution backward-filter 1x1x32x32 for 6x1x5x5", 1, 0),
            ("product fp32 8 x 8 x 8", 4, 0),
            ("copy to device, pageable, asynchronous", 5, 100),
            ("copy to device, pinned, asynchronous", 6, 200),
            ("copy to host, pinned, synchronous", 7, 300),
            ("copy on device", 8, 400),
            ("synchronisation of a stream", 9, 0),
            ("memory device", 2, 1000),
            ("other cudnnSetStream", 10, 0),
        ]));
        let totals = counts.totals();
        assert_eq!((totals.launches, totals.kernels, totals.products), (11.0, 3.0, 4.0));
        assert_eq!((totals.convolutions_forward, totals.convolutions_backward), (2.0, 2.0));
        assert_eq!((totals.copies, totals.blocking_copies), (18.0, 12.0));
        assert_eq!((totals.pageable_bytes_to_device, totals.pinned_bytes_to_device), (100.0, 200.0));
        assert_eq!((totals.bytes(), totals.synchronisations, counts.peak_bytes()), (600.0, 9.0, 1000));
    }

    #[test]
    fn a_later_reading_is_the_earlier_one_and_what_came_since() {
        let before = CallCounts::parse(&file(&[("kernel a", 3, 0)]));
        let after = CallCounts::parse(&file(&[("kernel a", 5, 0), ("kernel b", 1, 0)]));
        assert_eq!(after.since(&before).totals().kernels, 3.0);
        assert_eq!(after.since(&after).totals(), Totals::default());
    }
}
