//! The keys of `[training]`: a recipe has the same keys in every experiment, with defaults that differ.

use super::accepted::Accepted;
use super::check::Checks;
use super::key::{Presence, SpecKey, SpecSection, SpecTable, join};
use serde::{Deserialize, Serialize};

/// Most epochs, and most samples of a batch.
const MAX_EPOCHS: u64 = 100_000;

/// A value whose keys take their defaults from where it stands.
pub(super) trait Over {
    /// The type that holds the keys that were written.
    type Written;

    /// The defaults, with what was written in their place.
    fn over(self, written: Option<Self::Written>) -> Self;
}

/// Defines the recipe: `key: type, [what it accepts], default of directional runs, default of runs on CIFAR-10;`.
macro_rules! recipe {
    ($($(#[doc = $meaning:literal])+ $key:ident: $type:ty, [$accepted:expr], $directional:expr, $on_images:expr;)+) => {
        /// Hyper-parameters of stochastic gradient descent on the mean cross-entropy of a batch.
        ///
        /// A step, for every member by itself: the gradient of the batch's mean loss is scaled by min(1, `gradient_clip` /
        /// (‖gradient‖₂ + 1e-6)), norm over all parameters; `weight_decay` · w is added; v ← momentum · v + that (v starts as
        /// the first gradient, which is the same as starting at 0); w ← w − learning rate · v.
        #[derive(Clone, Copy, Debug, PartialEq, Serialize)]
        pub struct Recipe {
            $($(#[doc = $meaning])+ pub $key: $type,)+
        }

        /// The keys of a recipe that were written.
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields, expecting = "a table")]
        pub(super) struct WrittenRecipe {
            $($key: Option<$type>,)+
        }

        impl Recipe {
            /// The published directional runs.
            pub const DIRECTIONAL: Self = Self { $($key: $directional,)+ };
            /// The published runs on CIFAR-10.
            pub const ON_IMAGES: Self = Self { $($key: $on_images,)+ };
        }

        impl Over for Recipe {
            type Written = WrittenRecipe;

            fn over(self, written: Option<WrittenRecipe>) -> Self {
                written.map_or(self, |written| Self { $($key: written.$key.unwrap_or(self.$key),)+ })
            }
        }

        impl SpecTable for Recipe {
            fn describe(path: &str, defaults: Option<&Self>, into: &mut Vec<SpecSection>) {
                let recipe = defaults.unwrap_or(&Self::ON_IMAGES);
                let meaning =
                    "How networks are trained: stochastic gradient descent with the publication's values.".to_owned();
                let keys = vec![$(SpecKey {
                    name: stringify!($key),
                    kind: None,
                    meaning: concat!($($meaning),+).trim().to_owned(),
                    presence: Presence::default(&recipe.$key),
                    accepted: $accepted.to_string(),
                },)+];
                into.push(SpecSection { path: path.to_owned(), meaning, keys });
            }

            fn check(&self, path: &str, checks: &mut Checks) {
                $(checks.key(join(path, stringify!($key)), &self.$key, &$accepted);)+
            }
        }
    };
}

recipe! {
    /// Passes over the training samples.
    epochs: u32, [Accepted::count(MAX_EPOCHS)], 20, 50;
    /// Samples of a batch; the last batch of an epoch may be smaller.
    batch_size: u32, [Accepted::count(MAX_EPOCHS)], 128, 128;
    /// The learning rate before the first step; it falls linearly to 0 with the last.
    learning_rate: f64, [Accepted::up_to(1e9)], 0.5, 0.21;
    /// Momentum, without dampening and not Nesterov's.
    momentum: f64, [Accepted::Below { least: 0.0, end: 1.0 }], 0.0, 0.9;
    /// L2 penalty, added to the clipped gradient.
    weight_decay: f64, [Accepted::up_to(1e3)], 0.0, 5e-4;
    /// Largest norm of a gradient; 0 for no limit.
    gradient_clip: f64, [Accepted::NotNegative], 0.5, 0.5;
}
