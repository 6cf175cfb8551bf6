//! A whole worker in this process, against a coordinator that the test plays.

use crate::support::{Coordinator, Heard};
use nadgrid_configuration::{KeyFlags, Variables};
use nadgrid_core::moments::{Moments, partial_bytes};
use nadgrid_core::random::evaluation_point;
use nadgrid_core::spec::{Experiment, Spec};
use nadgrid_kernels::{CentralDifference, block_moments};
use nadgrid_proto::status::Reason;
use nadgrid_proto::v1;
use nadgrid_proto::v1::session_request::Message;
use nadgrid_telemetry::Tracer;
use nadgrid_worker::config::WorkerConfig;
use nadgrid_worker::error::WorkerError;
use nadgrid_worker::run;
use nadgrid_worker::shutdown::Stop;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// 16 x 16 pixels: fast in debug builds too. There are more networks than any test sees the end of.
const SMALL: &str = "name = 'small'\nseed = 4\narchitectures = ['lenet']\ninput = { height = 16, width = 16 }\n\
                     [nads]\nnetworks = 4000000\nblock_size = 4";
/// D = 1024: a partial of more than 4 MiB, tonic's limit for one message.
const WIDE: &str = "name = 'wide'\narchitectures = ['logreg']\n[nads]\nnetworks = 64\nblock_size = 16";

/// Blocks of a shard that takes minutes, and would take seconds on a machine a hundred times as fast.
const ENDLESS: u64 = 1 << 18;

pub(crate) struct Worker {
    pub(crate) stop: Stop,
    pub(crate) thread: JoinHandle<Result<(), WorkerError>>,
}

impl Worker {
    pub(crate) fn start(url: &str, options: &[(&'static str, &str)]) -> Self {
        let fixed = [("coordinator", url), ("device", "cpu"), ("connect_timeout", "10"), ("reconnect_timeout", "10")];
        let all = options.iter().copied().chain(fixed);
        let flags = all.fold(KeyFlags::default(), |flags, (key, value)| flags.with(key, value));
        let config = WorkerConfig::load(&flags, &Variables::default()).unwrap();
        let stop = Stop::default();
        let stopped = stop.clone();
        Self { stop, thread: std::thread::spawn(move || run(&config, stopped, &Tracer::off())) }
    }

    pub(crate) fn stop(self) -> Result<(), WorkerError> {
        self.stop.end();
        self.thread.join().unwrap()
    }

    /// As a signal does.
    pub(crate) fn drain(self) -> Result<(), WorkerError> {
        self.stop.drain();
        self.thread.join().unwrap()
    }
}

pub(crate) fn shard(first_block: u64, blocks: u64) -> v1::Shard {
    v1::Shard { sweep_id: "s".into(), job: 0, first_block, blocks }
}

pub(crate) fn count(heard: &Heard, which: impl Fn(&Message) -> bool) -> usize {
    heard.messages.iter().filter(|(_, message)| which(message)).count()
}

/// The moments by their definition: every block by the kernels, merged in pairs.
fn directly(spec: &str, blocks: std::ops::Range<u64>) -> Moments {
    let spec = Spec::from_toml(spec).unwrap();
    let architecture = &spec.architectures[0];
    let nads = spec.nads.as_ref().unwrap();
    let network = spec.network(architecture, Experiment::Nads).unwrap();
    let points = [evaluation_point(spec.seed, 0, network.input().len())];
    let mut plan = CentralDifference::new(&network).unwrap();
    let size = u64::from(nads.block_size);
    let mut block = |b: u64| {
        let draw = |member, out: &mut [f32]| network.initialise(spec.seed, architecture, member, out);
        let gradient = |p: &[f32], x: &[f32], out: &mut [f32]| plan.gradient(p, x, nads.step as f32, out);
        block_moments(&network, b * size..(b + 1) * size, &points, draw, gradient).unwrap()
    };
    let mut level: Vec<Moments> = blocks.map(&mut block).collect();
    while level.len() > 1 {
        level = level.chunks(2).map(|pair| pair[0].clone().merge(&pair[1])).collect();
    }
    level.remove(0)
}

#[test]
fn a_shard_comes_back_as_the_moments_of_its_members() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "2"), ("name", "w")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.assign(SMALL, "lenet", &shard(8, 8));
    script.assign(WIDE, "logreg", &shard(0, 4));
    script.until("two uploads", |heard| heard.uploads.len() == 2);
    // Not while the coordinator waits for its ears: the worker would take it to be gone.
    let (small, wide) = (directly(SMALL, 8..16).to_bytes(), directly(WIDE, 0..4).to_bytes());
    script.heard(|heard| {
        let hello = &heard.hellos[0];
        assert_eq!((hello.name.as_str(), hello.slots, hello.held.len()), ("w", 2, 0));
        assert_eq!(hello.protocol_version, nadgrid_core::PROTOCOL_VERSION);
        let class = hello.numerics_class.as_ref().unwrap();
        assert_eq!((class.device.as_str(), class.arithmetic.as_str()), ("cpu", "portable"));
        let upload = |blocks| heard.uploads.iter().find(|u| u.header.shard.as_ref().unwrap().blocks == blocks).unwrap();
        assert_eq!(upload(8).bytes, small);
        assert_eq!(upload(4).bytes, wide);
        assert_eq!(upload(4).bytes.len(), partial_bytes(1024));
        assert!(upload(4).bytes.len() > 4 << 20, "this must not fit one message");
        let header = &upload(8).header;
        assert_eq!((&header.worker_id, header.numerics_class.as_ref()), (&hello.worker_id, Some(class)));
        assert!(header.seconds > 0.0);
    });
    script.until("both computed", |heard| count(heard, |m| matches!(m, Message::Computed(_))) == 2);
    worker.stop().unwrap();
    script.until("the end", |heard| heard.ended == 1);
    script.heard(|heard| assert!(matches!(heard.messages.last(), Some((_, Message::Goodbye(_))))));
}

