"""What importing the package does to the machine: nothing."""

import os
import subprocess
import sys
from pathlib import Path


def test_loading_the_networks_leaves_nothing_in_the_home_folder(tmp_path: Path) -> None:
    """onnxruntime would keep notes of its use there for its makers."""
    code = "from menura.engine.neural import NeuralEngine; NeuralEngine()"
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    kept.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run(
        [sys.executable, "-c", code], env=kept | {"HOME": str(tmp_path)}, check=True, timeout=120
    )
    assert list(tmp_path.iterdir()) == []
