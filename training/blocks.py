"""The block that the networks are made of.

Convolutions over time look back only. Look-ahead is a shift: a content code is read three frames
later, when it has heard 30 ms more, or a block's output describes a frame some frames ago.
"""

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor) -> Tensor:
    """Return each frame divided by its root mean square over channels (Zhang and Sennrich 2019)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + 1e-4)


class Block(nn.Module):
    """A causal ConvNeXt block (Liu et al. 2022), optionally modulated by a voice (FiLM, Perez et
    al. 2018).

    ahead: frames by which what a frame of the output describes lies back, up to (kernel - 1) *
    dilation.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        kernel: int,
        condition: int = 0,
        dilation: int = 1,
        ahead: int = 0,
    ) -> None:
        super().__init__()
        self.past, self.ahead = (kernel - 1) * dilation, ahead
        self.depthwise = nn.Conv1d(width, width, kernel, groups=width, dilation=dilation)
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

        state: (batch, width, past), the frames before; zeros at the beginning.
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
        following = heard[:, :, heard.shape[2] - self.past :]
        if self.ahead:
            x = heard[:, :, self.past - self.ahead : -self.ahead].transpose(1, 2)
        return x + self.scale * y, following
