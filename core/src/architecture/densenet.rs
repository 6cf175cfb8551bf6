//! DenseNet121 in its CIFAR form: growth 32, bottlenecks of 128, four dense blocks with halving transitions between them.
//! New features are concatenated first.

use super::{Builder, Conv2d};

const GROWTH: usize = 32;
/// Layers of every dense block.
const BLOCKS: [usize; 4] = [6, 12, 24, 16];

pub(super) fn build(net: &mut Builder, outputs: usize) {
    net.conv(Conv2d::new("conv1", 2 * GROWTH, 3).padded(1).no_bias());
    for (block, layers) in BLOCKS.into_iter().enumerate() {
        if block > 0 {
            transition(net, &format!("trans{block}"));
        }
        for layer in 0..layers {
            bottleneck(net, &format!("dense{}.{layer}", block + 1));
        }
    }
    net.batch_norm("bn").relu().avg_pool(4).flatten().linear("linear", outputs);
}

fn bottleneck(net: &mut Builder, name: &str) {
    let before = net.here();
    net.batch_norm(format!("{name}.bn1")).relu();
    net.conv(Conv2d::new(format!("{name}.conv1"), 4 * GROWTH, 1).no_bias());
    net.batch_norm(format!("{name}.bn2")).relu();
    net.conv(Conv2d::new(format!("{name}.conv2"), GROWTH, 3).padded(1).no_bias());
    net.concat(before);
}

fn transition(net: &mut Builder, name: &str) {
    let channels = net.shape().channels / 2;
    net.batch_norm(format!("{name}.bn")).relu();
    net.conv(Conv2d::new(format!("{name}.conv"), channels, 1).no_bias()).avg_pool(2);
}
