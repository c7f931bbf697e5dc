import numpy as np
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


def test_joints_leave_a_trace_only_where_they_are() -> None:
    clip = voice(140.0)
    jumps = np.zeros_like(clip)
    jumps[480::480] = 0.01 * np.random.default_rng(0).choice([-1, 1], len(jumps[480::480]))
    rough = clip + jumps.cumsum(dtype=np.float32)
    assert abs(joint_trace(clip, 480)) < 0.1
    assert joint_trace(rough, 480) > 0.3
