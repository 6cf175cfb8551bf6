"""The peer of `nadgrid-worker bench jacobian`: the same finite differences in an ordinary PyTorch loop.

One LeNet at a time (1 channel, 1 output, PyTorch's default initialisation), all 1,024 inputs shifted by +h in one batch and
all shifted by -h in another. Prints one line of JSON; the time excludes the start of Python and one network of warm-up.
"""

import argparse
import json
import time

import torch
from torch import nn

SIDE = 32
PIXELS = SIDE * SIDE
STEP = 100.0


def lenet() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(),
        nn.Linear(84, 1),
    ).eval()


@torch.no_grad()
def gradients(networks: int, plus: torch.Tensor, minus: torch.Tensor) -> torch.Tensor:
    rows = torch.empty(networks, PIXELS)
    for row in rows:
        network = lenet()
        row.copy_((network(plus) - network(minus)).flatten() / (2 * STEP))
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--networks", type=int, required=True)
    arguments.add_argument("--threads", type=int, required=True)
    arguments = arguments.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    centre = torch.randn(PIXELS)
    steps = STEP * torch.eye(PIXELS)
    plus, minus = ((centre + sign * steps).reshape(PIXELS, 1, SIDE, SIDE) for sign in (1, -1))
    gradients(1, plus, minus)
    started = time.perf_counter()
    rows = gradients(arguments.networks, plus, minus)
    seconds = time.perf_counter() - started
    assert rows.isfinite().all()
    print(json.dumps({"networks": arguments.networks, "seconds": seconds, "lanes": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
