//! Shards of every experiment: the same bits whatever was computed before, and faults say whose they are.

use super::shard_task::JobSpec;
use super::*;
use crate::device::{DeviceChoice, of_tests, prepare};
use crate::inputs::NoInputSource;
use crate::shard::{InputFile, ShardKey};
use nadgrid_core::ids::Digest;
use std::cell::{Cell, RefCell};

const SPEC: &str = "name = 'x'\narchitectures = ['lenet', 'logreg']\ninput = { height = 16, width = 16 }\n\
                    [nads]\nnetworks = 21\nblock_size = 4\n\
                    [directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, 1]] }\nseeds = 2\n\
                    block_size = 1\nsigma = 1.0\ntrain_samples = 300\ntest_samples = 200\ntraining = { epochs = 3 }";

/// Wants everything, until so many blocks are done.
struct Blocks {
    wanted: u64,
    done: Cell<u64>,
}

impl Blocks {
    fn all() -> Self {
        Self { wanted: u64::MAX, done: Cell::new(0) }
    }
}

impl ShardWatcher for Blocks {
    fn wants(&self) -> bool {
        self.done.get() < self.wanted
    }

    fn block_done(&self) {
        self.done.set(self.done.get() + 1);
    }
}

fn read(spec: &str, shard: &ShardKey, inputs: &[InputFile]) -> Result<ShardTask, Fault> {
    ShardTask::new(Arc::new(JobSpec::read(spec, shard.job.job)?), shard, inputs)
}

fn shard(job: u32, first_block: u64, blocks: u64) -> ShardKey {
    ShardKey::of_tests(job, first_block, blocks)
}

fn evaluator(evaluation: Option<Evaluation>) -> ShardEvaluator {
    let device = if evaluation == Some(Evaluation::Dense) { of_tests().0 } else { DeviceChoice::Cpu };
    let machine = prepare(device, evaluation).unwrap();
    ShardEvaluator::new(&machine, Arc::new(InputCache::new(NoInputSource)))
}

fn compute(evaluator: &mut ShardEvaluator, spec: &str, shard: ShardKey) -> ShardYield {
    let job = read(spec, &shard, &[]).unwrap();
    evaluator.shard(&job, None, &Blocks::all()).unwrap().unwrap().yielded
}

fn moments(evaluator: &mut ShardEvaluator, shard: ShardKey) -> Moments {
    match compute(evaluator, SPEC, shard) {
        ShardYield::Moments(moments) => moments,
        other => panic!("{other:?}"),
    }
}

fn runs(evaluator: &mut ShardEvaluator, spec: &str, shard: ShardKey) -> Vec<Outcome> {
    match compute(evaluator, spec, shard) {
        ShardYield::Runs(runs, 0) => runs.into_iter().map(|run| Outcome { seconds: 0.0, ..run }).collect(),
        other => panic!("{other:?}"),
    }
}

/// Architectures in turn on one evaluator: what it keeps does not leak into results, and shards merge to their parent.
#[test]
fn halves_merge_to_the_whole_whatever_was_computed_before() {
    let mut evaluator = evaluator(None);
    let left = moments(&mut evaluator, shard(0, 0, 2));
    let other = moments(&mut evaluator, shard(1, 0, 4));
    let right = moments(&mut evaluator, shard(0, 2, 2));
    assert_eq!(left.merge(&right), moments(&mut evaluator, shard(0, 0, 4)));
    assert_eq!(other, moments(&mut evaluator, shard(1, 0, 4)));
    assert_eq!(moments(&mut evaluator, shard(1, 4, 2)).count, 5);
}

/// Points are further gradients of the same members: with one point at first, then with two.
#[test]
fn every_member_gives_a_gradient_at_every_point() {
    let mut evaluator = evaluator(None);
    let two = SPEC.replace("networks = 21", "networks = 21\npoints = 2");
    let ShardYield::Moments(two) = compute(&mut evaluator, &two, shard(1, 0, 1)) else { panic!("moments") };
    let one = moments(&mut evaluator, shard(1, 0, 1));
    assert_eq!((one.count, two.count), (4, 8));
    // Logistic regression's gradient is its weights, whatever the point: the mean is the same.
    for (a, b) in one.mean.iter().zip(&two.mean) {
        assert!((a - b).abs() < 1e-6, "{a} {b}");
    }
}

