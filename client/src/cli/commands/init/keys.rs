//! The keys of a spec, in words.

use nadgrid_core::architecture;
use nadgrid_core::spec::{Experiment, MAX_BLOCK_SIZE, MAX_NETWORKS, MAX_PIXELS, MAX_RUNS};
use nadgrid_core::text::thousands;

/// Columns of a comment.
const COLUMNS: usize = 100;

/// A spec of these experiments and architectures.
pub(super) fn spec(name: &str, experiments: &[Experiment], architectures: &[String]) -> String {
    let has = |experiment| experiments.contains(&experiment);
    let images = [Experiment::Poisoning, Experiment::Flipping, Experiment::Margins].into_iter().any(has);
    let mut text = Text::default();
    text.say(
        "A sweep of nadgrid. Every key stands here with what it means; a key with a default may be left out, and one behind a # \
         is an alternative. `nadgrid plan` tells what the sweep will take, `nadgrid run` computes it on this machine, \
         `nadgrid submit` on a cluster.",
    );
    text.line("");
    text.sweep(name, architectures);
    text.input(if images { 3 } else { 1 }, images);
    if images {
        text.section("cifar10", "The images that poisoning, flipping and margins train on.");
        let meaning = "The folder of data_batch_*.bin and test_batch.bin, looked for beside this file first.";
        text.required("path", "\"data/cifar-10-batches-bin\"", meaning, "a folder");
    }
    if has(Experiment::Nads) {
        text.nads();
    }
    if has(Experiment::Directional) {
        text.directional(has(Experiment::Nads));
    }
    if has(Experiment::Poisoning) {
        text.poisoning();
    }
    if has(Experiment::Flipping) {
        text.flipping();
    }
    if has(Experiment::Margins) {
        text.margins();
    }
    text.0.truncate(text.0.trim_end().len());
    text.0.push('\n');
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    /// A comment, wrapped.
    fn say(&mut self, words: &str) {
        let mut line = String::from("#");
        for word in words.split_whitespace() {
            if line.len() + 1 + word.len() > COLUMNS {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }

    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn section(&mut self, name: &str, words: &str) {
        self.say(words);
        self.line(&format!("[{name}]"));
    }

    /// A key that must be there.
    fn required(&mut self, key: &str, value: &str, meaning: &str, accepted: &str) {
        self.key(key, value, meaning, &format!("No default. Accepted: {accepted}."));
    }

    /// A key with its default.
    fn optional(&mut self, key: &str, value: &str, meaning: &str, accepted: &str) {
        self.key(key, value, meaning, &format!("Default: {value}. Accepted: {accepted}."));
    }

    /// A key that is not set.
    fn alternative(&mut self, key: &str, value: &str, meaning: &str) {
        self.say(meaning);
        self.line(&format!("# {key} = {value}"));
        self.line("");
    }

    fn key(&mut self, key: &str, value: &str, meaning: &str, accepted: &str) {
        self.say(meaning);
        self.say(accepted);
        self.line(&format!("{key} = {value}"));
        self.line("");
    }

    fn sweep(&mut self, name: &str, architectures: &[String]) {
        let accepted = "1 to 100 letters, digits, `.`, `_` or `-`, not beginning with `.`";
        self.required("name", &format!("{name:?}"), "What to call the sweep.", accepted);
        let known: Vec<&str> = architecture::names().collect();
        let accepted = format!("one or more of {}, each at most once", known.join(", "));
        let meaning = "The architectures: every experiment is done for each of them.";
        self.required("architectures", &format!("{architectures:?}"), meaning, &accepted);
        let meaning = "The key of all random numbers: the same spec gives the same digest, on any number of workers.";
        self.optional("seed", "0", meaning, &format!("from 0 to {}", i64::MAX));
        let meaning = "What floating-point arithmetic is allowed. CPUs compute fp32 alone.";
        self.optional("precision", "\"fp32\"", meaning, "\"fp32\", \"tf32\", \"bf16\"");
        let meaning = "Share of the shards that a second worker computes too, to compare the bits.";
        self.optional("audit", "0.0", meaning, "a finite number from 0 to 1");
    }

    fn input(&mut self, channels: usize, images: bool) {
        let fixed = if images { " Experiments on CIFAR-10 need 3 x 32 x 32." } else { "" };
        self.section(
            "input",
            &format!(
                "The networks' input. Its pixels, channels x height x width, are the dimension D of the NADs, at most {}.{fixed}",
                thousands(MAX_PIXELS as u64)
            ),
        );
        self.key("channels", &channels.to_string(), "Channels.", "Default: 1. Accepted: at least 1.");
        self.optional("height", "32", "Rows.", "at least 1");
        self.optional("width", "32", "Columns.", "at least 1");
    }

    fn nads(&mut self) {
        let words = "Neural anisotropy directions: the gradients of many random networks at the same points, and the \
                     eigenvectors of their covariance.";
        self.section("nads", words);
        let accepted = format!("from 2 to {}", thousands(MAX_NETWORKS));
        let meaning = "How many random networks, N. The published NADs are of 10,000.";
        self.required("networks", "2048", meaning, &accepted);
        let meaning = "How a gradient is estimated. The publication takes central differences, two forward passes per pixel; \
                       autograd measures another quantity, whose directions are others.";
        self.optional("estimator", "\"central-difference\"", meaning, "\"central-difference\", \"autograd\"");
        let meaning = "Step h of the central difference, in units of the input; means nothing to autograd.";
        self.optional("step", "100.0", meaning, "a finite number from 0.000001 to 1,000,000,000");
        let meaning = "Points of N(0, I) that all networks share; each network gives a gradient at each.";
        self.optional("points", "1", meaning, "from 1 to 1,024");
        self.block_size("32", "Networks per block, the unit of numerics: another size may change the last bits.");
    }

    fn directional(&mut self, own_nads: bool) {
        let words = "Training runs on data that are separable along one direction v, for each of many v: which directions does an \
                     architecture find easy?";
        self.section("directional", words);
        let meaning = "Distance of either class from the origin along v.";
        self.optional("offset", "1.0", meaning, "a finite number from 0 to 1,000,000");
        let meaning = "Standard deviation of the noise orthogonal to v.";
        self.optional("sigma", "3.0", meaning, "a finite number from 0 to 1,000,000");
        self.seeds("Runs of every direction, each with weights, data and order of its own.");
        let samples = "from 1 to 1,000,000";
        self.optional("train_samples", "10000", "Training samples of a run, half of each class.", samples);
        self.optional("test_samples", "10000", "Test samples of a run.", samples);
        self.population("8");
        self.directions(own_nads);
        self.training(Experiment::Directional);
    }

    /// Keys of one kind stand; those of the others are alternatives.
    fn directions(&mut self, own_nads: bool) {
        self.section(
            "directional.directions",
            "The directions v. Each kind has keys of its own: another kind wants other ones than those without a #.",
        );
        let meaning = "dft: plane waves; nads: NADs; file: rows of a .npy file; pixels: single pixels; random: uniformly on the \
                       sphere.";
        let kind = if own_nads { "\"nads\"" } else { "\"dft\"" };
        self.required("kind", kind, meaning, "\"dft\", \"nads\", \"file\", \"pixels\", \"random\"");
        let meaning = "Of kind dft: [along rows, along columns], cycles per image. Without it, the 144 independent ones of the \
                       published table.";
        self.alternative("frequencies", "[[0, 1], [3, 4]]", meaning);
        let (waves, wave) = ("Of kind dft: cosines, or sines of named frequencies.", "\"cosine\"");
        let which = "Of kinds nads, file and pixels: which, counted from 0; numbers, and ranges whose end is left out.";
        let indices = "[0, 1, 2, 5, 10, 20, 50, 100, { start = 200, end = 1000, stride = 200 }]";
        if own_nads {
            self.alternative("wave", wave, waves);
            self.key("indices", indices, which, "Without it, all NADs of this sweep.");
        } else {
            self.optional("wave", wave, waves, "\"cosine\", \"sine\"");
            self.alternative("indices", indices, which);
        }
        let meaning =
            "Of kind nads: the id of a complete sweep, whose NADs are taken. Without it, those of this sweep's [nads].";
        self.alternative("sweep", "\"ID\"", meaning);
        let meaning = "Of kind file: a .npy file, a direction a row, looked for beside this file first.";
        self.alternative("path", "\"directions.npy\"", meaning);
        let meaning = format!("Of kind random: how many. Accepted: from 1 to {}.", thousands(MAX_RUNS));
        self.alternative("count", "100", &meaning);
    }

    fn poisoning(&mut self) {
        let words = "Training runs on CIFAR-10 in which every class has a signal along NADs p and p + 1.";
        self.section("poisoning", words);
        let meaning = "The first NAD p of each poisoned set.";
        let accepted = "a list of numbers, and of ranges whose end is left out, below D - 1";
        let value = "[0, 10, { start = 20, end = 1021, stride = 100 }]";
        self.required("indices", value, meaning, accepted);
        let meaning = "Size of the signal, in units of pixels in [0, 1].";
        self.optional("epsilon", "0.05", meaning, "a finite number from 0 to 1,000");
        self.optional("clean", "true", "Whether runs on unpoisoned images come first.", "true, false");
        self.seeds("Runs of every set.");
        self.population("1");
        self.basis(Experiment::Poisoning);
        self.training(Experiment::Poisoning);
    }

    fn flipping(&mut self) {
        let words =
            "Training runs on CIFAR-10 with its NAD coefficients in reverse order, beside runs on the original images.";
        self.section("flipping", words);
        self.seeds("Runs of either set.");
        self.population("1");
        self.basis(Experiment::Flipping);
        self.training(Experiment::Flipping);
    }

    fn margins(&mut self) {
        let words = "Networks trained on CIFAR-10, and the distances of test images to the decision boundary within blocks of NADs.";
        self.section("margins", words);
        self.optional("subspace", "32", "NADs of a block.", "from 1 to 1,024");
        self.optional("stride", "32", "NADs from one block to the next.", "from 1 to 1,024");
        let meaning = "Test images whose margins are measured, the first of the test set.";
        self.optional("images", "100", meaning, "from 1 to 1,000,000");
        self.seeds("Networks trained.");
        self.population("1");
        self.basis(Experiment::Margins);
        self.training(Experiment::Margins);
    }

    fn seeds(&mut self, meaning: &str) {
        self.optional("seeds", "1", meaning, &format!("from 1 to {}", thousands(MAX_RUNS)));
    }

    fn population(&mut self, default: &str) {
        let meaning = "Runs that are trained together, the unit of numerics on a GPU; more suit a GPU better.";
        self.block_size(default, meaning);
    }

    fn block_size(&mut self, default: &str, meaning: &str) {
        let accepted = format!("a power of two from 1 to {}", thousands(u64::from(MAX_BLOCK_SIZE)));
        self.optional("block_size", default, meaning, &accepted);
    }

    fn basis(&mut self, experiment: Experiment) {
        let words = "The NADs, of one channel: one of path and sweep.";
        self.section(&format!("{experiment}.basis"), words);
        let meaning = "A .npy file, a NAD a row, for all architectures; looked for beside this file first.";
        self.required("path", "\"nads.npy\"", meaning, "a file");
        let meaning = "The id of a complete sweep with input.channels = 1: every architecture uses its own NADs.";
        self.alternative("sweep", "\"ID\"", meaning);
    }

    fn training(&mut self, experiment: Experiment) {
        let words = "How networks are trained: stochastic gradient descent with the publication's values.";
        self.section(&format!("{experiment}.training"), words);
        // Directional runs, and those on CIFAR-10.
        let (epochs, learning_rate, momentum, weight_decay) = match experiment {
            Experiment::Directional => ("20", "0.5", "0.0", "0.0"),
            _ => ("50", "0.21", "0.9", "0.0005"),
        };
        let count = "from 1 to 100,000";
        self.optional("epochs", epochs, "Passes over the training samples.", count);
        let meaning = "Samples of a batch; the last batch of an epoch may be smaller.";
        self.optional("batch_size", "128", meaning, count);
        let meaning = "The learning rate of the first step; it falls linearly to 0 with the last.";
        self.optional("learning_rate", learning_rate, meaning, "a finite number from 0 to 1,000,000,000");
        let meaning = "Momentum, without dampening and not Nesterov's.";
        self.optional("momentum", momentum, meaning, "from 0 to below 1");
        let meaning = "L2 penalty, added to the clipped gradient.";
        self.optional("weight_decay", weight_decay, meaning, "a finite number from 0 to 1,000");
        let meaning = "Largest norm of a gradient; 0 for no limit.";
        self.optional("gradient_clip", "0.5", meaning, "a finite number of at least 0");
    }
}
