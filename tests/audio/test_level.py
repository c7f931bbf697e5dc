import numpy as np

from menura.audio.level import bounded, mono, to_float, to_int16


def test_rounding_clips_and_never_wraps() -> None:
    samples = np.array([-2, -1, -0.5, 0, 0.5, 1, 2, 1e30, -1e30], np.float32)
    codes = [-32768, -32768, -16384, 0, 16384, 32767, 32767, 32767, -32768]
    assert to_int16(samples).tolist() == codes


def test_nan_and_infinity_become_silence() -> None:
    samples = np.array([np.nan, np.inf, -np.inf, 0.25, 1e9], np.float32)
    assert bounded(samples).tolist() == [0, 0, 0, 0.25, 16]
    assert to_int16(samples).tolist() == [0, 0, 0, 8192, 32767]


def test_every_width_of_integers_has_the_same_full_scale() -> None:
    for kind in ("i2", "i4", "i8"):
        low = np.iinfo(kind).min
        assert to_float(np.array([low, 0, low // 2], kind)).tolist() == [-1, 0, -0.5]
    assert to_float(np.array([0, 128, 192], np.uint8)).tolist() == [-1, 0, 0.5]
    assert to_float(np.array([0.5, 1e300, np.nan], np.float64)).tolist() == [0.5, 0, 0]


def test_channels_are_mixed_by_their_mean() -> None:
    frames = np.array([[1, 0], [0.5, -0.5], [1, 1]], np.float32)
    assert mono(frames).tolist() == [0.5, 0, 1]
