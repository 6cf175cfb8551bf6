//! A coordinator's messages, made harmless where they enter: a coordinator may be somebody else's, and hostile.
//!
//! Whatever comes is cleaned here, once, before anything else sees it: text holds nothing that a terminal obeys and has a greatest
//! length, numbers are finite and can be added up, moments are of this era, and lists end. What an honest coordinator sends stays as it is.
//! Absent: judgement. That a message belongs to its request, its files are those announced, and a name may become a path, others check.

use nadgrid_core::text::clean;
use nadgrid_proto::v1;
use nadgrid_proto::v1::upload_input_response::Message;
use prost_types::Timestamp;

/// Characters of a name, an id, a digest or a version.
const NAME: usize = 256;
/// The most characters that a path may have.
const PATH: usize = 4_096;
/// The most characters that a sentence may have.
pub(crate) const SENTENCE: usize = 4_096;
/// Entries of a list.
const ENTRIES: usize = 1 << 14;
/// The most sentences about one thing.
const SENTENCES: usize = 256;
/// Largest count: the sum over a list is still a number.
const COUNT: u64 = 1 << 40;
/// Greatest number of seconds, or of anything measured.
const AMOUNT: f64 = 1e15;
/// The last second of the year 9999.
const LAST_SECOND: i64 = 253_402_300_799;

/// Something a coordinator has sent.
pub(crate) trait Untrusted {
    /// Makes it harmless.
    fn clean(&mut self);
}

impl<T: Untrusted> Untrusted for Option<T> {
    fn clean(&mut self) {
        if let Some(message) = self {
            message.clean();
        }
    }
}

/// At most so many entries, each of them clean.
fn list<T: Untrusted>(entries: &mut Vec<T>) {
    entries.truncate(ENTRIES);
    entries.iter_mut().for_each(Untrusted::clean);
}

fn text(text: &mut String, most: usize) {
    *text = clean(text, most);
}

fn names<const N: usize>(names: [&mut String; N]) {
    names.into_iter().for_each(|name| text(name, NAME));
}

fn sentences(sentences: &mut Vec<String>) {
    sentences.truncate(SENTENCES);
    sentences.iter_mut().for_each(|sentence| text(sentence, SENTENCE));
}

/// TOML has lines, and no other control characters but tabs.
fn toml(spec: &mut String) {
    if spec.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        let kept = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c };
        *spec = spec.chars().map(kept).collect();
    }
}

fn counts<const N: usize>(counts: [&mut u64; N]) {
    counts.into_iter().for_each(|count| *count = (*count).min(COUNT));
}

fn share(share: &mut f64) {
    *share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
}

fn amount(amount: &mut f64) {
    *amount = if amount.is_nan() { 0.0 } else { amount.clamp(0.0, AMOUNT) };
}

/// An estimate that is none is not told.
fn estimate(seconds: &mut Option<f64>) {
    *seconds = seconds.filter(|seconds| (0.0..=AMOUNT).contains(seconds));
}

fn moment(at: &mut Option<Timestamp>) {
    let is_sound = |at: &Timestamp| (0..=LAST_SECOND).contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos);
    *at = at.take().filter(is_sound);
}

impl Untrusted for v1::Sweep {
    fn clean(&mut self) {
        names([&mut self.id, &mut self.name, &mut self.digest, &mut self.coordinator_version, &mut self.owner]);
        text(&mut self.message, SENTENCE);
        toml(&mut self.spec);
        sentences(&mut self.notices);
        self.numerics_class.clean();
        list(&mut self.jobs);
        list(&mut self.artifacts);
        list(&mut self.inputs);
        list(&mut self.failures);
        [&mut self.submitted_at, &mut self.started_at, &mut self.ended_at].into_iter().for_each(moment);
        share(&mut self.progress);
        estimate(&mut self.seconds_left);
        amount(&mut self.weight);
    }
}

impl Untrusted for v1::Job {
    fn clean(&mut self) {
        names([&mut self.experiment, &mut self.architecture, &mut self.digest]);
        counts([
            &mut self.members,
            &mut self.members_done,
            &mut self.members_in_flight,
            &mut self.members_failed,
            &mut self.shards,
            &mut self.retries,
            &mut self.speculative,
            &mut self.audits_due,
            &mut self.audits_passed,
            &mut self.partials,
        ]);
        self.members_done = self.members_done.min(self.members);
        share(&mut self.progress);
        estimate(&mut self.seconds_left);
        amount(&mut self.slot_seconds);
        amount(&mut self.members_per_second);
    }
}

