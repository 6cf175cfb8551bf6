// Everything else that libtorch asks of CUDA's libraries, named in stubs.inc: it succeeds, gives nothing, and is
// counted. `cargo xtask gpu-dry-run` writes that file from what libtorch's libraries leave open.

#include "card.hpp"

#define STUB(name)                                       \
  extern "C" long name() {                               \
    static card::Row& called = card::row("other " #name); \
    return called.add(), 0;                              \
  }
#include "stubs.inc"
