"""Loading the networks changes nothing outside them."""

import subprocess
import sys

SCRIPT = """
import numpy as np
from menura.engine.neural.networks import shipped_networks
shipped_networks()
assert np.array([5e-324]) * 1.0 > 0.0
"""


def test_the_processs_arithmetic_stays_exact() -> None:
    # onnxruntime can be told to flush denormals to zero, and then does so for its caller too.
    subprocess.run([sys.executable, "-c", SCRIPT], check=True)
