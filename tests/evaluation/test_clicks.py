import numpy as np
import pytest
from evaluation.clicks import clicks, joint_trace
from tests.evaluation.signals import RATE, voice


def test_smooth_speech_has_hardly_any_clicks() -> None:
    assert len(clicks(voice(140.0, 3.0))) <= 1


def test_an_inserted_jump_is_found_where_it_is() -> None:
    clip = voice(140.0)
    clip[RATE // 2 :] += 0.08
    found = clicks(clip)
    assert len(found) >= 1
    assert np.abs(found - RATE // 2).min() < 50


@pytest.mark.parametrize("first", [480, 592, 720])
def test_joints_leave_a_trace_wherever_in_a_chunk_they_lie(first: int) -> None:
    clip = voice(140.0)
    jumps = np.zeros_like(clip)
    jumps[first::480] = 0.01 * np.random.default_rng(0).choice([-1, 1], len(jumps[first::480]))
    rough = clip + jumps.cumsum(dtype=np.float32)
    assert abs(joint_trace(clip, 480)) < 0.1
    assert joint_trace(rough, 480) > 0.3


def test_chance_makes_no_joint() -> None:
    rng = np.random.default_rng(1)
    traces = [joint_trace(rng.standard_normal(2 * RATE).astype(np.float32), 480) for _ in range(20)]
    assert abs(np.mean(traces)) < 0.02


def test_a_clip_of_few_chunks_has_no_figure() -> None:
    assert np.isnan(joint_trace(voice(140.0)[: 7 * 480], 480))
