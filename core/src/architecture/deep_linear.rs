//! A linear network whose spectrum is known in closed form: a circular convolution of one channel, average pooling, a fully
//! connected layer. Its covariance is circulant, so its NADs are pairs of discrete cosines and sines.

use super::{Builder, Conv2d, Padding};

/// Side of the kernel and of the pooling windows: the support is a multiple of the stride, as the closed form asks.
const SIDE: usize = 4;

pub(super) fn build(net: &mut Builder, outputs: usize) {
    let conv = Conv2d { padding: Padding::Circular, ..Conv2d::new("conv", 1, SIDE) };
    net.conv(conv.no_bias()).avg_pool(SIDE).flatten().linear("fc", outputs);
}
