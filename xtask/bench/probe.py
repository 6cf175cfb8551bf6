"""Where a GPU's time goes for nadgrid's shapes: a line of JSON for each way to compute one; do 100 repeats agree?

    python3 probe.py [PRECISIONS]     for example fp32,tf32,bf16

Times are medians by CUDA events; cuDNN is deterministic and does not search, as the worker sets it. With SCALE=N in the
environment the large copies are an N-th. Needs nothing but torch.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch.nn import functional as F

WARM, ROUNDS, REPEATS = 3, 10, 100
LAST = torch.channels_last
SCALE = int(os.environ.get("SCALE", "1"))


def tell(**line: object) -> None:
    print(json.dumps(line), flush=True)


def milliseconds(work: Callable[[], object]) -> float:
    for _ in range(WARM):
        work()
    times = []
    for _ in range(ROUNDS):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def kernels(work: Callable[[], object]) -> list[str]:
    """The kernels that ran, with their microseconds."""
    try:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            work()
            torch.cuda.synchronize()
        return [f"{event.key[:90]} {event.device_time_total:.0f} us" for event in profile.key_averages()][:6]
    except Exception as error:  # without permission for the counters there is no profile
        return [f"no profile: {error}"[:90]]


class Probe:
    """The shapes in one precision."""

    def __init__(self, precision: str) -> None:
        self.precision = precision
        self.kind = torch.bfloat16 if precision == "bf16" else torch.float32
        tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda").to(self.kind)

    def say(self, what: str, flop: float, work: Callable[[], torch.Tensor], repeats: int = 0) -> None:
        line = {"what": what, "precision": self.precision}
        try:
            ms = milliseconds(work)
            line |= {"ms": round(ms, 4), "tflops": round(flop / ms / 1e9, 2), "kernels": kernels(work)}
            if repeats:
                first = work()
                line["same"] = all(torch.equal(first, work()) for _ in range(repeats))
        except Exception as error:  # one shape that cannot run is an answer too
            line["failed"] = str(error)[:200]
        tell(**line)

    def run(self) -> None:
        for channels, side in [(64, 32), (128, 16), (256, 8), (512, 4)]:
            self.stage_of_resnet18(channels, side)
        self.second_convolution_of_lenet()
        self.training_of_lenet()

    def stage_of_resnet18(self, channels: int, side: int) -> None:
        """32 members as groups, and one member at a time, plain and fused."""
        stage = f"resnet18 {channels} x {side} x {side}"

        def flop(inputs: int) -> float:
            return 2 * inputs * channels * channels * 9 * side * side

        x, w = self.random(20, 32 * channels, side, side), self.random(32 * channels, channels, 3, 3)
        self.say(f"{stage}: 32 groups, 20 inputs", 32 * flop(20), lambda: F.conv2d(x, w, padding=1, groups=32), REPEATS)
        x_last, w_last = x.contiguous(memory_format=LAST), w.contiguous(memory_format=LAST)
        grouped = lambda: F.conv2d(x_last, w_last, padding=1, groups=32)  # noqa: E731
        self.say(f"{stage}: 32 groups, 20 inputs, channels-last", 32 * flop(20), grouped)
        for inputs in (512, 2048):
            one, w1 = self.random(inputs, channels, side, side), self.random(channels, channels, 3, 3)
            bias = self.random(channels)
            what = f"{stage}: one member, {inputs} inputs"
            self.say(what, flop(inputs), lambda: F.conv2d(one, w1, padding=1))
            x1, w2 = one.contiguous(memory_format=LAST), w1.contiguous(memory_format=LAST)
            around = ([1, 1], [1, 1], [1, 1], 1)
            repeats = REPEATS if inputs == 512 else 0
            self.say(f"{what}, channels-last", flop(inputs), lambda: F.conv2d(x1, w2, padding=1), repeats)
            self.say(
                f"{what}, bias and ReLU fused", flop(inputs),
                lambda: torch.cudnn_convolution_relu(x1, w2, bias, *around), repeats,
            )
            self.say(
                f"{what}, bias, shortcut and ReLU fused", flop(inputs),
                lambda: torch.cudnn_convolution_add_relu(x1, w2, x1, 1.0, bias, *around), repeats,
            )

    def second_convolution_of_lenet(self) -> None:
        """6 channels to 16, for 32 members that are evaluated and 64 that are trained: as groups, and unfolded."""
        for members, inputs in [(32, 444), (64, 128)]:
            flop = 2 * inputs * members * 16 * 150 * 100
            x, w = self.random(inputs, 6 * members, 14, 14), self.random(16 * members, 6, 5, 5)
            grouped = lambda: F.conv2d(x, w, groups=members)  # noqa: E731
            self.say(f"lenet conv2: {members} groups, {inputs} inputs", flop, grouped, REPEATS)
            each, weights = self.random(members * inputs, 6, 14, 14), self.random(members, 150, 16)

            def unfolded() -> torch.Tensor:
                patches = F.unfold(each, 5).view(members, inputs, 150, 100).transpose(2, 3)
                return torch.bmm(patches.reshape(members, -1, 150), weights)

            self.say(f"lenet conv2: unfolded, {members} members, {inputs} inputs", flop, unfolded, REPEATS)

    def training_of_lenet(self) -> None:
        """What a step of 64 LeNets is slow at."""
        x, w, g = self.random(128, 384, 14, 14), self.random(1024, 6, 5, 5), self.random(128, 1024, 10, 10)
        flop = 2 * 128 * 64 * 16 * 150 * 100
        self.say("lenet conv2: 64 groups, gradient of inputs", flop, lambda: backward(g, x, w, 0), REPEATS)
        self.say("lenet conv2: 64 groups, gradient of weights", flop, lambda: backward(g, x, w, 1), REPEATS)
        x, w, g = self.random(128, 64, 32, 32), self.random(384, 1, 5, 5), self.random(128, 384, 28, 28)
        flop = 2 * 128 * 384 * 25 * 784
        self.say("lenet conv1: 64 members, depthwise", flop, lambda: F.conv2d(x, w, groups=64), REPEATS)
        self.say("lenet conv1: 64 members, depthwise, gradient of weights", flop, lambda: backward(g, x, w, 1), REPEATS)
        shared, every = self.random(444, 1, 32, 32), self.random(192, 1, 5, 5)
        flop = 2 * 444 * 192 * 25 * 784
        self.say("lenet conv1: 32 members, one input for all", flop, lambda: F.conv2d(shared, every))


def backward(gradient: torch.Tensor, x: torch.Tensor, w: torch.Tensor, which: int) -> torch.Tensor:
    """The gradient of a convolution of 64 groups without padding, of its inputs (0) or weights (1)."""
    settings = ([1, 1], [0, 0], [1, 1], False, [0, 0], 64, [which == 0, which == 1, False])
    return torch.ops.aten.convolution_backward(gradient, x, w, None, *settings)[which]


def copies() -> None:
    """What goes over PCIe: a ResNet18's weights, and a block's."""
    for what, count in [("45 MB", 11_168_193), ("1.43 GB", 357_382_176 // SCALE)]:
        pageable, target = torch.zeros(count), torch.empty(count, device="cuda")
        for name, source in [("pageable", pageable), ("pinned", pageable.pin_memory())]:
            torch.cuda.synchronize()
            began = time.perf_counter()
            for _ in range(3):
                target.copy_(source, non_blocking=True)
            torch.cuda.synchronize()
            rate = 3 * 4 * count / (time.perf_counter() - began) / 1e9
            tell(what=f"host to device, {what}, {name}", gb_per_second=round(rate, 2))


def launches() -> None:
    x = torch.zeros(1024, device="cuda")
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10_000):
        x.add_(x)
    torch.cuda.synchronize()
    tell(what="a small launch", microseconds=round((time.perf_counter() - began) * 100, 2))


def main() -> None:
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
    tell(
        device=torch.cuda.get_device_name(), torch=torch.__version__,
        cudnn=torch.backends.cudnn.version(), cuda=torch.version.cuda,
    )
    torch.set_grad_enabled(False)
    launches()
    copies()
    for precision in (sys.argv[1] if len(sys.argv) > 1 else "fp32,tf32,bf16").split(","):
        Probe(precision).run()


if __name__ == "__main__":
    main()
