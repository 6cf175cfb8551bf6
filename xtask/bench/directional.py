"""The peer of `nadgrid-worker bench directional`: LeNets trained on D(v) by an ordinary PyTorch loop.

A run is 10,000 samples in memory, two classes, SGD in batches of 128, shuffled each epoch, a learning rate that falls
linearly with each step from 0.5 to 0, gradients clipped to a norm of 0.5, and at the end accuracy and loss on the training
samples and on as many others. Prints one line of JSON; the time excludes the start of Python, the data and a warm-up.

On a GPU it takes the fastest of: one run after the other (`eager`), the same with torch.compile and CUDA graphs (`compile`),
and `--width` runs trained together by torch.func.vmap, plain (`vmap`) or compiled (`vmap-compile`).
"""

import argparse
import json
from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import nn
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from device import add_arguments, autocast, choose, prepare, seconds
from networks import flop, lenet, redraw

SIDE = 32
SAMPLES = 10_000
BATCH = 128
# Larger batches take longer on a CPU and hardly less on a GPU.
EVALUATED = 256
LEARNING_RATE = 0.5
CLIP = 0.5
# The setting that gives the published accuracies on the grid of frequencies.
OFFSET, SIGMA = 1.0, 3.0
METHODS = ["eager", "compile", "vmap", "vmap-compile"]

Parameters = dict[str, torch.Tensor]
Step = Callable[..., Parameters]


def direction() -> torch.Tensor:
    """The constant one, as a unit vector."""
    return torch.full((SIDE * SIDE,), 1 / SIDE)


