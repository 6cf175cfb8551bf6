//! LeNet for 32 x 32 images: conv5(6)-ReLU-maxpool2-conv5(16)-ReLU-maxpool2-FC 120-84-outputs.

use super::Layer;

pub(super) fn layers(outputs: usize) -> Vec<Layer> {
    vec![
        Layer::Conv2d { name: "conv1", channels: 6, kernel: 5 },
        Layer::Relu,
        Layer::MaxPool2d { size: 2 },
        Layer::Conv2d { name: "conv2", channels: 16, kernel: 5 },
        Layer::Relu,
        Layer::MaxPool2d { size: 2 },
        Layer::Flatten,
        Layer::Linear { name: "fc1", features: 120 },
        Layer::Relu,
        Layer::Linear { name: "fc2", features: 84 },
        Layer::Relu,
        Layer::Linear { name: "fc3", features: outputs },
    ]
}
