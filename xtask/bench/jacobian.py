"""The peer of `nadgrid-worker bench jacobian`: the same finite differences in an ordinary PyTorch loop.

One network at a time (1 channel, 1 output, PyTorch's default initialisation, evaluation mode): the 1,024 inputs shifted by
+h and the 1,024 shifted by -h, in batches. Prints one line of JSON; the time excludes the start of Python and a warm-up.

The batches are the reference's two of 1,024, but for ResNet18 on a CPU: 64 inputs in channels-last were the fastest of 64, 128,
256 and 1,024 in either memory format (23 seconds of one core's time a network; 128: 27, 256: 28, 1,024: 31 or, in the usual
format, 37; 16 and 32 are within 5 % of 64). LeNet can be tuned as well: `--batch 256 --method channels-last` takes half
the time of the reference's batches on a CPU.

On a GPU it takes the fastest of: the plain loop (`eager`, in either memory format), `compile` (torch.compile with CUDA
graphs, the network's parameters redrawn in place), and `vmap` (torch.func.vmap over `--width` networks at once).
"""

import argparse
import json
from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from device import add_arguments, autocast, choose, prepare, seconds
from networks import ARCHITECTURES, flop, redraw

SIDE = 32
PIXELS = SIDE * SIDE
STEP = 100.0
METHODS = ["eager", "channels-last", "compile", "vmap"]
# Where the reference's batches are not the fastest by far: inputs in a batch, and the method.
TUNED = {("resnet18", "cpu"): (64, "channels-last")}

Gradients = Callable[[int], torch.Tensor]


def perturbed() -> torch.Tensor:
    """Every pixel shifted by +h, then every pixel by -h: 2,048 inputs around one point."""
    shifts = STEP * torch.eye(PIXELS)
    return (torch.randn(PIXELS) + torch.cat([shifts, -shifts])).reshape(2 * PIXELS, 1, SIDE, SIDE)


class Jacobian:
    """Gradients of random networks at one point, by each of the methods."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.draw = lambda: ARCHITECTURES[options.architecture](1).eval()
        self.options = options
        self.batches = perturbed().split(options.batch)
        self.compiled: nn.Module | None = None
        self.rows: torch.Tensor | None = None

    def methods(self) -> dict[str, Callable[[int], int]]:
        return {name: partial(self.run, getattr(self, name.replace("-", "_"))) for name in METHODS}

    def run(self, gradients: Gradients, networks: int) -> int:
        with torch.inference_mode(), autocast(self.options):
            self.rows = gradients(networks)
        return networks

    def eager(self, networks: int) -> torch.Tensor:
        rows = torch.empty(networks, PIXELS)
        for row in rows:
            network = self.draw()
            row.copy_(differences([network(batch) for batch in self.batches]))
        return rows

    def channels_last(self, networks: int) -> torch.Tensor:
        rows = torch.empty(networks, PIXELS)
        batches = [batch.contiguous(memory_format=torch.channels_last) for batch in self.batches]
        for row in rows:
            network = self.draw().to(memory_format=torch.channels_last)
            row.copy_(differences([network(batch) for batch in batches]))
        return rows

    def compile(self, networks: int) -> torch.Tensor:
        if self.compiled is None:
            self.network = self.draw()
            self.compiled = torch.compile(self.network, mode="reduce-overhead")
        rows = torch.empty(networks, PIXELS)
        for row in rows:
            redraw(self.network)
            # A CUDA graph writes its next output into the same memory.
            row.copy_(differences([self.compiled(batch).clone() for batch in self.batches]))
        return rows

    def vmap(self, networks: int) -> torch.Tensor:
        rows = []
        for start in range(0, networks, self.options.width):
            members = [self.draw() for _ in range(min(self.options.width, networks - start))]
            state = stack_module_state(members)
            forward = vmap(lambda state, x: functional_call(members[0], state, (x,)), in_dims=(0, None))
            rows.append(differences([forward(state, batch) for batch in self.batches], dim=1))
        return torch.cat(rows)


def differences(outputs: list[torch.Tensor], dim: int = 0) -> torch.Tensor:
    plus, minus = torch.cat(outputs, dim).float().squeeze(-1).split(PIXELS, dim)
    return (plus - minus) / (2 * STEP)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--architecture", choices=list(ARCHITECTURES), default="lenet")
    arguments.add_argument("--networks", type=int, required=True)
    arguments.add_argument("--batch", type=int, help="inputs in a batch [default: 1024, or 64 for ResNet18 on a CPU]")
    arguments.add_argument("--width", type=int, default=16, help="networks at once, for vmap")
    add_arguments(arguments, METHODS)
    options = arguments.parse_args()
    batch, method = TUNED.get((options.architecture, options.device), (PIXELS, None))
    options.batch, options.method = options.batch or batch, options.method or method
    prepare(options)
    jacobian = Jacobian(options)
    methods = jacobian.methods()
    few = 1 if options.device == "cpu" else min(options.networks, options.width)
    method = choose(options.method, {name: partial(work, few) for name, work in methods.items()})
    taken = seconds(lambda: methods[method](options.networks))
    assert jacobian.rows is not None and jacobian.rows.shape == (options.networks, PIXELS)
    assert jacobian.rows.isfinite().all() and jacobian.rows.abs().sum() > 0
    network, one = jacobian.draw(), jacobian.batches[0][:1]
    print(json.dumps({
        "networks": options.networks, "seconds": taken, "slots": torch.get_num_threads(),
        "method": method, "batch": options.batch, "precision": options.precision, "flop": 2 * PIXELS * flop(lambda: network(one)),
    }))


if __name__ == "__main__":
    main()
