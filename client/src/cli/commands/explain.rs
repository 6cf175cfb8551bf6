//! `nadgrid explain`: where a sweep, a job or a block stands, and why it does not run.

use crate::cli::args::ExplainArgs;
use crate::cli::{Failure, output, tables};
use nadgrid_client::{Address, Client, ExplanationView};

/// Asks about a task, and tells the answer.
pub(crate) async fn explain(at: Address, args: ExplainArgs) -> Result<(), Failure> {
    let client = Client::connect(&at).await?;
    let (sweep, job, block) = parts(&args.task)?;
    let job = match job {
        Some(job) => Some(place(&client, sweep, &job).await?),
        None => None,
    };
    let told = ExplanationView::from(client.explain(sweep, job, block).await?);
    if args.json.json {
        return output::print_json(&told);
    }
    let reasons: String = told.reasons.iter().map(|reason| format!("\n  {reason}")).collect();
    output::print(&format!("{} is {}{reasons}", told.subject, told.state))?;
    let workers =
        told.workers.into_iter().map(|worker| vec![worker.name, worker.id, worker.reason]).collect::<Vec<_>>();
    if workers.is_empty() { Ok(()) } else { output::print(&tables::table(&["worker", "id", "reason"], workers)) }
}

/// Sweep, job and block of a task. A job's name has a slash of its own.
fn parts(task: &str) -> Result<(&str, Option<String>, Option<u64>), Failure> {
    let wrong = || Failure::Usage(format!("TASK = {task:?}: SWEEP, SWEEP/JOB or SWEEP/JOB/BLOCK"));
    let words: Vec<&str> = task.split('/').collect();
    let block = |word: &str| word.parse::<u64>().map(Some).map_err(|_| wrong());
    let is_place = |word: &str| word.parse::<u32>().is_ok();
    match words[..] {
        [sweep] => Ok((sweep, None, None)),
        [sweep, job] if is_place(job) => Ok((sweep, Some(job.to_owned()), None)),
        [sweep, job, number] if is_place(job) => Ok((sweep, Some(job.to_owned()), block(number)?)),
        [sweep, experiment, architecture] => Ok((sweep, Some(format!("{experiment}/{architecture}")), None)),
        [sweep, experiment, architecture, number] => {
            Ok((sweep, Some(format!("{experiment}/{architecture}")), block(number)?))
        }
        _ => Err(wrong()),
    }
}

/// The place of a job in its sweep, given as such or by name.
async fn place(client: &Client, sweep: &str, job: &str) -> Result<u32, Failure> {
    if let Ok(place) = job.parse() {
        return Ok(place);
    }
    let jobs = client.get(sweep).await?.jobs;
    let names: Vec<String> = jobs.iter().map(|job| format!("{}/{}", job.experiment, job.architecture)).collect();
    let found = names.iter().position(|name| name == job);
    found
        .map(|place| place as u32)
        .ok_or_else(|| Failure::Usage(format!("job = {job:?}: sweep {sweep} has {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_sweeps_jobs_and_blocks() {
        let job = |text: &str| Some(text.to_owned());
        assert_eq!(parts("s").unwrap(), ("s", None, None));
        assert_eq!(parts("s/1").unwrap(), ("s", job("1"), None));
        assert_eq!(parts("s/1/7").unwrap(), ("s", job("1"), Some(7)));
        assert_eq!(parts("s/nads/lenet").unwrap(), ("s", job("nads/lenet"), None));
        assert_eq!(parts("s/nads/lenet/7").unwrap(), ("s", job("nads/lenet"), Some(7)));
        for wrong in ["s/x", "s/1/x", "s/a/b/c", "s/a/b/1/2"] {
            assert!(parts(wrong).is_err(), "{wrong}");
        }
    }
}
