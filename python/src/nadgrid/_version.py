"""The version of this package."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("nadgrid")
except PackageNotFoundError:
    # Run from a working tree that is not installed.
    VERSION = "0.1.0"
