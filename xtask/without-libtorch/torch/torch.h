// Found in place of libtorch's own torch/torch.h only where `.libtorch` is missing (see .cargo/config.toml): torch-sys is
// compiled before any build script of ours runs, and would otherwise fail with nothing that says what to do.
// An include that cannot be opened ends the compilation at once; an #error would be followed by a thousand others.
#include "libtorch is not set up: run `cargo xtask setup` once, then build again"
