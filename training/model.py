"""The networks: what is said (Content), whose voice (VoiceEncoder), and the sound of both
(Decoder).

All convolutions over time look back only. Look-ahead is a shift: the decoder reads the content code
of three frames later, which has heard 30 ms more.
"""

from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

from menura.engine.neural import filters
from menura.engine.neural.features import BANDS, MELS

STEERING = 4 + BANDS
"""Log F0, the same over the voice's median, energy over the speech's, its change, periodicity."""
STATISTICS = 2 * MELS + 2
"""Mean and deviation of the reference's level-free log-mel, and of its log F0."""


@dataclass(frozen=True)
class Shape:
    """Sizes of the networks; stored with every checkpoint."""

    content: int = 192
    content_hidden: int = 448
    content_blocks: int = 6
    decoder: int = 256
    decoder_hidden: int = 640
    decoder_blocks: int = 6
    voice: int = 192
    statistics: int = 64
    kernel: int = 7
    phones: int = 48

    def as_strings(self) -> dict[str, str]:
        """Return the fields for a safetensors header."""
        return {name: str(value) for name, value in asdict(self).items()}


def rms_norm(x: Tensor) -> Tensor:
    """Return each frame divided by its root mean square over channels (Zhang and Sennrich 2019)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-4)


class Block(nn.Module):
    """A causal ConvNeXt block (Liu et al. 2022), optionally modulated by a voice (FiLM, Perez et
    al. 2018)."""

    def __init__(self, width: int, hidden: int, kernel: int, condition: int = 0) -> None:
        super().__init__()
        self.past = kernel - 1
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width)
        self.expand = nn.Linear(width, hidden)
        self.reduce = nn.Linear(hidden, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))
        self.film = nn.Linear(condition, 2 * width) if condition else None
        if self.film is not None:
            nn.init.normal_(self.film.weight, std=0.02)
            nn.init.zeros_(self.film.bias)

    def modulation(self, voice: Tensor) -> Tensor:
        """Return the block's scale and shift for a voice, shape (batch, 2 width)."""
        if self.film is None:
            raise ValueError("this block is not modulated")
        out: Tensor = self.film(voice)
        return out

    def forward(
        self, x: Tensor, state: Tensor | None = None, film: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the block's output, shape of x (batch, time, width), and the next state.

        state: (batch, width, 6), the frames before; zeros at the beginning.
        """
        across = x.transpose(1, 2)
        if state is None:
            state = across.new_zeros(across.shape[0], across.shape[1], self.past)
        heard = torch.cat((state, across), dim=2)
        y = rms_norm(self.depthwise(heard).transpose(1, 2))
        if film is not None:
            scale, shift = film[:, None].chunk(2, dim=-1)
            y = y * (1.0 + scale) + shift
        y = self.reduce(nn.functional.silu(self.expand(y)))
        return x + self.scale * y, heard[:, :, heard.shape[2] - self.past :]


class Content(nn.Module):
    """Perturbed or foreign log-mel to a code of what is said."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.enter = nn.Linear(MELS + 1, shape.content)
        self.blocks = nn.ModuleList(
            Block(shape.content, shape.content_hidden, shape.kernel)
            for _ in range(shape.content_blocks)
        )
        self.leave = nn.Linear(shape.content, shape.content)

    def forward(
        self, mel: Tensor, level: Tensor, states: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Return codes of unit RMS, shape (batch, time, 192), and the next states.

        mel: log-mel minus the running mean, (batch, time, 80). level: relative level, (batch, time,
        1).
        """
        x = self.enter(torch.cat((mel.clamp(-8.0, 6.0), level.clamp(-10.0, 4.0)), dim=-1) * 0.5)
        following = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if states is None else states[index])
            following.append(state)
        return rms_norm(self.leave(x)), following


class VoiceEncoder(nn.Module):
    """Reference speech to one vector: convolutions, attentive statistics pooling (Okabe et al.
    2018)."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = 128
        self.enter = nn.Linear(MELS, width)
        self.blocks = nn.ModuleList(Block(width, 256, shape.kernel) for _ in range(3))
        self.attention = nn.Sequential(nn.Linear(width, 64), nn.Tanh(), nn.Linear(64, width))
        self.leave = nn.Linear(2 * width, shape.voice)
        self.statistics = nn.Linear(STATISTICS, shape.statistics)

    def forward(self, mel: Tensor, statistics: Tensor) -> Tensor:
        """Return voice vectors, shape (batch, 256); the first 192 are of the encoder, unit RMS.

        mel: level-free log-mel of speech, (batch, time, 80). statistics: (batch, 162).
        """
        mel = mel[:, : mel.shape[1] // 2 * 2].unflatten(1, (-1, 2)).mean(dim=2)
        x = self.enter(mel * 0.5)
        for block in self.blocks:
            x, _ = block(x)
        weights = torch.softmax(self.attention(x), dim=1)
        mean = (weights * x).sum(dim=1)
        deviation = torch.sqrt((weights * (x - mean[:, None]).square()).sum(dim=1) + 1e-4)
        learned = rms_norm(self.leave(torch.cat((mean, deviation), dim=1)))
        return torch.cat((learned, torch.tanh(self.statistics(statistics))), dim=1)


class Decoder(nn.Module):
    """Content, steering and a voice to the synthesiser's controls.

    The controls start from the source's own envelope moved onto the voice's mean spectrum; the
    network adds what is missing, so that words survive from the first step on. That path is fixed:
    trained, its large inputs drown the rest of the network in gradient.
    """

    carry: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        condition = shape.voice + shape.statistics
        self.enter = nn.Linear(shape.content + MELS + STEERING, shape.decoder)
        self.blocks = nn.ModuleList(
            Block(shape.decoder, shape.decoder_hidden, shape.kernel, condition)
            for _ in range(shape.decoder_blocks)
        )
        self.leave = nn.Linear(shape.decoder, filters.CONTROLS)
        nn.init.normal_(self.leave.weight, std=0.02)
        with torch.no_grad():
            self.leave.bias[: filters.GAINS] = 0.5
            self.leave.bias[filters.GAINS : filters.HARMONIC] = 0.0
            self.leave.bias[filters.HARMONIC :] = -1.5
        self.register_buffer("carry", carry_matrix())

    def modulation(self, voice: Tensor) -> Tensor:
        """Return all blocks' scales and shifts for a voice, shape (batch, blocks, 2 width)."""
        return torch.stack([block.modulation(voice) for block in self.blocks], dim=1)

    def forward(
        self,
        content: Tensor,
        mel: Tensor,
        steering: Tensor,
        energy: Tensor,
        spectrum: Tensor,
        modulation: Tensor,
        states: list[Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Return controls, shape (batch, time, 176), and the next states.

        content: (batch, time, 192). mel: level-free, (batch, time, 80). steering: (batch, time, 8).
        energy: absolute log power, (batch, time, 1). spectrum: the voice's mean level-free log-mel,
        (batch, 80). modulation: of `modulation`.
        """
        x = self.enter(torch.cat((content, mel.clamp(-6.0, 6.0) * 0.5, steering), dim=-1))
        following = []
        for index, block in enumerate(self.blocks):
            x, state = block(x, None if states is None else states[index], modulation[:, index])
            following.append(state)
        carried = (mel.clamp(-6.0, 6.0) + spectrum[:, None]) @ self.carry.T
        gains, allpass, noise = (self.leave(rms_norm(x)) + carried).split(
            (filters.GAINS, filters.ALLPASS, filters.NOISE), dim=-1
        )
        loud = 0.5 * energy
        gains, noise = (gains + loud).clamp(-14.0, 6.0), (noise + loud).clamp(-14.0, 6.0)
        return torch.cat((gains, 2.0 * torch.tanh(allpass), noise), dim=-1), following


def carry_matrix() -> Tensor:
    """Return the start of the path around the decoder: mel power to gains at the same frequency,
    halved."""
    mel_hertz = 700.0 * torch.expm1(
        torch.linspace(85.0, 1127.0 * float(torch.log1p(torch.tensor(7_600 / 700))), MELS) / 1127.0
    )
    rows = []
    for count in (filters.GAINS, filters.NOISE):
        for hertz in filters.centres(count):
            nearest = int(torch.argmin((mel_hertz - float(hertz)).abs()))
            row = torch.zeros(MELS)
            row[max(0, nearest - 1) : nearest + 2] = 1.0
            rows.append(0.5 * row / row.sum())
        if count == filters.GAINS:
            rows += [torch.zeros(MELS)] * filters.ALLPASS
    return torch.stack(rows)


class Converter(nn.Module):
    """The whole: content, voice and decoder, with the heads that only training uses."""

    prior: Tensor
    mean_voice: Tensor

    def __init__(self, shape: Shape, speakers: int) -> None:
        super().__init__()
        self.shape = shape
        self.content = Content(shape)
        self.voice = VoiceEncoder(shape)
        self.decoder = Decoder(shape)
        self.speaker_head = nn.Linear(shape.voice, speakers, bias=False)
        self.phone_head = nn.Linear(shape.content, shape.phones)
        self.register_buffer("prior", torch.zeros(MELS))
        self.register_buffer("mean_voice", torch.zeros(shape.voice + shape.statistics))
