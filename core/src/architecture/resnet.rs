//! ResNet18 in its CIFAR form: a 3 x 3 convolution, eight basic blocks in four stages, average pooling, a linear layer.

use super::{Builder, Conv2d};

/// Channels and stride of the first block of every stage.
const STAGES: [(usize, usize); 4] = [(64, 1), (128, 2), (256, 2), (512, 2)];
/// Basic blocks of a stage.
const BLOCKS: usize = 2;

pub(super) fn build(net: &mut Builder, outputs: usize) {
    net.conv(Conv2d::new("conv1", 64, 3).padded(1).no_bias()).batch_norm("bn1").relu();
    for (stage, (channels, stride)) in STAGES.into_iter().enumerate() {
        for block in 0..BLOCKS {
            let name = format!("layer{}.{block}", stage + 1);
            basic_block(net, &name, channels, if block == 0 { stride } else { 1 });
        }
    }
    net.avg_pool(4).flatten().linear("linear", outputs);
}

/// Two convolutions beside a shortcut, which is a 1 x 1 convolution where the shape changes.
fn basic_block(net: &mut Builder, name: &str, channels: usize, stride: usize) {
    let start = net.here();
    let changes = stride != 1 || net.shape().channels != channels;
    let first = Conv2d::new(format!("{name}.conv1"), channels, 3).padded(1).stride(stride);
    net.conv(first.no_bias()).batch_norm(format!("{name}.bn1")).relu();
    net.conv(Conv2d::new(format!("{name}.conv2"), channels, 3).padded(1).no_bias()).batch_norm(format!("{name}.bn2"));
    if changes {
        let main = net.here();
        let shortcut = Conv2d::new(format!("{name}.shortcut.0"), channels, 1).stride(stride);
        net.from(start).conv(shortcut.no_bias()).batch_norm(format!("{name}.shortcut.1"));
        let shortcut = net.here();
        net.from(main).add(shortcut);
    } else {
        net.add(start);
    }
    net.relu();
}
