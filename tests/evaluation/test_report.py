import json
import math
from pathlib import Path

import numpy as np
import pytest
from evaluation.scores import intervals, summary

from evaluation import report


def test_medians_shares_and_amounts() -> None:
    rows = [
        {"phone_error": 0.1, "resemblyzer_nearer": 1.0, "lag": -3.0},
        {"phone_error": 0.2, "resemblyzer_nearer": 0.0, "lag": 3.0},
        {"phone_error": float("nan"), "resemblyzer_nearer": 1.0, "lag": 3.0},
    ]
    found = summary(rows)
    assert found["phone_error"] == 0.15000000000000002
    assert found["resemblyzer_nearer"] == 2 / 3
    assert found["lag"] == 3.0


def test_an_interval_is_as_wide_as_medians_of_so_many_results_differ() -> None:
    values = np.random.default_rng(1).normal(0.4, 0.1, 400)
    low, high = intervals([{"phone_error": value} for value in values])["phone_error"]
    # A median of n normal values deviates by 1.25 / sqrt(n) of their deviation.
    assert high - low == pytest.approx(2 * 1.96 * 1.253 * 0.1 / math.sqrt(400), rel=0.35)
    assert low < np.median(values) < high
    assert "phone_error" not in intervals([{"phone_error": value} for value in values[:7]])
    same = intervals([{"phone_error": 0.3, "word_error": 0.1}] * 8)
    assert same == {"phone_error": (0.3, 0.3)}


def test_a_report_tells_intervals_beside_what_has_a_bar(tmp_path: Path) -> None:
    rows = [
        {"pair": f"{number}", "group": "natural", "kind": "same", "converter": "ours",
         "figures": {"phone_error": number / 10, "word_error": number / 10}}
        for number in range(9)
    ]  # fmt: skip
    text = report.write(tmp_path, "a title", rows, []).read_text(encoding="utf-8")
    assert "| phone error against source | 0.400 (0.100 to 0.700) | ≤ 0.38 | ≤ 0.25 |" in text
    assert "| word error against source | 0.400 | – | – |" in text  # noqa: RUF001


def test_a_report_holds_a_table_per_group_with_the_bars(tmp_path: Path) -> None:
    rows = [
        {"pair": f"{kind}{who}", "group": "natural", "kind": kind, "converter": who,
         "figures": {"phone_error": 0.3, "resemblyzer_target": 0.7}}
        for kind in ("same", "cross") for who in ("world", "ours")
    ]  # fmt: skip
    path = report.write(tmp_path / "new", "a title", rows, ["a note"])
    text = path.read_text(encoding="utf-8")
    for heading in ("## natural\n", "## natural, same sex", "## natural, cross sex"):
        assert heading in text
    assert "| phone error against source | 0.300 | 0.300 | ≤ 0.38 | ≤ 0.25 |" in text
    assert len(json.loads((tmp_path / "new" / "figures.json").read_text())) == 4
