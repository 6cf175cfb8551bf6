//! scratch
use std::{fs, path::Path};

use nadgrid_figures::{InputShape, NadFigure, NadSet, ReferenceSpectrum, nad_figure};
use ndarray::{Array1, Array2, s};

fn main() {
    let set = NadSet::open(Path::new("/work/shared/data/published/LeNet_NADs.npy")).unwrap();
    let logreg = nadgrid_figures::npy::read_vector(Path::new("/work/shared/data/published/LogReg_eigenvals.npy")).unwrap();
    let sv = set.singular_values.clone().unwrap();
    let base = NadFigure {
        architecture: "LeNet", networks: Some(10_000), estimator: "central differences", step: Some(100.0),
        shape: InputShape { channels: 1, height: 32, width: 32 },
        nads: set.nads.view(), singular_values: sv.view(),
        reference: Some(ReferenceSpectrum { label: "LogReg, published", singular_values: logreg.view() }),
    };
    let save = |name: &str, f: &NadFigure<'_>| {
        let t = std::time::Instant::now();
        let fig = nad_figure(f).unwrap();
        fs::write(format!("/tmp/w/{name}.svg"), fig.svg()).unwrap();
        fs::write(format!("/tmp/w/{name}.png"), fig.png().unwrap()).unwrap();
        println!("{name} {:?} {}", t.elapsed(), fig.svg().len());
    };
    save("fig", &base);
    let three = set.nads.slice(s![..3, ..]);
    save("three", &NadFigure { nads: three, singular_values: sv.slice(s![..3]), reference: None, ..base });
    let small = Array2::from_shape_fn((256, 256), |(i, j)| set.nads[[i, (j / 16) * 64 + (j % 16) * 2]]);
    let mut few = sv.slice(s![..256]).to_owned();
    few.slice_mut(s![12..]).fill(0.0);
    save("few", &NadFigure { architecture: "an architecture with quite a long name, ViT-patch4-dim128-depth3-heads8", nads: small.view(), singular_values: few.view(), shape: InputShape { channels: 1, height: 16, width: 16 }, networks: Some(13), ..base });
    let rgb = Array2::from_shape_fn((300, 3072), |(i, j)| set.nads[[(i + j / 1024 * 5) % 1023, j % 1024]] * (1.0 + (j / 1024) as f64));
    let svr = Array1::from_shape_fn(300, |i| (-(i as f64) / 14.0).exp());
    save("rgb", &NadFigure { architecture: "ResNet18", estimator: "autograd", step: None, nads: rgb.view(), singular_values: svr.view(), shape: InputShape { channels: 3, height: 32, width: 32 }, ..base });
    save("flat", &NadFigure { architecture: "vector", nads: set.nads.slice(s![..1, ..784]), singular_values: sv.slice(s![..1]), shape: InputShape { channels: 1, height: 1, width: 784 }, ..base });
}
