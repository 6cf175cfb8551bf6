//! Lists of indices as users write them: numbers, and ranges with a stride.

use serde::{Deserialize, Serialize};

/// A list of indices, for example `[0, 10, { start = 14, end = 1023, stride = 4 }]`. Kept as it was written: a long range costs nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Indices(Vec<IndexItem>);

/// Most entries of a list: an index is below the number of pixels of an input.
const MAX_ENTRIES: usize = super::MAX_PIXELS;

/// One entry of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum IndexItem {
    One(u64),
    Range(IndexRange),
}

/// The indices start, start + stride, … below end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IndexRange {
    start: u64,
    end: u64,
    #[serde(default = "one")]
    stride: u64,
}

fn one() -> u64 {
    1
}

impl IndexItem {
    fn len(self) -> u64 {
        match self {
            Self::One(_) => 1,
            Self::Range(IndexRange { start, end, stride }) => end.saturating_sub(start).div_ceil(stride.max(1)),
        }
    }

    fn get(self, place: u64) -> u64 {
        match self {
            Self::One(index) => index,
            Self::Range(IndexRange { start, stride, .. }) => start + place * stride,
        }
    }
}

impl Indices {
    /// The indices 0 … count − 1.
    pub fn all(count: u64) -> Self {
        Self(vec![IndexItem::Range(IndexRange { start: 0, end: count, stride: 1 })])
    }

    /// Returns the number of indices.
    pub fn len(&self) -> u64 {
        self.0.iter().fold(0, |sum, item| sum.saturating_add(item.len()))
    }

    /// Whether there are no indices.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The index at a position below [`Indices::len`].
    pub fn get(&self, place: u64) -> Option<u64> {
        let mut left = place;
        for item in &self.0 {
            match left.checked_sub(item.len()) {
                None => return Some(item.get(left)),
                Some(rest) => left = rest,
            }
        }
        None
    }

    /// The largest index.
    pub fn largest(&self) -> Option<u64> {
        self.0.iter().filter_map(|item| Some(item.get(item.len().checked_sub(1)?))).max()
    }

    /// Returns the fault in the way it is written, if there is one.
    pub(super) fn fault(&self) -> Option<String> {
        if self.0.len() > MAX_ENTRIES {
            let entries = self.0.len();
            return Some(format!("{entries} entries; at most {MAX_ENTRIES}, of which each may be a range"));
        }
        let empty =
            |item: &&IndexItem| item.len() == 0 || matches!(item, IndexItem::Range(IndexRange { stride: 0, .. }));
        match (self.0.is_empty(), self.0.iter().find(empty)) {
            (true, _) => Some("at least one index".into()),
            (_, Some(IndexItem::Range(IndexRange { start, end, stride }))) => Some(format!(
                "{start} to below {end} by {stride} holds nothing: start < end and a stride of at least 1"
            )),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Indices {
        #[derive(Deserialize)]
        struct Wrapper {
            indices: Indices,
        }
        toml::from_str::<Wrapper>(&format!("indices = {text}")).unwrap().indices
    }

    /// The measured points of the published table: 0 to 10, then every fourth from 14 on.
    #[test]
    fn lists_and_ranges_are_one_sequence() {
        let published = parse("[{ start = 0, end = 11 }, { start = 14, end = 1023, stride = 4 }]");
        assert_eq!(published.len(), 264);
        let all: Vec<u64> = (0..published.len()).filter_map(|place| published.get(place)).collect();
        assert_eq!((all.len(), all[10], all[11], all[12], all[263]), (264, 10, 14, 18, 1022));
        assert_eq!((published.largest(), published.get(264)), (Some(1022), None));
        assert_eq!(parse("[3, 1]").get(1), Some(1));
        assert_eq!(Indices::all(5).len(), 5);
    }

    #[test]
    fn what_holds_nothing_is_told() {
        assert_eq!(parse("[]").fault().unwrap(), "at least one index");
        assert!(parse("[{ start = 4, end = 4 }]").fault().unwrap().contains("4 to below 4"));
        assert!(parse("[{ start = 0, end = 4, stride = 0 }]").fault().unwrap().contains("stride"));
        assert!(parse("[0]").fault().is_none());
        let many = |count: usize| parse(&format!("[{}]", vec!["7"; count].join(",")));
        assert!(many(MAX_ENTRIES).fault().is_none());
        assert!(many(MAX_ENTRIES + 1).fault().unwrap().contains("at most 4096"));
    }
}