impl Untrusted for v1::Artifact {
    /// Its size stays: what is too large is refused, and the refusal names it.
    fn clean(&mut self) {
        names([&mut self.name, &mut self.digest]);
    }
}

impl Untrusted for v1::Input {
    fn clean(&mut self) {
        text(&mut self.name, PATH);
        text(&mut self.digest, NAME);
        counts([&mut self.size]);
    }
}

impl Untrusted for v1::ShardFailure {
    fn clean(&mut self) {
        text(&mut self.message, SENTENCE);
        counts([&mut self.first_block, &mut self.blocks]);
        self.workers.truncate(SENTENCES);
        self.workers.iter_mut().for_each(|worker| text(worker, NAME));
    }
}

impl Untrusted for v1::NumericsClass {
    fn clean(&mut self) {
        let v1::NumericsClass { device, arithmetic, evaluation, libtorch, precision, kernels: _ } = self;
        names([device, arithmetic, evaluation, libtorch, precision]);
    }
}

impl Untrusted for v1::Worker {
    fn clean(&mut self) {
        names([&mut self.id, &mut self.name, &mut self.version, &mut self.rate_of]);
        text(&mut self.unfit, SENTENCE);
        text(&mut self.last_error, SENTENCE);
        self.numerics_class.clean();
        counts([&mut self.silent_ms, &mut self.members_done, &mut self.transfers_waiting_ms]);
        amount(&mut self.members_per_second);
        amount(&mut self.transfer_bytes_per_second);
    }
}

impl Untrusted for v1::ListResponse {
    fn clean(&mut self) {
        list(&mut self.sweeps);
        sentences(&mut self.notices);
    }
}

impl Untrusted for v1::ListWorkersResponse {
    fn clean(&mut self) {
        list(&mut self.workers);
        sentences(&mut self.notices);
    }
}

impl Untrusted for v1::SubmitResponse {
    fn clean(&mut self) {
        self.sweep.clean();
    }
}

impl Untrusted for v1::ExplainResponse {
    fn clean(&mut self) {
        names([&mut self.subject, &mut self.state]);
        sentences(&mut self.reasons);
        list(&mut self.workers);
    }
}

impl Untrusted for v1::WorkerReason {
    fn clean(&mut self) {
        names([&mut self.worker_id, &mut self.name]);
        text(&mut self.reason, SENTENCE);
    }
}

impl Untrusted for v1::VerifyResponse {
    fn clean(&mut self) {
        names([
            &mut self.job,
            &mut self.committed,
            &mut self.recomputed,
            &mut self.committed_by,
            &mut self.recomputed_by,
        ]);
        text(&mut self.message, SENTENCE);
        if let Some(shard) = &mut self.shard {
            text(&mut shard.sweep_id, NAME);
            counts([&mut shard.first_block, &mut shard.blocks]);
        }
    }
}

impl Untrusted for v1::PlanResponse {
    fn clean(&mut self) {
        list(&mut self.jobs);
        amount(&mut self.seconds);
    }
}

impl Untrusted for v1::JobPlan {
    fn clean(&mut self) {
        names([&mut self.experiment, &mut self.architecture, &mut self.basis]);
        amount(&mut self.seconds);
        amount(&mut self.gpu_seconds);
    }
}

impl Untrusted for v1::ReadArtifactResponse {
    fn clean(&mut self) {
        self.artifact.clean();
    }
}

