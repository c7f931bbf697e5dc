"""Whoever shares a data folder knows that it does."""

from pathlib import Path

from menura.storage.sole_process import SoleProcess


def test_only_one_process_at_a_time_is_alone(tmp_path: Path) -> None:
    first = SoleProcess(tmp_path / "lock")
    assert first.alone
    first.share()
    second = SoleProcess(tmp_path / "lock")
    assert not second.alone
    second.share()
    first.release()
    third = SoleProcess(tmp_path / "lock")
    assert not third.alone
    third.release()
    second.release()
    last = SoleProcess(tmp_path / "lock")
    assert last.alone
    last.release()
