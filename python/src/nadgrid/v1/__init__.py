"""Generated code of the contract ``nadgrid.v1``, for programs that want the calls themselves.

``python/generate.py`` makes it from ``proto/nadgrid/v1/nadgrid.proto``.
"""
