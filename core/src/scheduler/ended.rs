//! EndedSweeps sweeps, and which of them is forgotten next.
//!
//! Only so many are kept. Where there are more, the oldest goes of the owner who has most: whoever lets thousands of sweeps end
//! makes room of their own, and nobody else's results are lost by it.

use crate::ids::{SweepId, Time};
use std::collections::{BTreeMap, HashMap};

/// An ended sweep's place among its owner's, and how many sweeps it counts as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EndedKey {
    pub(super) at: Time,
    pub(super) number: u64,
    pub(super) size: usize,
}

/// The ended sweeps of one owner.
#[derive(Debug, Default)]
struct Owned {
    sweeps: BTreeMap<EndedKey, SweepId>,
    size: usize,
}

/// EndedSweeps sweeps by owner, oldest first.
#[derive(Debug, Default)]
pub(super) struct EndedSweeps {
    owners: HashMap<String, Owned>,
    size: usize,
    count: usize,
}

impl EndedSweeps {
    /// Returns the number of ended sweeps.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// Returns how many sweeps they count as.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    pub(super) fn insert(&mut self, owner: String, place: EndedKey, id: SweepId) {
        let owned = self.owners.entry(owner).or_default();
        if owned.sweeps.insert(place, id).is_none() {
            owned.size += place.size;
            self.size += place.size;
            self.count += 1;
        }
    }

    pub(super) fn remove(&mut self, owner: &str, place: &EndedKey) {
        let Some(owned) = self.owners.get_mut(owner) else { return };
        if owned.sweeps.remove(place).is_some() {
            owned.size -= place.size;
            self.size -= place.size;
            self.count -= 1;
        }
        if owned.sweeps.is_empty() {
            self.owners.remove(owner);
        }
    }

    /// Returns whether an owner's sweep of this number ended at this time.
    pub(super) fn has(&self, owner: &str, at: Time, number: u64) -> bool {
        let places = EndedKey { at, number, size: 0 }..=EndedKey { at, number, size: usize::MAX };
        self.owners.get(owner).is_some_and(|owned| owned.sweeps.range(places).next().is_some())
    }

    /// The oldest of the owner who has most; of two who have as much, of the one who has the older.
    pub(super) fn next_to_forget(&self) -> Option<&SweepId> {
        let firsts = self.owners.values().filter_map(|owned| Some((owned.size, owned.sweeps.first_key_value()?)));
        let most = firsts.max_by(|(a, (first, _)), (b, (second, _))| a.cmp(b).then(second.cmp(first)));
        most.map(|(_, (_, id))| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(number: u64, size: usize) -> EndedKey {
        EndedKey { at: Time(number), number, size }
    }

    #[test]
    fn whoever_has_most_makes_room() {
        let mut ended = EndedSweeps::default();
        ended.insert("ada".into(), place(1, 1), SweepId::new("a1"));
        for number in 2..6 {
            ended.insert("mal".into(), place(number, 1), SweepId::new(format!("m{number}")));
        }
        ended.insert("ada".into(), place(6, 1), SweepId::new("a6"));
        let mut gone = Vec::new();
        while ended.size() > 2 {
            let id = ended.next_to_forget().unwrap().clone();
            let owner = if id.as_str().starts_with('a') { "ada" } else { "mal" };
            let number = id.as_str()[1..].parse().unwrap();
            ended.remove(owner, &place(number, 1));
            gone.push(id.as_str().to_owned());
        }
        // Once both have two, the older one goes.
        assert_eq!(gone, ["m2", "m3", "a1", "m4"]);
        assert_eq!((ended.len(), ended.has("mal", Time(5), 5), ended.has("ada", Time(1), 1)), (2, true, false));
    }

    #[test]
    fn a_long_spec_counts_as_several() {
        let mut ended = EndedSweeps::default();
        ended.insert("ada".into(), place(1, 1), SweepId::new("a"));
        ended.insert("ada".into(), place(2, 1), SweepId::new("b"));
        ended.insert("mal".into(), place(3, 3), SweepId::new("long"));
        assert_eq!((ended.size(), ended.len(), ended.next_to_forget().unwrap().as_str()), (5, 3, "long"));
    }
}
