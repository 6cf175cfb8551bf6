"""What the peers share: the device, its precision, its clock, and the choice among ways to compute the same."""

import argparse
import sys
import time
from collections.abc import Callable

import torch


def add_arguments(arguments: argparse.ArgumentParser, methods: list[str]) -> None:
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    arguments.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    arguments.add_argument(
        "--method", choices=[*methods, "best"],
        help="how to compute; `best` tries each for a moment [default: best on a GPU, else the plain loop]",
    )


def prepare(options: argparse.Namespace) -> None:
    """Threads, device, precision and seed. bf16 is PyTorch's autocast: see `autocast`."""
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("PyTorch sees no GPU here")
    if options.method is None:
        options.method = "eager" if options.device == "cpu" else "best"
    # PyTorch's own default would allow TF32 in convolutions.
    torch.backends.cuda.matmul.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.allow_tf32 = options.precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.set_default_device(options.device)
    torch.manual_seed(0)


def autocast(options: argparse.Namespace) -> torch.autocast:
    return torch.autocast(options.device, dtype=torch.bfloat16, enabled=options.precision == "bf16")


def seconds(work: Callable[[], object]) -> float:
    """Wall time until the device is done."""
    synchronize()
    started = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - started


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def choose(chosen: str, trials: dict[str, Callable[[], int]]) -> str:
    """The method that was asked for, warm; or of all the fastest. A trial does a little work and says of how many items.

    What each reached goes to standard error, and so does why one could not be tried.
    """
    if chosen != "best":
        trials[chosen]()
        return chosen
    rates = {}
    for name, trial in trials.items():
        try:
            trial()
            rates[name] = rate(trial)
            print(f"{name}: {rates[name]:.3f} per second in a trial", file=sys.stderr)
        except Exception as error:  # whatever keeps a compiler or a transform from working here
            print(f"{name}: cannot be used here: {error}"[:400], file=sys.stderr)
    if not rates:
        sys.exit("no method can be used here")
    return max(rates, key=rates.__getitem__)


def rate(trial: Callable[[], int]) -> float:
    synchronize()
    started = time.perf_counter()
    items = trial()
    synchronize()
    return items / (time.perf_counter() - started)