def samples(v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """D(v): +v or -v by class, and noise that has nothing along v."""
    labels = torch.arange(SAMPLES) % 2
    noise = SIGMA * torch.randn(SAMPLES, v.numel())
    noise -= torch.outer(noise @ v, v)
    signs = 1.0 - 2.0 * labels
    return (OFFSET * torch.outer(signs, v) + noise).reshape(SAMPLES, 1, SIDE, SIDE), labels


def learning_rates(epochs: int) -> Iterator[float]:
    steps = epochs * -(-SAMPLES // BATCH)
    return (LEARNING_RATE * (1 - (step + 1) / steps) for step in range(steps))


class Directional:
    """Training runs, by each of the methods."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.train, self.test = samples(direction()), samples(direction())
        self.accuracies: list[float] = []
        self.compiled: nn.Module | None = None
        self.compiled_step = torch.compile(self.population_step, dynamic=False)

    def methods(self) -> dict[str, Callable[[int, int], int]]:
        sequences = {"eager": self.eager, "compile": self.compile}
        populations = {"vmap": self.population_step, "vmap-compile": self.compiled_step}
        methods = {name: partial(self.one_by_one, fit) for name, fit in sequences.items()}
        return methods | {name: partial(self.together, step) for name, step in populations.items()}

    def trials(self) -> dict[str, Callable[[], int]]:
        """One epoch, with as many runs at once as later: every shape is met, and what is compiled is compiled."""
        widths = {name: self.options.width if name.startswith("vmap") else 1 for name in METHODS}
        return {name: partial(method, widths[name], 1) for name, method in self.methods().items()}

    # One run after the other.

    def one_by_one(self, fit: Callable[[int], float], runs: int, epochs: int) -> int:
        self.accuracies = [fit(epochs) for _ in range(runs)]
        return runs

    def eager(self, epochs: int) -> float:
        network = lenet(2)
        return self.fit(network, network, epochs)

    def compile(self, epochs: int) -> float:
        if self.compiled is None:
            self.network = lenet(2)
            self.compiled = torch.compile(self.network, mode="reduce-overhead", dynamic=False)
        redraw(self.network)
        return self.fit(self.network, self.compiled, epochs)

    def fit(self, network: nn.Module, forward: nn.Module, epochs: int) -> float:
        optimizer = torch.optim.SGD(network.parameters(), lr=LEARNING_RATE)
        rates = learning_rates(epochs)
        images, labels = self.train
        for _ in range(epochs):
            for batch in torch.randperm(SAMPLES).split(BATCH):
                optimizer.param_groups[0]["lr"] = next(rates)
                with autocast(self.options):
                    loss = F.cross_entropy(forward(images[batch]), labels[batch])
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), CLIP)
                optimizer.step()
        self.evaluate(network, *self.train)
        return self.evaluate(network, *self.test)

    @torch.no_grad()
    def evaluate(self, network: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        """Percent classified rightly; the loss is computed as well, as nadgrid does."""
        with autocast(self.options):
            outputs = torch.cat([network(batch) for batch in images.split(EVALUATED)])
        F.cross_entropy(outputs.float(), labels).item()
        return 100 * (outputs.argmax(1) == labels).float().mean().item()

    # Several runs together, each with its own weights, samples and order.

    def together(self, step: Step, runs: int, epochs: int) -> int:
        width = self.options.width
        self.accuracies = [
            accuracy for start in range(0, runs, width)
            for accuracy in self.fit_population(step, min(width, runs - start), epochs)
        ]
        return runs

    def fit_population(self, step: Step, width: int, epochs: int) -> list[float]:
        members = [lenet(2) for _ in range(width)]
        parameters = {name: value.detach() for name, value in stack_module_state(members)[0].items()}
        images, labels = self.copies(width)
        rows = torch.arange(width)[:, None]
        rates = iter(torch.tensor(list(learning_rates(epochs))))
        for _ in range(epochs):
            for batch in torch.rand(width, SAMPLES).argsort(1).split(BATCH, dim=1):
                parameters = step(members[0], parameters, images[rows, batch], labels[rows, batch], next(rates))
        self.evaluate_population(members[0], parameters, *self.train)
        return self.evaluate_population(members[0], parameters, *self.test)

    @cache
    def copies(self, width: int) -> list[torch.Tensor]:
        """In a sweep each run has samples of its own. They are in memory before the clock starts: the trial makes them."""
        return [part.expand(width, *part.shape).contiguous() for part in self.train]

    def population_step(self, network: nn.Module, parameters: Parameters, images, labels, rate) -> Parameters:
        def loss(parameters: Parameters, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            with autocast(self.options):
                return F.cross_entropy(functional_call(network, parameters, (images,)), labels)

        gradients = vmap(grad(loss))(parameters, images, labels)
        squares = [gradient.flatten(1).square().sum(1) for gradient in gradients.values()]
        scale = rate * (CLIP / (torch.stack(squares).sum(0).sqrt() + 1e-6)).clamp(max=1.0)
        return {
            name: value - gradients[name] * scale.reshape(-1, *[1] * (value.dim() - 1))
            for name, value in parameters.items()
        }

    @torch.no_grad()
    def evaluate_population(self, network: nn.Module, parameters: Parameters, images, labels) -> list[float]:
        forward = vmap(lambda parameters, x: functional_call(network, parameters, (x,)), in_dims=(0, None))
        with autocast(self.options):
            outputs = torch.cat([forward(parameters, batch) for batch in images.split(EVALUATED)], 1)
        F.cross_entropy(outputs.float().flatten(0, 1), labels.repeat(len(outputs))).item()
        return (100 * (outputs.argmax(2) == labels).float().mean(1)).tolist()


def flop_of_a_run(epochs: int) -> int:
    """Forward and backward of every training sample, forward of every sample at the end."""
    network, image = lenet(2), torch.randn(1, 1, SIDE, SIDE)
    training = flop(lambda: network(image).sum().backward())
    return SAMPLES * (epochs * training + 2 * flop(lambda: network(image)))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--runs", type=int, required=True)
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--width", type=int, default=64, help="runs trained together, for vmap")
    add_arguments(arguments, METHODS)
    options = arguments.parse_args()
    options.width = min(options.width, options.runs)
    prepare(options)
    directional = Directional(options)
    method = choose(options.method, directional.trials())
    taken = seconds(lambda: directional.methods()[method](options.runs, options.epochs))
    assert len(directional.accuracies) == options.runs
    print(json.dumps({
        "runs": options.runs, "seconds": taken, "slots": torch.get_num_threads(),
        "method": method, "precision": options.precision, "flop": flop_of_a_run(options.epochs),
        "accuracy": sum(directional.accuracies) / options.runs,
    }))


if __name__ == "__main__":
    main()
