//! Reductions of stored partials: the same whatever the cut, and damage is named.

use super::*;
use nadgrid_core::ids::{Digest, WorkerId};
use nadgrid_core::moments::Moments;
use nadgrid_core::runs::{Outcome, to_bytes};
use nadgrid_core::scheduler::Partial;
use nadgrid_core::spec::Inputs;

const SPEC: &str = "name = 't'\narchitectures = ['logreg']\ninput = { height = 1, width = 3 }\n\
                    [nads]\nnetworks = 10\nblock_size = 4\n\
                    [directional]\ndirections = { kind = 'pixels', indices = [0, 2] }\nseeds = 2\nblock_size = 1";

struct TestStore {
    spec: Spec,
    store: Store,
    _folder: tempfile::TempDir,
}

impl TestStore {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        Self { spec: Spec::from_toml(SPEC).unwrap(), store, _folder: folder }
    }

    fn job(&self, job: usize) -> JobShape {
        self.spec.jobs(&Inputs::new())[job].clone()
    }

    async fn reduce(&self, job: usize, partials: &[(Node, Partial)]) -> Result<JobResult, ReduceError> {
        let spec = self.spec.clone();
        let store = self.store.clone();
        let job = self.job(job);
        let mut committed = Committed::new(job.grid.blocks());
        partials.iter().for_each(|(node, partial)| committed.insert(*node, partial, &WorkerId::new("w")));
        let reduced = move || reduce(&spec, &job, &committed, &store, &Handle::current());
        tokio::task::spawn_blocking(reduced).await.unwrap().map(|(result, _)| result)
    }

    /// Merges the partials of a node of the first job; what is stored.
    async fn merge(&self, node: Node, partials: &[(Node, Partial)]) -> Result<Digest, ReduceError> {
        let store = self.store.clone();
        let job = self.job(0);
        let stored = |(node, partial): &(Node, Partial)| StoredPartial { node: *node, bytes: partial.bytes.clone() };
        let partials: Vec<StoredPartial> = partials.iter().map(stored).collect();
        let merged = move || merge(&job, node, &partials, &store, &Handle::current());
        tokio::task::spawn_blocking(merged).await.unwrap().map(|(held, _)| held.digest())
    }

    async fn put(&self, node: Node, bytes: Vec<u8>) -> (Node, Partial) {
        (node, Partial::stored(self.store.put(bytes).await.unwrap().digest()))
    }

    fn inline(node: Node, bytes: Vec<u8>) -> (Node, Partial) {
        let content = Digest::of(&bytes);
        (node, Partial { bytes: PartialBytes::Inline(bytes.into()), content })
    }

    /// The moments of the ten networks, a block each.
    async fn blocks(&self) -> Vec<(Node, Partial)> {
        let rows: Vec<f32> = (0..30).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
        let mut partials = Vec::new();
        for (block, rows) in rows.chunks(12).enumerate() {
            partials.push(self.put(Node::block(block as u64), Moments::of_rows(rows, 3).to_bytes()).await);
        }
        partials
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partial_is_named_and_the_rest_reduces() {
    let place = TestStore::new();
    let partials = place.blocks().await;
    let result = place.reduce(0, &partials).await.unwrap();
    let names: Vec<_> = result.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    let expected = ["nads", "singular_values", "standard_errors", "eigenvalues", "spectrum", "mean"];
    assert!(
        names.iter().zip(expected).all(|(name, file)| name.starts_with(&format!("nads/logreg/{file}."))),
        "{names:?}"
    );
    assert_eq!(place.reduce(0, &partials).await.unwrap(), result);
    assert!(matches!(place.reduce(0, &partials[..2]).await, Err(ReduceError::Tree(_))));
    assert!(place.store.removal().remove(partials[1].1.blob().unwrap()).await.unwrap());
    let error = place.reduce(0, &partials).await.unwrap_err();
    assert!(matches!(error, ReduceError::Partial { node, .. } if node == Node::block(1)), "{error}");
}

/// Merging partials before the reduction changes no bit, and the merged partial replaces its parts.
#[tokio::test(flavor = "multi_thread")]
async fn merges_on_the_way_change_no_bit() {
    let place = TestStore::new();
    let partials = place.blocks().await;
    let whole = place.reduce(0, &partials).await.unwrap();
    let left = Node { level: 1, index: 0 };
    let merged = place.merge(left, &partials[..2]).await.unwrap();
    let swapped = place.merge(left, &[partials[1].clone(), partials[0].clone()]).await.unwrap_err();
    assert!(matches!(swapped, ReduceError::Tree(_)), "{swapped}");
    for partial in &partials[..2] {
        assert!(place.store.removal().remove(partial.1.blob().unwrap()).await.unwrap());
    }
    let reduced = place.reduce(0, &[(left, Partial::stored(merged)), partials[2].clone()]).await.unwrap();
    assert_eq!((&reduced.digest, &reduced.artifacts), (&whole.digest, &whole.artifacts));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_names_what_is_damaged() {
    let place = TestStore::new();
    let partials = place.blocks().await;
    let left = Node { level: 1, index: 0 };
    // Of another shape than the shard's.
    let short = place.put(Node::block(0), Moments::of_rows(&[1.0, 2.0, 3.0], 3).to_bytes()).await;
    let error = place.merge(left, &[short, partials[1].clone()]).await.unwrap_err();
    assert!(
        matches!(&error, ReduceError::Partial { node, cause } if *node == Node::block(0) && cause.contains("count is 1")),
        "{error}"
    );
    assert!(place.store.removal().remove(partials[1].1.blob().unwrap()).await.unwrap());
    let error = place.merge(left, &partials[..2]).await.unwrap_err();
    assert!(matches!(error, ReduceError::Partial { node, .. } if node == Node::block(1)), "{error}");
}

/// Partials whose numbers are no gradients', each small enough to be read: the one that spoils the merge is named, there and in
/// the reduction.
#[tokio::test(flavor = "multi_thread")]
async fn what_spoils_a_merge_is_named() {
    let place = TestStore::new();
    let mut partials = place.blocks().await;
    let lie = Moments { count: 4, mean: vec![0.0; 3], scatter: vec![9e119; 6] };
    let is_named = |error: &ReduceError, block: u64| {
        matches!(error, ReduceError::Partial { node, cause }
            if *node == Node::block(block) && cause.starts_with("scatter[0] is 9e119; with gradients"))
    };
    let honest = std::mem::replace(&mut partials[1], place.put(Node::block(1), lie.to_bytes()).await);
    // Alone it can be merged, and is as wrong as a lie can be that looks like gradients.
    assert!(place.merge(Node { level: 1, index: 0 }, &partials[..2]).await.is_ok());
    partials[0] = place.put(Node::block(0), lie.to_bytes()).await;
    let error = place.merge(Node { level: 1, index: 0 }, &partials[..2]).await.unwrap_err();
    assert!(is_named(&error, 0), "{error}");
    let error = place.reduce(0, &partials).await.unwrap_err();
    assert!(is_named(&error, 0), "{error}");
    partials[1] = honest;
    place.reduce(0, &partials).await.unwrap();
}

/// Four runs in two cuts: one table, one digest. A diverged run has a line, and no numbers.
#[tokio::test(flavor = "multi_thread")]
async fn runs_are_a_table_whatever_the_cut() {
    let place = TestStore::new();
    let good =
        |accuracy: f64| Outcome { train_accuracy: 100.0, test_accuracy: accuracy, epochs: 20, ..Outcome::default() };
    let runs = [good(90.0), good(50.5), Outcome::diverged(3, 240), good(75.0)];
    let bytes = |runs: &[Outcome]| to_bytes(runs, 0);
    let node = |level, index| Node { level, index };
    let halves = [place.put(node(1, 0), bytes(&runs[..2])).await, place.put(node(1, 1), bytes(&runs[2..])).await];
    let whole = [place.put(node(2, 0), bytes(&runs)).await];
    let inline = [TestStore::inline(node(1, 0), bytes(&runs[..2])), TestStore::inline(node(1, 1), bytes(&runs[2..]))];
    let result = place.reduce(1, &halves).await.unwrap();
    for other in [&whole[..], &inline[..]] {
        let other = place.reduce(1, other).await.unwrap();
        assert_eq!((&result.digest, &result.artifacts), (&other.digest, &other.artifacts));
    }
    assert_eq!(result.artifacts[0].name, "directional/logreg.csv");
    let table = String::from_utf8(place.store.get(result.artifacts[0].digest).await.unwrap()).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("architecture,direction,kind,index,k1,k2,seed,train_accuracy,"));
    assert_eq!(lines[2], "logreg,pixel 0,pixel,0,,,1,100,50.5,0,0,20,0.000,");
    assert_eq!(lines[3], "logreg,pixel 2,pixel,2,,,0,,,,,3,0.000,240");
    assert_eq!(lines.len(), 5);
}
