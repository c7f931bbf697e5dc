"""The networks as they are exported: graphs of few operations with explicit states.

At two frames a call, calling an operation costs more than what it does. `plain` of a graph is what
the network computes as it was trained, to compare with.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from menura.engine.neural import bands
from menura.engine.neural.controls import CONTROLS
from menura.engine.neural.mel import MELS
from menura.engine.neural.networks import CODE
from training.blocks import Block
from training.content import Content
from training.timbre import HEADS, KEY, Timbre


def frame_norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return `rms_norm` times a scale, (width,), if there is one, written so that onnxruntime makes
    one operation of it: it wants a scale."""
    scale = torch.ones(x.shape[-1]) if scale is None else scale
    return x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-4) * scale


def block_step(
    block: Block, x: Tensor, state: Tensor, passes: int, film: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Return what a folded `Block` computes for passes that share its weights, and the next state.

    x: every frame's passes one below the other, (time * passes, width). state: the frames before,
    (past * passes, width). film: scale and shift, (width,) each.
    """
    heard = torch.cat((state, x))
    steps = torch.arange(x.shape[0])[:, None] + passes * torch.arange(block.past + 1)
    # An embedding is exported as one operation, where indexing is three.
    taps = nn.functional.embedding(steps, heard)
    y = (taps * block.depthwise.weight[:, 0].T).sum(dim=1) + block.depthwise.bias
    y = frame_norm(y) if film is None else frame_norm(y, film[0]) + film[1]
    y = block.reduce(nn.functional.silu(block.expand(y)))
    following = heard[-passes * block.past :]
    if block.ahead:
        x = heard[passes * (block.past - block.ahead) : -passes * block.ahead]
    return x + y, following


@torch.no_grad()
def folded(blocks: nn.ModuleList) -> nn.ModuleList:
    """Return blocks that compute the same, their scales being within the matrices."""
    blocks = copy.deepcopy(blocks)
    for block in blocks:
        block.reduce.weight *= block.scale[:, None]
        block.reduce.bias *= block.scale
    return blocks


def blocks_step(
    blocks: nn.ModuleList,
    x: Tensor,
    state: Tensor,
    passes: int,
    films: Sequence[tuple[Tensor, Tensor] | None],
) -> tuple[Tensor, Tensor]:
    """Return what folded blocks compute one after the other, and their next states, one below the
    other."""
    following = []
    states = state.chunk(len(blocks))
    for block, before, film in zip(blocks, states, films, strict=True):
        x, after = block_step(block, x, before, passes, film)
        following.append(after)
    return x, torch.cat(following)


class ContentGraph(nn.Module):
    """Content network with its states one below the other, (blocks * past, width)."""

    def __init__(self, model: Content) -> None:
        super().__init__()
        self.content = model
        self.blocks = folded(model.blocks)
        # Whole matrices, of which quantisation knows what to do.
        told, waits = model.enter.weight.detach().split((MELS + 1, 1), 1)
        self.enter, self.waits = nn.Parameter(told * 0.5), nn.Parameter(waits.clone())

    def forward(
        self, mel: Tensor, relative: Tensor, patient: Tensor, state: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return codes and the next state."""
        net = self.content
        x = torch.cat((mel[0].clamp(-8.0, 6.0), relative[0].clamp(-10.0, 4.0)), dim=-1)
        x = nn.functional.linear(x, self.enter, net.enter.bias) + patient * self.waits[:, 0]
        x, following = blocks_step(self.blocks, x, state, 1, [None] * len(self.blocks))
        code = net.leave(frame_norm(x))
        return frame_norm(code)[None], following

    def plain(self, mel: Tensor, relative: Tensor, patient: Tensor, state: Tensor) -> Tensor:
        """Return the codes of the network as it was trained."""
        states = [part.T[None] for part in state.chunk(len(self.content.blocks))]
        return self.content(mel, relative, patient, states)[0]


class TimbreGraph(nn.Module):
    """Timbre network twice, seeing the source's envelope and without it, side by side: its weights
    are read once. States one below the other, (blocks * past * 2, width)."""

    def __init__(self, model: Timbre) -> None:
        super().__init__()
        self.timbre = model
        self.blocks = folded(model.blocks)
        first, last = CODE + HEADS * bands.COUNT, -CONTROLS
        entering = model.enter.weight.detach().clone()
        entering[:, CODE : first + bands.COUNT + 1] *= 0.5
        self.blind = nn.Parameter(torch.cat((entering[:, :first], entering[:, last:]), dim=1))
        self.seeing = nn.Parameter(entering[:, first:last].clone())

    def forward(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        keys: Tensor,
        values: Tensor,
        modulation: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return by how much envelopes of some frames ago lie off what was found, (time, 2, 64),
        what was found now, (time, 64), and the next state."""
        net = self.timbre
        query = net.query(torch.cat((code[0], controls[0, :, -1:]), dim=-1))
        query = query.reshape(-1, HEADS, KEY)
        query = query / torch.sqrt((query * query).sum(dim=-1, keepdim=True) + 1e-12)
        fit = query.transpose(0, 1) @ keys[0].permute(1, 2, 0)
        weights = torch.softmax(fit * torch.exp(net.sharpness)[:, None, None], dim=-1)
        found = (weights @ values).transpose(0, 1)
        both = torch.cat((code[0], found.flatten(1), controls[0]), dim=-1)
        blind = nn.functional.linear(both, self.blind, net.enter.bias)
        seeing = nn.functional.linear(carried[0], self.seeing)
        x = torch.stack((blind + seeing, blind), dim=1).flatten(0, 1)
        parts = modulation.unbind()
        films = list(zip(parts[::2], parts[1::2], strict=True))
        x, following = blocks_step(self.blocks, x, state, 2, films)
        out = net.leave(frame_norm(x))
        return out.unflatten(0, (-1, 2)), found.mean(dim=1), following

    def plain(
        self,
        code: Tensor,
        carried: Tensor,
        controls: Tensor,
        keys: Tensor,
        values: Tensor,
        modulation: Tensor,
        state: Tensor,
    ) -> Tensor:
        """Return the same of the network as it was trained."""
        states = [
            part.unflatten(0, (-1, 2)).permute(1, 2, 0)
            for part in state.chunk(len(self.timbre.blocks))
        ]
        twice = [each.expand(2, -1, -1) for each in (code, controls)]
        told = torch.cat((carried, torch.zeros_like(carried)))
        films = modulation.clone()
        films[::2] -= 1.0
        net = self.timbre
        found = net.found(code, controls, keys, values)
        out: Tensor = net.formed(
            twice[0], told, twice[1], found.expand(2, -1, -1, -1),
            films.reshape(1, len(net.blocks), -1).expand(2, -1, -1), states,
        )[0]  # fmt: skip
        return out.transpose(0, 1) - found[0].mean(dim=1)[:, None]


class KeysGraph(nn.Module):
    """What a voice's rows are compared by."""

    def __init__(self, model: Timbre) -> None:
        super().__init__()
        self.timbre = model

    def forward(self, rows: Tensor) -> Tensor:
        """Return keys, (1, rows, heads, key)."""
        return self.timbre.keys(rows)


class ModulationGraph(nn.Module):
    """The timbre network's modulation by a voice."""

    def __init__(self, model: Timbre) -> None:
        super().__init__()
        self.timbre = model

    def forward(self, means: Tensor) -> Tensor:
        """Return every block's scale, then its shift, (2 blocks, width)."""
        films = self.timbre.modulation(means)[0].unflatten(-1, (2, -1))
        return (films + torch.tensor([[1.0], [0.0]])).flatten(0, 1)
