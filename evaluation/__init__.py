"""Judging suite of Menura: scores converters with referees that no training uses.

Every library is held to one thread, which has to be said before any of them is imported.
"""

import os
import sys
from importlib.util import find_spec

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

if find_spec("torch") is None:
    sys.exit("no torch in this environment; `make train-setup` makes .venv-training with it")
