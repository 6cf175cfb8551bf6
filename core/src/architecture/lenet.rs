//! LeNet in its CIFAR form: two convolutions with pooling, three fully connected layers.

use super::{Builder, Conv2d};

pub(super) fn build(net: &mut Builder, outputs: usize) {
    net.conv(Conv2d::new("conv1", 6, 5)).relu().max_pool(2);
    net.conv(Conv2d::new("conv2", 16, 5)).relu().max_pool(2);
    net.flatten().linear("fc1", 120).relu().linear("fc2", 84).relu().linear("fc3", outputs);
}