/// Both estimate the negative gradient: for a linear function they are one.
#[test]
fn autograd_is_the_central_difference_of_a_linear_function() {
    let autograd = SPEC.replace("networks = 21", "networks = 21\nestimator = 'autograd'");
    for evaluation in [Evaluation::Patch, Evaluation::Dense, Evaluation::Fused] {
        let mut evaluator = evaluator(Some(evaluation));
        let ShardYield::Moments(exact) = compute(&mut evaluator, &autograd, shard(1, 0, 1)) else { panic!("moments") };
        let difference = moments(&mut evaluator, shard(1, 0, 1));
        for (a, b) in exact.mean.iter().zip(&difference.mean) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }
}

/// A run's outcome does not depend on the shard, and logistic regression learns: of 200 test samples, chance gives 50 % ± 3.5 %.
#[test]
fn runs_are_the_same_in_any_shard() {
    let mut evaluator = evaluator(None);
    let all = runs(&mut evaluator, SPEC, shard(3, 0, 4));
    let third = runs(&mut evaluator, SPEC, shard(3, 2, 1));
    assert_eq!(all[2..3], third);
    assert!(all.iter().all(|run| run.train_accuracy > 90.0 && run.test_accuracy > 70.0), "{all:?}");
    assert!(all.iter().all(|run| run.epochs == 3), "{all:?}");
    assert_ne!(all[0].test_loss, all[1].test_loss, "seeds differ");
}

/// The kernels and the libtorch population train the same run: the same weights, data and order, rounded in another way. In a
/// few steps of a LeNet the difference stays near rounding; accuracies may differ by a sample that lies on the boundary.
#[test]
fn both_engines_train_the_same_run() {
    let spec = SPEC.replace("training = { epochs = 3 }", "training = { epochs = 1 }");
    let own = runs(&mut evaluator(None), &spec, shard(2, 0, 2));
    let other = runs(&mut evaluator(Some(Evaluation::Dense)), &spec, shard(2, 0, 2));
    for (a, b) in own.iter().zip(&other) {
        assert!((a.test_loss - b.test_loss).abs() < 1e-4, "{a:?} {b:?}");
        assert!((a.train_accuracy - b.train_accuracy).abs() <= 2.0 * 100.0 / 300.0, "{a:?} {b:?}");
    }
}

#[test]
fn a_run_that_diverges_is_recorded_and_the_others_go_on() {
    let spec = SPEC.replace("training = { epochs = 3 }", "training = { learning_rate = 1e9, gradient_clip = 0 }");
    let outcomes = runs(&mut evaluator(None), &spec, shard(2, 0, 4));
    assert_eq!(outcomes.len(), 4);
    assert!(outcomes.iter().all(|run| run.diverged_at.is_some() && run.test_accuracy.is_nan()), "{outcomes:?}");
}

#[test]
fn a_shard_ends_with_the_block_in_which_it_is_told_to() {
    let mut evaluator = evaluator(None);
    let job = read(SPEC, &shard(1, 0, 4), &[]).unwrap();
    let blocks = Blocks { wanted: 2, done: Cell::new(0) };
    assert_eq!(evaluator.shard(&job, None, &blocks), Ok(None));
    assert_eq!((blocks.done.get(), job.members()), (2, 16));
    // Training ends between two batches.
    let job = read(SPEC, &shard(2, 0, 4), &[]).unwrap();
    let blocks = Blocks { wanted: 0, done: Cell::new(0) };
    assert_eq!(evaluator.shard(&job, None, &blocks), Ok(None));
    assert_eq!(blocks.done.get(), 0);
}

/// Wants a shard until it was asked once.
struct Impatient {
    asked: Cell<bool>,
}

impl ShardWatcher for Impatient {
    fn wants(&self) -> bool {
        !self.asked.replace(true)
    }

    fn block_done(&self) {
        panic!("a block that is not wanted was computed to its end");
    }
}

