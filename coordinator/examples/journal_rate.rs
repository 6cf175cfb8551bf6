//! Measures the records per second that a journal takes, by records in a batch: `journal_rate [URL]`.

use nadgrid_coordinator::journal::{self, Journal};
use nadgrid_core::grid::Node;
use nadgrid_core::ids::{Digest, JobIndex, SweepId, WorkerId};
use nadgrid_core::scheduler::{JobRef, Partial, Record};
use std::time::{Duration, Instant};

fn committed(index: u64) -> Record {
    let shard = JobRef::new(&SweepId::new("sweep"), JobIndex(0)).shard(Node::block(index));
    Record::Committed {
        shard,
        partial: Partial::stored(Digest::of(&index.to_le_bytes())),
        seconds: 1.0,
        worker: WorkerId::new("worker"),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let url = std::env::args().nth(1).unwrap_or_default();
    let folder = tempfile::tempdir_in(".")?;
    let mut journal = journal::open(&url.as_str().into(), folder.path(), Duration::ZERO).await?;
    for batch in [1, 10, 100, 1000] {
        let records: Vec<_> = (0..batch).map(committed).collect();
        let (started, mut count) = (Instant::now(), 0);
        while started.elapsed() < Duration::from_secs(2) {
            journal.append(&records).await?;
            count += 1;
        }
        let seconds = started.elapsed().as_secs_f64();
        let rate = (count * batch) as f64 / seconds;
        println!("{batch:5} records a batch: {rate:8.0} records/s, {:.2} ms a batch", seconds / count as f64 * 1e3);
    }
    let started = Instant::now();
    let replayed = journal.replay(&mut drop).await?;
    println!("replayed {replayed:?} in {:.2} s", started.elapsed().as_secs_f64());
    let started = Instant::now();
    // The records are of no sweep, so that there is nothing to replay: only what is read back is measured.
    let written = journal.compact(&mut (0..100_000).map(committed), Box::new(())).await?;
    println!("compacted to {written:?} in {:.2} s", started.elapsed().as_secs_f64());
    Ok(())
}
