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

struct Place {
    spec: Spec,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::local(folder.path()).unwrap();
        Self { spec: Spec::from_toml(SPEC).unwrap(), store, _folder: folder }
    }

    async fn reduce(&self, job: usize, partials: &[Contribution]) -> Result<JobResult, ReduceError> {
        let (spec, store, partials) = (self.spec.clone(), self.store.clone(), partials.to_vec());
        let job = spec.jobs(&Inputs::new())[job].clone();
        let reduced = move || reduce(&spec, &job, &partials, &store, &Handle::current());
        tokio::task::spawn_blocking(reduced).await.unwrap().map(|(result, _)| result)
    }

    async fn put(&self, node: Node, bytes: Vec<u8>) -> Contribution {
        let partial = Partial::stored(self.store.put(bytes).await.unwrap().digest());
        Contribution { node, partial, worker: WorkerId::new("w") }
    }

    fn inline(node: Node, bytes: Vec<u8>) -> Contribution {
        let content = Digest::of(&bytes);
        let partial = Partial { bytes: PartialBytes::Inline(bytes.into()), content };
        Contribution { node, partial, worker: WorkerId::new("w") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_partial_is_named_and_the_rest_reduces() {
    let place = Place::new();
    let rows: Vec<f32> = (0..30).map(|i| ((i * 37) % 11) as f32 - 5.0).collect();
    let mut partials = Vec::new();
    for (block, rows) in rows.chunks(12).enumerate() {
        partials.push(place.put(Node::block(block as u64), Moments::of_rows(rows, 3).to_bytes()).await);
    }
    let result = place.reduce(0, &partials).await.unwrap();
    let names: Vec<_> = result.artifacts.iter().map(|artifact| artifact.name.as_str()).collect();
    let expected = ["nads", "singular_values", "standard_errors", "eigenvalues", "spectrum", "mean"];
    assert!(
        names.iter().zip(expected).all(|(name, file)| name.starts_with(&format!("nads/logreg/{file}."))),
        "{names:?}"
    );
    assert_eq!(place.reduce(0, &partials).await.unwrap(), result);
    assert!(matches!(place.reduce(0, &partials[..2]).await, Err(ReduceError::Tree(_))));
    assert!(place.store.removal().remove(partials[1].partial.blob().unwrap()).await.unwrap());
    let error = place.reduce(0, &partials).await.unwrap_err();
    assert!(matches!(error, ReduceError::Partial { node, .. } if node == Node::block(1)), "{error}");
}

/// Four runs in two cuts: one table, one digest. A diverged run has a line, and no numbers.
#[tokio::test(flavor = "multi_thread")]
async fn runs_are_a_table_whatever_the_cut() {
    let place = Place::new();
    let good =
        |accuracy: f64| Outcome { train_accuracy: 100.0, test_accuracy: accuracy, epochs: 20, ..Outcome::default() };
    let runs = [good(90.0), good(50.5), Outcome::diverged(3, 240), good(75.0)];
    let bytes = |runs: &[Outcome]| to_bytes(runs, 0);
    let node = |level, index| Node { level, index };
    let halves = [place.put(node(1, 0), bytes(&runs[..2])).await, place.put(node(1, 1), bytes(&runs[2..])).await];
    let whole = [place.put(node(2, 0), bytes(&runs)).await];
    let inline = [Place::inline(node(1, 0), bytes(&runs[..2])), Place::inline(node(1, 1), bytes(&runs[2..]))];
    let result = place.reduce(1, &halves).await.unwrap();
    for other in [&whole[..], &inline[..]] {
        let other = place.reduce(1, other).await.unwrap();
        assert_eq!((&result.digest, &result.artifacts), (&other.digest, &other.artifacts));
    }
    assert_eq!(result.artifacts[0].name, "directional/logreg.csv");
    let table = String::from_utf8(place.store.get(result.artifacts[0].digest).await.unwrap()).unwrap();
    let lines: Vec<_> = table.lines().collect();
    assert!(lines[0].starts_with("architecture,direction,seed,train_accuracy,test_accuracy,"));
    assert_eq!(lines[2], "logreg,pixel 0,1,100,50.5,0,0,20,0.000,");
    assert_eq!(lines[3], "logreg,pixel 2,0,,,,,3,0.000,240");
    assert_eq!(lines.len(), 5);
}
