//! Logistic regression: SCIENCE's isotropic baseline, whose covariance is I/(3D).

use super::Builder;

pub(super) fn build(net: &mut Builder, outputs: usize) {
    net.flatten().linear("output_fc", outputs);
}
