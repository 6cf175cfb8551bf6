"""The measurements of `gpu.sh` as a Markdown table: medians, their ratio, and shares of the GPU's own matrix product.

The operations of a network or a run are those of the plain dense evaluation, as PyTorch counts them, on both sides.
"""

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from statistics import mean, median

UNITS = {
    "lenet": ("jacobian, LeNet", "networks/s", 1),
    "resnet18": ("jacobian, ResNet18", "networks/s", 1),
    "vgg11": ("jacobian, VGG11", "networks/s", 1),
    "densenet121": ("jacobian, DenseNet121", "networks/s", 1),
    "directional": ("directional, LeNet", "runs/min", 60),
}


def rate(measured: dict) -> float:
    """Items per second."""
    return measured.get("networks", measured.get("runs")) / measured["seconds"]


class Measurements:
    def __init__(self, lines: list[str]) -> None:
        self.of = defaultdict(list)
        for line in map(json.loads, lines):
            self.of[line["bench"], line["precision"], line["side"]].append(line["measured"])

    def ours(self, bench: str, precision: str) -> float | None:
        """The median of all rounds."""
        rates = [rate(measured) for measured in self.of.get((bench, precision, "nadgrid"), [])]
        return median(rates) if rates else None

    def theirs(self, bench: str, precision: str) -> tuple[float, str] | None:
        """The fastest of the ways that were tried, each by its median."""
        ways = defaultdict(list)
        for measured in self.of.get((bench, precision, "pytorch"), []):
            ways[measured["method"]].append(rate(measured))
        return max(((median(rates), way) for way, rates in ways.items()), default=None)

    def precisions(self) -> list[str]:
        return list(dict.fromkeys(precision for _, precision, _ in self.of))

    def row(self, bench: str, precision: str) -> list[str] | None:
        ours, theirs = self.ours(bench, precision), self.theirs(bench, precision)
        if ours is None and theirs is None:
            return None
        title, unit, seconds = UNITS[bench]
        their_rate, way = theirs or (None, "")
        return [
            title, precision, unit, number(ours, seconds), number(their_rate, seconds), way,
            f"**{ours / their_rate:.2f}**" if ours and their_rate else "",
            self.share(bench, precision, ours), self.share(bench, precision, their_rate),
        ]

    def share(self, bench: str, precision: str, reached: float | None) -> str:
        peak = self.of.get(("matmul", precision, "pytorch"))
        work = self.of.get((bench, precision, "pytorch"))
        if reached is None or not peak or not work:
            return ""
        return f"{100 * reached * work[0]['flop'] / peak[0]['flop_per_second']:.1f} %"


def number(reached: float | None, seconds: int) -> str:
    return "" if reached is None else f"{reached * seconds:,.1f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def gap(one: Path, other: Path) -> float:
    """The mean difference of the test accuracies of the same runs, in points."""
    def accuracies(path: Path) -> dict[tuple[str, ...], float]:
        with path.open() as file:
            return {(run["direction"], run["seed"]): float(run["test_accuracy"]) for run in csv.DictReader(file)}

    ours, theirs = accuracies(one), accuracies(other)
    return abs(mean(ours[run] - theirs[run] for run in ours))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--gap", nargs=2, type=Path, metavar="CSV", help="only compare two files of runs")
    arguments.add_argument("measurements", type=Path, nargs="?")
    options = arguments.parse_args()
    if options.gap:
        print(f"{gap(*options.gap):.2f}")
        return
    found = Measurements(options.measurements.read_text().splitlines())
    peaks = {precision: found.of.get(("matmul", precision, "pytorch")) for precision in found.precisions()}
    cards = sorted({peak[0]["device"] for peak in peaks.values() if peak})
    print(f"On one {', '.join(cards) or 'GPU'}; medians, nadgrid and PyTorch in turns.\n")
    reached = [[precision, f"{peak[0]['flop_per_second'] / 1e12:.1f}"] for precision, peak in peaks.items() if peak]
    if reached:
        print(table(["matrix product, 8,192 wide", "TFLOP/s"], reached), end="\n\n")
    head = ["benchmark", "precision", "unit", "nadgrid", "PyTorch", "its best way", "ratio"]
    head += ["nadgrid's share", "PyTorch's share"]
    print(table(head, [row for bench in UNITS for precision in peaks if (row := found.row(bench, precision))]))
    print("\nShares are of the matrix product's rate in the same precision.")


if __name__ == "__main__":
    main()
