//! VGG11 in its CIFAR form, without and with batch norm: eight 3 x 3 convolutions, five poolings, three fully connected
//! layers. Convolutions are drawn by fan-out.

use super::{Builder, Conv2d, ConvInit};

/// Output channels of the convolutions; `None` is a pooling.
const FEATURES: [Option<usize>; 13] = [
    Some(64),
    None,
    Some(128),
    None,
    Some(256),
    Some(256),
    None,
    Some(512),
    Some(512),
    None,
    Some(512),
    Some(512),
    None,
];

pub(super) fn build(net: &mut Builder, outputs: usize) {
    layers(net, outputs, false);
}

pub(super) fn build_bn(net: &mut Builder, outputs: usize) {
    layers(net, outputs, true);
}

/// PyTorch numbers all modules of a sequence, with or without parameters: `features.0` and so on.
fn layers(net: &mut Builder, outputs: usize, batch_norm: bool) {
    let mut place = 0;
    for channels in FEATURES {
        let Some(channels) = channels else {
            net.max_pool(2);
            place += 1;
            continue;
        };
        let conv = Conv2d::new(format!("features.{place}"), channels, 3).padded(1);
        net.conv(Conv2d { init: ConvInit::FanOut, ..conv });
        if batch_norm {
            net.batch_norm(format!("features.{}", place + 1));
        }
        net.relu();
        place += if batch_norm { 3 } else { 2 };
    }
    net.flatten();
    for name in ["classifier.0", "classifier.3"] {
        net.linear(name, 512).relu().dropout(0.5);
    }
    net.linear("classifier.6", outputs);
}
