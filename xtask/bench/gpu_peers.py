"""A round of `gpu.sh` on PyTorch's side: every peer once, in one process, since importing torch may take the longest.

A line of JSON for each measurement as it comes. One that fails is told on standard error, and the others go on.
"""

import argparse
import contextlib
import io
import json
import sys
import traceback

import torch

import directional
import jacobian
import matmul

# What is compared, how it is usually fastest on a GPU, and how much of it takes a few seconds.
PEERS = [
    ("resnet18", jacobian, "channels-last", ["--architecture", "resnet18", "--networks"], 32),
    ("lenet", jacobian, "eager", ["--architecture", "lenet", "--networks"], 512),
]
RUNS = ("directional", directional, "vmap", ["--epochs", "4", "--runs"], 64)


def measure(bench: str, precision: str, program: object, arguments: list[str]) -> None:
    print(f"== pytorch {bench} {precision}: {' '.join(arguments)}", file=sys.stderr, flush=True)
    sys.argv = [bench, *arguments, "--device", "cuda", "--precision", precision]
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            program.main()
        measured = json.loads(printed.getvalue().splitlines()[-1])
        print(json.dumps({"side": "pytorch", "bench": bench, "precision": precision, "measured": measured}), flush=True)
    except (Exception, SystemExit):
        traceback.print_exc()
    torch.cuda.empty_cache()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--precisions", default="fp32,tf32,bf16")
    arguments.add_argument("--scale", type=int, default=1, help="compute an N-th")
    arguments.add_argument("--method", help="one way for all, such as `best` [default: the usually fastest of each]")
    options = arguments.parse_args()
    precisions = options.precisions.split(",")
    jobs = [(*peer, precision) for precision in precisions for peer in PEERS]
    jobs += [(*RUNS, "fp32")] if "fp32" in precisions else []
    for bench, program, way, what, amount, precision in jobs:
        amount = str(max(2, amount // options.scale))
        measure(bench, precision, program, [*what, amount, "--method", options.method or way])
    # Last: it is only what shares are told of.
    for precision in precisions:
        measure("matmul", precision, matmul, [])


if __name__ == "__main__":
    main()