#[test]
fn heartbeats_and_progress_leave_a_busy_worker_and_a_revocation_ends_it() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "1")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.assign(SMALL, "lenet", &shard(0, ENDLESS));
    let began = Instant::now();
    std::thread::sleep(Duration::from_millis(1500));
    script.heard(|heard| {
        let beats: Vec<Instant> = heard
            .messages
            .iter()
            .filter(|(at, m)| *at > began && matches!(m, Message::Heartbeat(_)))
            .map(|(at, _)| *at)
            .collect();
        // One every 50 ms is due; machines that run tests stall.
        assert!(beats.len() >= 8, "{} heartbeats", beats.len());
        let longest = beats.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(longest < Duration::from_millis(700), "{longest:?} without a heartbeat");
        let told = progress(heard).len();
        assert!((1..=9).contains(&told), "{told} messages of progress in 1.5 s");
    });
    script.revoke(&shard(0, ENDLESS));
    script.assign(SMALL, "lenet", &shard(1016, 4));
    script.until("the next shard", |heard| heard.uploads.len() == 1);
    script.heard(|heard| assert_eq!(heard.uploads[0].header.shard, Some(shard(1016, 4))));
    worker.stop().unwrap();
}

fn progress(heard: &Heard) -> Vec<u64> {
    let told = |(_, message): &(Instant, Message)| match message {
        Message::Progress(progress) => Some(progress.blocks_done),
        _ => None,
    };
    heard.messages.iter().filter_map(told).collect()
}

#[test]
fn after_a_lost_connection_it_names_what_it_holds_and_computes_on() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "1")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.assign(SMALL, "lenet", &shard(0, ENDLESS));
    script.assign(SMALL, "lenet", &shard(ENDLESS, 1));
    script.until("progress", |heard| !progress(heard).is_empty());
    script.hang_up();
    script.until("a second hello", |heard| heard.hellos.len() == 2);
    let before = script.heard(|heard| {
        assert_eq!(heard.hellos[0].worker_id, heard.hellos[1].worker_id);
        assert_eq!(heard.hellos[1].held, [shard(0, ENDLESS), shard(ENDLESS, 1)]);
        progress(heard).len()
    });
    script.until("more progress", |heard| progress(heard).len() > before + 1);
    script.heard(|heard| assert!(progress(heard).is_sorted(), "it began again: {:?}", progress(heard)));
    script.revoke(&shard(0, ENDLESS));
    script.until("the upload", |heard| heard.uploads.len() == 1);
    script.heard(|heard| assert_eq!(heard.uploads[0].bytes, directly(SMALL, ENDLESS..ENDLESS + 1).to_bytes()));
    worker.stop().unwrap();
}

/// The coordinator dies before it has taken a result, and is back on its port a while later.
#[test]
fn a_result_outlives_the_coordinator() {
    let coordinator = Coordinator::start();
    let address = coordinator.address;
    let worker = Worker::start(&coordinator.url(), &[("slots", "1")]);
    coordinator.script.until("a hello", |heard| heard.hellos.len() == 1);
    coordinator.script.fail_uploads(1000, &Reason::ShuttingDown.status("restarting"));
    coordinator.script.assign(SMALL, "lenet", &shard(0, 8));
    let computed = |heard: &Heard| count(heard, |m| matches!(m, Message::Computed(_)));
    coordinator.script.until("the result", |heard| computed(heard) == 1);
    let script = coordinator.die();
    std::thread::sleep(Duration::from_millis(300));
    script.fail_uploads(0, &Reason::ShuttingDown.status(""));
    let again = Coordinator::on(address, script);
    again.script.until("the upload", |heard| heard.uploads.len() == 1);
    again.script.until("a second hello", |heard| heard.hellos.len() == 2);
    again.script.heard(|heard| assert_eq!(heard.uploads[0].bytes, directly(SMALL, 0..8).to_bytes()));
    worker.stop().unwrap();
}

