import numpy as np
import pytest
import torch
from evaluation.speaker_model import SpeakerNet, embed, load_speaker_net, mel_power
from tests.evaluation.signals import voice


def test_mel_frames_follow_the_hop() -> None:
    assert mel_power(np.zeros(16000, dtype=np.float32)).shape == (101, 64)


def test_a_fixed_filter_does_not_move_the_vector() -> None:
    torch.manual_seed(0)
    net = SpeakerNet().eval()
    frames = torch.randn(1, 200, 64)
    filtered = frames + torch.linspace(-3.0, 3.0, 64)
    assert torch.allclose(net(frames), net(filtered), atol=1e-4)


def test_level_and_length_hardly_move_the_vector() -> None:
    net = load_speaker_net()
    clip = voice(150.0, 4.0)
    whole = embed(net, clip)
    assert np.linalg.norm(whole) == pytest.approx(1.0, abs=1e-4)
    assert whole @ embed(net, 0.1 * clip) > 0.98
    assert embed(net, clip[:2000]).shape == (128,)
