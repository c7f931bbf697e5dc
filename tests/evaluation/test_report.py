import json
from pathlib import Path

from evaluation.scores import summary

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
