from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from evaluation.pairs import folder_pairs, target_of
from tests.evaluation.signals import RATE, voice


def test_reference_and_judged_speech_share_nothing() -> None:
    clip = np.arange(14 * RATE, dtype=np.float32)
    target = target_of("someone", "F", [clip])
    assert target.held_out
    assert np.array_equal(np.concatenate([target.reference, target.judged]), clip)
    assert 5 * RATE < len(target.reference) < 13 * RATE


def test_whole_clips_are_kept_whole_where_there_are_several() -> None:
    clips = [np.full(4 * RATE, i, dtype=np.float32) for i in range(5)]
    target = target_of("someone", None, clips)
    assert set(target.reference).isdisjoint(target.judged)


def test_short_speech_is_its_own_judge_and_says_so() -> None:
    target = target_of("someone", None, [np.zeros(4 * RATE, dtype=np.float32)])
    assert not target.held_out


def _folder(root: Path) -> Path:
    for part, names in (("sources", "ab"), ("targets", "cd")):
        (root / part).mkdir()
        for name in names:
            sf.write(root / part / f"{name}.wav", voice(150.0, 0.5), 16000)
    return root


def test_a_folder_gives_every_source_with_every_target(tmp_path: Path) -> None:
    pairs = folder_pairs(_folder(tmp_path))
    assert {p.name for p in pairs} == {"a__c", "a__d", "b__c", "b__d"}
    assert len(pairs[0].source) == round(0.5 * RATE * RATE / 16000)


def test_a_list_chooses_pairs_and_says_their_sexes(tmp_path: Path) -> None:
    listing = _folder(tmp_path) / "pairs.csv"
    listing.write_text("source,target,source_sex,target_sex\na,d,F,M\n", encoding="utf-8")
    (pair,) = folder_pairs(tmp_path)
    assert (pair.name, pair.kind) == ("a__d", "cross")


def test_an_empty_folder_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=tmp_path.name):
        folder_pairs(tmp_path)