#[test]
fn uploads_are_tried_again_and_given_up_only_with_a_word() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "1")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.fail_uploads(3, &Reason::PayloadDamaged.status("flipped"));
    script.assign(SMALL, "lenet", &shard(0, 1));
    script.until("the fourth attempt", |heard| heard.uploads.len() == 1);
    script.fail_uploads(4, &Reason::PayloadDamaged.status("flipped"));
    script.assign(SMALL, "lenet", &shard(1, 1));
    let failure = |kind: v1::FailureKind, words: &'static str| {
        move |heard: &Heard| {
            let fits = |m: &Message| matches!(m, Message::Failure(f) if f.kind() == kind && f.message.contains(words));
            count(heard, fits) == 1
        }
    };
    script.until("giving up", failure(v1::FailureKind::Transient, "flipped"));
    script.fail_uploads(1, &Reason::PayloadInvalid.status("scatter[3] is NaN"));
    script.assign(SMALL, "lenet", &shard(2, 1));
    script.until("a refused upload", failure(v1::FailureKind::Task, "scatter[3] is NaN"));
    script.assign("name = 'x'", "lenet", &shard(3, 1));
    script.until("a refused spec", failure(v1::FailureKind::Spec, "the spec is refused"));
    worker.stop().unwrap();
}

/// However long there is no place for it; and one that is not wanted any more is not offered any more.
#[test]
fn a_result_waits_for_its_grant_while_its_lease_lives() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "1")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.hold_grants(true);
    (0..2).for_each(|block| script.assign(SMALL, "lenet", &shard(block, 1)));
    script.until("two offers", |heard| heard.offers == 2);
    script.revoke(&shard(0, 1));
    script.until("one offer", |heard| heard.offers == 1);
    script.heard(|heard| assert!(heard.uploads.is_empty()));
    script.hold_grants(false);
    script.until("the upload", |heard| heard.uploads.len() == 1);
    script.heard(|heard| assert_eq!(heard.uploads[0].header.shard, Some(shard(1, 1))));
    worker.stop().unwrap();
}

/// A full disk at the coordinator is passing trouble, and the result is still there when it has passed.
#[test]
fn a_store_that_does_not_take_a_result_is_asked_again() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "1"), ("reconnect_timeout", "1")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    script.fail_uploads(5, &Reason::StoreUnavailable.status("no space left on device"));
    script.assign(SMALL, "lenet", &shard(0, 1));
    script.until("the upload", |heard| heard.uploads.len() == 1);
    script.heard(|heard| assert_eq!((heard.offers, count(heard, |m| matches!(m, Message::Failure(_)))), (6, 0)));
    worker.stop().unwrap();
}

#[test]
fn stopping_gives_back_a_running_shard_within_a_block() {
    let coordinator = Coordinator::start();
    let worker = Worker::start(&coordinator.url(), &[("slots", "2")]);
    let script = &coordinator.script;
    script.until("a hello", |heard| heard.hellos.len() == 1);
    (0..3).for_each(|i| script.assign(SMALL, "lenet", &shard(i * ENDLESS, ENDLESS)));
    script.until("progress", |heard| !progress(heard).is_empty());
    let began = Instant::now();
    worker.stop().unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    script.until("the end", |heard| heard.ended == 1);
    script.heard(|heard| {
        assert!(heard.uploads.is_empty());
        assert!(matches!(heard.messages.last(), Some((_, Message::Goodbye(_)))));
    });
}

#[test]
fn a_refusal_is_final_and_an_absent_coordinator_is_waited_for_no_longer_than_asked() {
    let coordinator = Coordinator::start();
    coordinator.script.refuse_next(Reason::ShuttingDown.status("restarting"));
    coordinator.script.refuse_next(Reason::ProtocolMismatch.status("this coordinator speaks protocol 9, the worker 1"));
    let refused = Worker::start(&coordinator.url(), &[]).thread.join().unwrap().unwrap_err();
    assert_eq!(refused.exit_code(), 4);
    assert!(refused.to_string().contains("speaks protocol 9"), "{refused}");
    let url = coordinator.url();
    drop(coordinator.die());
    let began = Instant::now();
    let flags = KeyFlags::default().with("coordinator", &url).with("device", "cpu").with("connect_timeout", "0.7");
    let config = WorkerConfig::load(&flags, &Variables::default()).unwrap();
    let absent = run(&config, Stop::default(), &Tracer::off()).unwrap_err();
    assert_eq!(absent.exit_code(), 3);
    let line = absent.to_string();
    assert!(line.starts_with(&format!("cannot reach the coordinator at {url}: Connection refused")), "{line}");
    assert!((0.7..6.0).contains(&began.elapsed().as_secs_f64()), "{:?}", began.elapsed());
}