#[test]
fn a_block_is_left_between_two_networks() {
    for evaluation in [Evaluation::Patch, Evaluation::Dense] {
        let job = read(SPEC, &shard(0, 0, 1), &[]).unwrap();
        let impatient = Impatient { asked: Cell::new(false) };
        assert_eq!(evaluator(Some(evaluation)).shard(&job, None, &impatient), Ok(None));
    }
}

/// Takes every checkpoint, and stops after so many.
struct Interrupted {
    after: usize,
    taken: RefCell<Vec<ShardSnapshot>>,
}

impl ShardWatcher for Interrupted {
    fn wants(&self) -> bool {
        self.taken.borrow().len() < self.after
    }

    fn block_done(&self) {}

    fn wants_checkpoint(&self) -> bool {
        true
    }

    fn take_checkpoint(&self, snapshot: ShardSnapshot) {
        self.taken.borrow_mut().push(snapshot);
    }
}

/// Four runs in two blocks of three epochs each.
const TWO_BLOCKS: &str = "name = 'x'\narchitectures = ['lenet']\ninput = { height = 16, width = 16 }\n\
                          [directional]\ndirections = { kind = 'dft', frequencies = [[0, 0], [2, 1]] }\nseeds = 2\n\
                          block_size = 2\nsigma = 1.0\ntrain_samples = 60\ntest_samples = 20\n\
                          training = { epochs = 3, batch_size = 32, momentum = 0.9 }";

/// Interrupted after every checkpoint in turn, and each rest computed by an evaluator that knows nothing else: the outcomes
/// are those of the uninterrupted shard, on either engine.
#[test]
fn a_shard_goes_on_from_every_checkpoint_with_the_same_outcomes() {
    for evaluation in [Evaluation::Patch, Evaluation::Dense] {
        let job = read(TWO_BLOCKS, &shard(0, 0, 2), &[]).unwrap();
        let all = Interrupted { after: usize::MAX, taken: RefCell::default() };
        let whole = evaluator(Some(evaluation)).shard(&job, None, &all).unwrap().unwrap();
        let whole = digest(&whole);
        let taken = all.taken.into_inner();
        // Runs in turn: after each of three epochs, and after every run but the last; two together: after each epoch and between.
        let expected = match evaluation {
            Evaluation::Patch => vec![(0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3), (2, 0)],
            Evaluation::Dense | Evaluation::Fused => vec![(0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 2), (2, 3)],
        };
        let counted: Vec<_> = taken.iter().map(|snapshot| (snapshot.members_done, snapshot.epochs)).collect();
        assert_eq!(counted[..expected.len()], expected);
        let mut again = evaluator(Some(evaluation));
        for (index, snapshot) in taken.iter().enumerate() {
            let stopped = Interrupted { after: index + 1, taken: RefCell::default() };
            assert_eq!(evaluator(Some(evaluation)).shard(&job, None, &stopped), Ok(None));
            // A stop is noticed by the next batch; what was handed out before it is what counts.
            let from = stopped.taken.into_inner().swap_remove(index);
            assert_eq!(
                (from.members_done, from.epochs, from.bytes.len()),
                (counted[index].0, counted[index].1, snapshot.bytes.len())
            );
            let rest = Interrupted { after: usize::MAX, taken: RefCell::default() };
            let evaluated = again.shard(&job, Some(&from.bytes), &rest).unwrap().unwrap();
            assert_eq!(digest(&evaluated), whole, "{evaluation:?} from {:?}", counted[index]);
            assert!(evaluated.earlier > 0.0, "seconds of the earlier slot are counted");
            // What was done is not done again.
            assert_eq!(rest.taken.borrow().len(), taken.len() - index - 1);
        }
    }
}

fn digest(evaluated: &EvaluatedShard) -> Digest {
    match &evaluated.yielded {
        ShardYield::Runs(runs, extra) => nadgrid_core::runs::digest(runs, *extra),
        other => panic!("{other:?}"),
    }
}

