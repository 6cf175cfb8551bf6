"""The measurements of `gpu.sh` as a Markdown table: medians, their ratio, and shares of the GPU's own matrix product.

The operations of a network or a run are those of the plain dense evaluation, as PyTorch counts them, on both sides.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from statistics import median

UNITS = {
    "lenet": ("jacobian, LeNet", "networks/s", 1),
    "resnet18": ("jacobian, ResNet18", "networks/s", 1),
    "directional": ("directional, LeNet", "runs/min", 60),
}


def count(measured: dict) -> float:
    return measured.get("networks", measured.get("runs"))


class Measurements:
    def __init__(self, lines: list[str]) -> None:
        self.of = defaultdict(list)
        for line in map(json.loads, lines):
            self.of[line["bench"], line["precision"], line["side"]].append(line["measured"])

    def rate(self, *key: str) -> float | None:
        """Items per second, the median of all rounds."""
        rates = [count(measured) / measured["seconds"] for measured in self.of.get(key, [])]
        return median(rates) if rates else None

    def method(self, bench: str, precision: str) -> str:
        """What the first round chose; before it, the choice itself."""
        measured = self.of.get((bench, precision, "pytorch"))
        return measured[0]["method"] if measured else "best"

    def precisions(self) -> list[str]:
        return list(dict.fromkeys(precision for _, precision, _ in self.of))

    def row(self, bench: str, precision: str) -> list[str] | None:
        ours, theirs = (self.rate(bench, precision, side) for side in ("nadgrid", "pytorch"))
        if ours is None and theirs is None:
            return None
        title, unit, seconds = UNITS[bench]
        return [
            title, precision, unit, number(ours, seconds), number(theirs, seconds),
            self.method(bench, precision) if theirs else "", f"**{ours / theirs:.2f}**" if ours and theirs else "failed",
            self.share(bench, precision, ours), self.share(bench, precision, theirs),
        ]

    def share(self, bench: str, precision: str, rate: float | None) -> str:
        peak = self.of.get(("matmul", precision, "pytorch"))
        work = self.of.get((bench, precision, "pytorch"))
        if rate is None or not peak or not work:
            return ""
        return f"{100 * rate * work[0]['flop'] / peak[0]['flop_per_second']:.1f} %"


def number(rate: float | None, seconds: int) -> str:
    return "failed" if rate is None else f"{rate * seconds:,.1f}"


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--method", nargs=2, metavar=("BENCH", "PRECISION"), help="only say how PyTorch is fastest")
    arguments.add_argument("measurements", type=Path)
    options = arguments.parse_args()
    found = Measurements(options.measurements.read_text().splitlines())
    if options.method:
        print(found.method(*options.method))
        return
    peaks = {precision: found.of.get(("matmul", precision, "pytorch")) for precision in found.precisions()}
    cards = sorted({peak[0]["device"] for peak in peaks.values() if peak})
    print(f"On one {', '.join(cards) or 'GPU'}; medians, sides in turns.\n")
    reached = [[precision, f"{peak[0]['flop_per_second'] / 1e12:.1f}"] for precision, peak in peaks.items() if peak]
    print(table(["matrix product, 8,192 wide", "TFLOP/s"], reached), end="\n\n")
    head = ["benchmark", "precision", "unit", "nadgrid", "PyTorch", "its best way", "ratio", "nadgrid's share", "PyTorch's share"]
    print(table(head, [row for bench in UNITS for precision in peaks if (row := found.row(bench, precision))]))
    print("\nShares are of the matrix product's rate in the same precision.")


if __name__ == "__main__":
    main()
