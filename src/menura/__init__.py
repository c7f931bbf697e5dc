"""Menura: a self-hosted streaming voice changer."""

import os
from importlib.metadata import version

# Streams share the cores, one thread each. A linear-algebra library that brings a pool of threads
# of its own, as NumPy's does for every small product, makes them wait for each other. It reads
# this when NumPy is imported, hence the place.
for _name in ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")
# onnxruntime keeps notes of its use in the home folder, meant for its makers. It asks when it is
# imported; its own function for the purpose comes too late.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = version("menura")