/// Damaged, cut, of another version, of another shard, spec or class: the shard begins again, with the same outcomes.
#[test]
fn a_checkpoint_of_anything_else_is_passed_over() {
    let spec = TWO_BLOCKS.replace("block_size = 2", "block_size = 1");
    let job = read(&spec, &shard(0, 0, 2), &[]).unwrap();
    let checkpoint = |spec: &str, blocks, evaluation| {
        let stopped = Interrupted { after: 2, taken: RefCell::default() };
        let job = read(spec, &blocks, &[]).unwrap();
        assert_eq!(evaluator(evaluation).shard(&job, None, &stopped), Ok(None));
        stopped.taken.into_inner().pop().unwrap().bytes
    };
    let own = checkpoint(&spec, shard(0, 0, 2), None);
    let mut flipped = own.clone();
    flipped[own.len() / 2] ^= 1;
    let mut version = own.clone();
    version[7] = b'0';
    let mut evaluator = evaluator(None);
    let mut compute = |from: Option<&[u8]>| {
        let watcher = Interrupted { after: usize::MAX, taken: RefCell::default() };
        let evaluated = evaluator.shard(&job, from, &watcher).unwrap().unwrap();
        (digest(&evaluated), watcher.taken.into_inner().len())
    };
    let (whole, handed_out) = compute(None);
    assert_eq!(compute(Some(&own)), (whole, handed_out - 2), "this one is taken");
    for (what, bytes) in [
        ("damaged", flipped),
        ("cut", own[..own.len() - 100].to_vec()),
        ("another version", version),
        ("empty", Vec::new()),
        ("another shard", checkpoint(&spec, shard(0, 2, 2), None)),
        ("a larger shard", checkpoint(&spec, shard(0, 0, 4), None)),
        ("another seed", checkpoint(&format!("seed = 3\n{spec}"), shard(0, 0, 2), None)),
        ("another class", checkpoint(&spec, shard(0, 0, 2), Some(Evaluation::Dense))),
    ] {
        assert_eq!(compute(Some(&bytes)), (whole, handed_out), "{what}");
    }
}

#[test]
fn faults_say_whose_they_are() {
    let kind = |spec: &str, job, blocks| read(spec, &shard(job, 0, blocks), &[]).unwrap_err().kind;
    assert_eq!(kind("name = 3", 0, 1), FailureKind::Spec);
    assert_eq!(kind(SPEC, 4, 1), FailureKind::Task);
    assert_eq!(kind(SPEC, 0, 3), FailureKind::Task);
    // A file that nobody can bring: the coordinator does not answer at this address.
    let text = SPEC
        .replace("{ kind = 'dft', frequencies = [[0, 0], [2, 1]] }", "{ kind = 'file', path = 'x', indices = [0] }");
    let job = read(&text, &shard(2, 0, 1), &[]).unwrap();
    let fault = evaluator(None).shard(&job, None, &Blocks::all()).unwrap_err();
    assert_eq!((fault.kind, fault.message.as_str()), (FailureKind::Task, "the shard came without its NADs"));
}

/// A batch that no slot has memory for is the spec's fault, and the message says how many bytes it takes. With so few samples the
/// spec itself passes: only as many are in a batch.
#[test]
fn a_run_that_does_not_fit_names_the_bytes() {
    let text = "name = 'x'\narchitectures = ['densenet121']\n[directional]\ndirections = { kind = 'random', count = 1 }\n\
                block_size = 1\ntrain_samples = 60\ntest_samples = 60\ntraining = { batch_size = 100000 }";
    let job = read(text, &shard(0, 0, 1), &[]).unwrap();
    let fault = evaluator(None).shard(&job, None, &Blocks::all()).unwrap_err();
    assert_eq!(fault.kind, FailureKind::Spec);
    assert!(
        fault.message.contains("training.batch_size = 100000") && fault.message.contains("bytes"),
        "{}",
        fault.message
    );
}

/// A thousand runs on half a billion numbers each: a slot has no room for one of them, and it is told before any is drawn.
#[test]
fn a_run_larger_than_a_slot_s_memory_is_refused_before_it_is_drawn() {
    let text = "name = 'x'\narchitectures = ['lenet']\ninput = { height = 64, width = 64 }\n[directional]\n\
                directions = { kind = 'random', count = 1024 }\nblock_size = 1024\n\
                train_samples = 131072\ntest_samples = 131072";
    let job = read(text, &shard(0, 0, 1), &[]).unwrap();
    let fault = evaluator(Some(Evaluation::Dense)).shard(&job, None, &Blocks::all()).unwrap_err();
    assert_eq!(fault.kind, FailureKind::Unfit);
    assert_eq!(fault.message, "training runs: one member needs 2.1 GiB, the budget is 2.0 GiB");
}

