"""What the GPU reaches at its best: the rate of one large matrix product by PyTorch, in the given precision.

Prints one line of JSON. On random numbers: zeros draw less power and run faster.
"""

import argparse
import json

import torch

from device import prepare, seconds

SIDE = 8192
PRODUCTS = 20


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    arguments.add_argument("--precision", choices=["fp32", "tf32", "bf16"], default="fp32")
    arguments.add_argument("--side", type=int, default=SIDE)
    options = arguments.parse_args()
    options.threads, options.method = torch.get_num_threads(), "eager"
    prepare(options)
    left, right = (torch.randn(options.side, options.side) for _ in range(2))
    if options.precision == "bf16":
        left, right = left.bfloat16(), right.bfloat16()
    product = torch.empty_like(left)

    def products() -> None:
        for _ in range(PRODUCTS):
            torch.matmul(left, right, out=product)

    products()
    taken = sorted(seconds(products) for _ in range(3))[1]
    assert product.isfinite().all()
    print(json.dumps({
        "flop_per_second": PRODUCTS * 2 * options.side**3 / taken, "precision": options.precision,
        "device": torch.cuda.get_device_name() if options.device == "cuda" else "cpu",
    }))


if __name__ == "__main__":
    main()
