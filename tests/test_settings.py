"""Defaults that depend on the machine."""

import os
import subprocess
import sys

import pytest

from menura.settings import usable_cores

BOUND = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="binds a process as Linux does")
def test_a_process_uses_the_cores_that_it_is_bound_to():
    program = BOUND + "from menura.settings import Settings; print(Settings().cores)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize("group", ["", "system.slice/menura.service"])
@pytest.mark.parametrize(
    ("told", "cores"),
    [("50000 100000", 1), ("100000 100000", 1), ("max 100000", None), ("9900000 100000", None)],
)
def test_a_container_or_service_uses_its_share_of_the_machine(tmp_path, group, told, cores):
    own = tmp_path / "groups" / group
    own.mkdir(parents=True)
    (own / "cpu.max").write_text(told + "\n", encoding="ascii")
    (tmp_path / "cgroup").write_text(f"0::/{group}\n", encoding="ascii")
    assert usable_cores(tmp_path / "groups", tmp_path) == (cores or usable_cores(tmp_path))
