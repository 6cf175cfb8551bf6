//! Logistic regression: SCIENCE's isotropic baseline, whose covariance is I/(3D).

use super::Layer;

pub(super) fn layers(outputs: usize) -> Vec<Layer> {
    vec![Layer::Flatten, Layer::Linear { name: "output_fc", features: outputs }]
}