impl Untrusted for v1::UploadInputResponse {
    fn clean(&mut self) {
        if let Some(Message::Stored(stored)) = &mut self.message {
            text(&mut stored.digest, NAME);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nadgrid_proto::views::SweepView;

    const PAINT: &str = "\u{1b}]52;c;cm0gLXJm\u{7}\r\nerror: forged\u{202e}\u{9b}2J";

    fn is_harmless(text: &str) -> bool {
        text == clean(text, usize::MAX)
    }

    /// Every field of the JSON that is shown, whatever its name.
    #[test]
    fn no_text_of_a_sweep_is_obeyed_by_a_terminal() {
        let paint = || PAINT.to_owned();
        let job = v1::Job { experiment: paint(), architecture: paint(), digest: paint(), ..Default::default() };
        let failure = v1::ShardFailure { workers: vec![paint()], message: paint(), ..Default::default() };
        let class = v1::NumericsClass { device: paint(), libtorch: paint(), ..Default::default() };
        let mut sweep = v1::Sweep {
            id: paint(),
            name: paint(),
            spec: paint(),
            digest: paint(),
            message: paint(),
            owner: paint(),
            coordinator_version: paint(),
            notices: vec![paint()],
            numerics_class: Some(class),
            jobs: vec![job],
            failures: vec![failure],
            artifacts: vec![v1::Artifact { name: paint(), size: 1, digest: paint() }],
            inputs: vec![v1::Input { name: paint(), size: 1, digest: paint() }],
            ..Default::default()
        };
        sweep.clean();
        let mut view = SweepView::from(&sweep);
        assert!(view.spec.chars().all(|c| c == '\n' || !c.is_control()), "{:?}", view.spec);
        view.spec.clear();
        // JSON escapes the characters below U+0020: their escapes are looked for, too.
        let json = serde_json::to_string(&view).unwrap();
        let escaped = ["\\u00", "\\r", "\\n", "\\b", "\\f"].iter().any(|escape| json.contains(escape));
        assert!(is_harmless(&json) && !escaped && json.contains("error: forged"), "{json}");
    }

    #[test]
    fn numbers_can_be_added_up_and_shown() {
        let job = v1::Job {
            members: u64::MAX,
            members_done: u64::MAX,
            members_in_flight: u64::MAX,
            progress: f64::NAN,
            slot_seconds: f64::INFINITY,
            members_per_second: -1.0,
            seconds_left: Some(f64::NAN),
            ..Default::default()
        };
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let mut sweep = v1::Sweep {
            jobs: vec![job; 3],
            progress: 7.0,
            seconds_left: Some(f64::NEG_INFINITY),
            weight: f64::NAN,
            submitted_at: at(i64::MAX),
            started_at: Some(Timestamp { seconds: 1, nanos: -1 }),
            ended_at: at(1),
            ..Default::default()
        };
        sweep.clean();
        assert_eq!(sweep.jobs.iter().map(|job| job.members + job.members_in_flight).sum::<u64>(), 6 * COUNT);
        let job = &sweep.jobs[0];
        assert_eq!((job.progress, job.members_per_second, job.seconds_left), (0.0, 0.0, None));
        assert!(job.slot_seconds.is_finite());
        assert_eq!((sweep.progress, sweep.seconds_left, sweep.weight), (1.0, None, 0.0));
        assert_eq!((sweep.submitted_at, sweep.started_at, sweep.ended_at), (None, None, at(1)));
    }

    #[test]
    fn lists_and_texts_end() {
        let mut told = v1::ListWorkersResponse {
            workers: vec![v1::Worker { name: "x".repeat(10_000), ..Default::default() }; 2],
            notices: vec!["n".repeat(1 << 20); 1_000],
        };
        told.clean();
        assert_eq!((told.workers[0].name.chars().count(), told.notices.len()), (NAME, SENTENCES));
        assert_eq!(told.notices[0].chars().count(), SENTENCE);
    }

    #[test]
    fn what_is_honest_stays_as_it_is() {
        let job = v1::Job {
            architecture: "lenet".into(),
            members: 2048,
            members_done: 2048,
            progress: 0.5,
            seconds_left: Some(2.5),
            ..Default::default()
        };
        let sweep = v1::Sweep {
            id: "019a-s".into(),
            name: "é-x".into(),
            spec: "name = 'x'\n\tseed = 1 # ü\n".into(),
            jobs: vec![job],
            notices: vec!["no worker".into()],
            submitted_at: Some(Timestamp { seconds: 1_700_000_000, nanos: 999_999_999 }),
            weight: 1.0,
            ..Default::default()
        };
        let mut cleaned = sweep.clone();
        cleaned.clean();
        assert_eq!(cleaned, sweep);
    }
}
