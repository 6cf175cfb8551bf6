"""Numbers, durations and rates in words: the page's own modules, as the coordinator serves them."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Library

CASES = [
    ("count", [1234567], "1,234,567"),
    ("counted", [1, "run"], "1 run"),
    ("counted", [2000, "retry", "retries"], "2,000 retries"),
    ("duration", [0], "0 ms"),
    ("duration", [0.0123], "12 ms"),
    ("duration", [0.1], "0.1 s"),
    ("duration", [9.94], "9.9 s"),
    ("duration", [59.6], "1 min"),
    ("duration", [130], "2 min 10 s"),
    ("duration", [3600], "1 h"),
    ("duration", [3600 * 25 + 61], "1 d 1 h"),
    ("duration", [None], "–"),
    # The values of the tests in core/src/text.rs: the command line says the same.
    ("percent", [0], "0 %"),
    ("percent", [0.29], "29 %"),
    ("percent", [0.999], "99 %"),
    ("percent", [1], "100 %"),
    ("timeLeft", [0.42], "0.4 s"),
    ("timeLeft", [12.4], "12 s"),
    ("timeLeft", [185.2], "3 min 5 s"),
    ("timeLeft", [7320], "2 h 2 min"),
    ("rate", [980.4, "networks"], "980 networks/s"),
    ("rate", [0.5, "runs"], "30 runs/min"),
    ("rate", [0.001, "runs"], "3.6 runs/h"),
    ("rate", [None, "runs"], "–"),
    ("bytes", [0], "0 B"),
    ("bytes", [1023], "1,023 B"),
    ("bytes", [1536], "1.5 KiB"),
    ("bytes", [4194432], "4.0 MiB"),
    ("significant", [0.43, 3], "0.430"),
    ("significant", [1.2e-7, 3], "1.20e-7"),
    ("significant", [12345.6, 4], "12,350"),
    ("membersWord", [["nads/lenet"]], "networks"),
    ("membersWord", [["directional", "flipping"]], "runs"),
    ("membersWord", [["nads", "flipping"]], "networks and runs"),
]


@pytest.fixture(scope="module")
def say(library: Library, browser: Any) -> Any:
    page = browser.new_page()
    page.goto(library.cluster.url)
    yield lambda name, arguments: page.evaluate(
        "async ([name, values]) => (await import('/page/format.js'))[name](...values)", [name, arguments]
    )
    page.close()


@pytest.mark.parametrize(("name", "arguments", "expected"), CASES)
def test_words(name: str, arguments: list[Any], expected: str, say: Any) -> None:
    assert say(name, arguments) == expected