/// Images and NADs come as files: poisoned, flipped and measured on a small network.
#[test]
fn experiments_on_images_take_their_files_from_the_store() {
    let folder = files();
    let spec = "name = 'x'\narchitectures = ['logreg']\ninput = { channels = 3 }\ncifar10 = { path = 'c' }\n\
                [poisoning]\nbasis = { path = 'b' }\nindices = [0]\ntraining = { epochs = 1 }\n\
                [flipping]\nbasis = { path = 'b' }\ntraining = { epochs = 1 }\n\
                [margins]\nbasis = { path = 'b' }\nsubspace = 4\nstride = 512\nimages = 3\ntraining = { epochs = 1 }";
    let mut evaluator = ShardEvaluator::new(&prepare(DeviceChoice::Cpu, None).unwrap(), folder.served.clone());
    let mut compute = |job, blocks| {
        let job = read(spec, &shard(job, 0, blocks), &folder.inputs).unwrap();
        match evaluator.shard(&job, None, &Blocks::all()) {
            Ok(Some(EvaluatedShard { yielded: ShardYield::Runs(runs, _), .. })) => runs,
            other => panic!("{other:?}"),
        }
    };
    let poisoned = compute(0, 2);
    assert_eq!(poisoned.len(), 2);
    assert_ne!(poisoned[0].train_loss, poisoned[1].train_loss);
    let flipped = compute(1, 2);
    assert_ne!(flipped[0].train_loss, flipped[1].train_loss);
    // (1024 − 4)/512 + 1 = 2 blocks of 3 images; in four of 1,024 directions on every channel a linear network has a boundary.
    let margins = compute(2, 1);
    assert_eq!(margins[0].extra.len(), 6);
    assert!(margins[0].extra.iter().all(|&margin| margin > 0.0 && margin.is_finite()), "{margins:?}");
}

/// Files as a coordinator would serve them.
struct Files {
    inputs: Vec<InputFile>,
    served: Arc<InputCache>,
}

fn files() -> Files {
    let images = |count: usize, seed: usize| -> Vec<u8> {
        let image = |n: usize| {
            let pixels = (0..3072).map(move |i| (((i * 7 + n * 131 + seed * 17) * 2_654_435_761) >> 13) as u8);
            std::iter::once((n % 10) as u8).chain(pixels)
        };
        (0..count).flat_map(image).collect()
    };
    // The cosine transform: an orthonormal basis of 1,024 directions.
    let basis: Vec<f32> = (0..1024 * 1024)
        .map(|at| {
            let k = (at / 1024) as f64;
            let n = (at % 1024) as f64;
            let scale = if k == 0.0 { 1.0 } else { 2f64.sqrt() } / 32.0;
            (scale * (std::f64::consts::PI * k * (n + 0.5) / 1024.0).cos()) as f32
        })
        .collect();
    let mut npy = Vec::new();
    {
        use npyz::WriterBuilder;
        let options = npyz::WriteOptions::new().default_dtype().shape(&[1024, 1024]).writer(&mut npy);
        let mut writer = options.begin_nd().unwrap();
        writer.extend(basis).unwrap();
        writer.finish().unwrap();
    }
    let files = [
        ("basis", "b", npy),
        ("train", "c/data_batch_1.bin", images(40, 1)),
        ("test", "c/test_batch.bin", images(10, 2)),
    ];
    let served = Arc::new(InputCache::new(NoInputSource));
    let inputs = files.into_iter().map(|(role, name, bytes)| {
        let digest = Digest::of(&bytes).to_string();
        let size = bytes.len() as u64;
        served.keep(&digest, bytes);
        InputFile { role: role.into(), name: name.into(), size, digest }
    });
    let inputs = inputs.collect();
    Files { inputs, served }
}
