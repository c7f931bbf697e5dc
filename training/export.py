"""Export the three checkpoints to the ONNX graphs that the package ships.

    python -m training.export --content training/checkpoints/content.safetensors \\
        --quick training/checkpoints/quick.safetensors \\
        --patient training/checkpoints/patient.safetensors

Seven graphs: `content` and the `timbre` of the quick or the patient network run once per block of a
stream with explicit states, `keys` and `modulation` of either once per voice. `facts.json` holds
the constants. The graphs are checked against torch before anything is replaced, and an answer of
torch to a random question is kept beside each, so that tests without torch can check them too.
Those that run in every block are then given weights of eight bits: a stream of 20 ms blocks mostly
waits for weights to come from memory.
"""

import argparse
import copy
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from evaluation.command_line import run
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.onnx_model import ONNXModel
from safetensors.torch import load_file
from torch import Tensor, nn

from menura.engine.neural import bands
from menura.engine.neural.controls import CONTROLS
from menura.engine.neural.mel import MELS
from menura.engine.neural.networks import CODE
from menura.engine.neural.voice import ROWS
from training import content, timbre
from training.blocks import Block
from training.content import Content, load_content
from training.timbre import HEADS, KEY, Timbre

TARGET = Path("src/menura/engine/neural/weights")
OPSET = 18
TOLERANCE = 1e-3
COARSE = 0.04
"""Share of an answer's deviation by which eight bits may be off, root mean square."""


def frame_norm(x: Tensor, scale: Tensor | None = None) -> Tensor:
    """Return `rms_norm` times a scale, (width,), if there is one, written so that onnxruntime makes
    one operation of it: it wants a scale."""
    scale = torch.ones(x.shape[-1]) if scale is None else scale
    return x / torch.sqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-4) * scale


def block_step(
    block: Block, x: Tensor, state: Tensor, passes: int, film: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Return what a folded `Block` computes for passes that share its weights, and the next state,
    in few operations: at two frames a call, calling one costs more than what it does.

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


def strip(path: Path) -> None:
    """Take out of a graph what the exporter notes beside it: where on this machine it came from."""
    model = onnx.load(path)
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer, model.graph):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    model.ClearField("metadata_props")
    onnx.save(model, path)


def lighten(path: Path) -> None:
    """Give the matrices of a graph weights of eight bits, and their inputs too as they come.

    Of the eight, seven are used: on cores without VNNI sums of more overflow.
    """
    model = ONNXModel(onnx.load(path))
    model.replace_gemm_with_matmul()
    model.save_model_to_file(str(path))
    quantize_dynamic(path, path, per_channel=True, reduce_range=True, weight_type=QuantType.QInt8)


def write(
    graph: nn.Module, path: Path, inputs: dict[str, Tensor], outputs: list[str], moving: list[str]
) -> None:
    """Export one graph and check it against torch. moving: inputs whose second axis is time."""
    graph.eval()
    frames = torch.export.Dim("frames", min=2, max=4096)
    shapes = {name: {1: frames} if name in moving else None for name in inputs}
    program = torch.onnx.export(
        graph,
        tuple(inputs.values()),
        input_names=list(inputs),
        output_names=outputs,
        dynamic_shapes=tuple(shapes.values()) if moving else None,
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        optimize=True,
        verbose=False,
    )
    if program is None:
        raise RuntimeError(f"{path.name} was not exported")
    program.save(str(path))
    strip(path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        ours = graph(*inputs.values())
    if isinstance(graph, ContentGraph | TimbreGraph):
        with torch.no_grad():
            trained = graph.plain(*inputs.values())
        if float((trained - ours[0]).abs().max()) > TOLERANCE:
            raise RuntimeError(f"{path.name}'s graph differs from the trained network")
    answers = [mine.numpy() for mine in (ours if isinstance(ours, tuple) else (ours,))]
    for mine, other in zip(answers, theirs, strict=True):
        error = float(np.abs(mine - other).max())
        if error > TOLERANCE:
            raise RuntimeError(f"{path.name} differs from torch by {error:.2g}")
    if isinstance(graph, ContentGraph | TimbreGraph):
        lighten(path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        coarse = session.run(None, {name: value.numpy() for name, value in inputs.items()})
        for name, mine, other in zip(outputs, answers, coarse, strict=True):
            error = float(np.sqrt(np.mean((mine - other) ** 2)) / mine.std())
            if error > COARSE:
                raise RuntimeError(f"{path.name}: eight bits change `{name}` by {error:.2g}")
    asked = {f"ask_{name}": value.numpy().astype(np.float16) for name, value in inputs.items()}
    rounded = [torch.from_numpy(value.astype(np.float32)) for value in asked.values()]
    with torch.no_grad():
        first = graph(*rounded)
    first = first[0] if isinstance(first, tuple) else first
    np.savez_compressed(path.with_suffix(".npz"), answer=first.numpy(), **asked)


def export(content_weights: Path, quick: Path, patient: Path, target: Path) -> None:
    """Write the graphs and the facts of three checkpoints into a folder."""
    heard, prior = load_content(content_weights)
    content_state = (content.BLOCKS * (content.KERNEL - 1), content.WIDTH)
    torch.manual_seed(0)
    time = 11
    target.mkdir(parents=True, exist_ok=True)
    facts: dict[str, object] = {
        "prior": [round(float(value), 5) for value in prior],
        "content_state": content_state,
    }
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch)
        write(
            ContentGraph(heard),
            fresh / "content.onnx",
            {
                "mel": torch.randn(1, time, 80),
                "relative": torch.randn(1, time, 1),
                "patient": torch.ones(1),
                "state": torch.randn(content_state),
            },
            ["code", "next"],
            ["mel", "relative"],
        )
        for name, weights in (("quick", quick), ("patient", patient)):
            formed = Timbre(patient=name == "patient")
            formed.load_state_dict(load_file(weights))
            facts[name] = write_timbre(formed, fresh, name, time)
        digest = hashlib.sha256()
        for path in (content_weights, quick, patient):
            digest.update(path.read_bytes())
        facts["version"] = digest.hexdigest()[:12]
        (fresh / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        for path in sorted(fresh.iterdir()):
            os.replace(path, target / path.name)
            (target / path.name).chmod(0o644)


def write_timbre(formed: Timbre, folder: Path, name: str, time: int) -> dict[str, object]:
    """Write the three graphs of a timbre network and return its facts. time: frames to check."""
    blocks = len(formed.blocks)
    rows = sum(block.past for block in formed.blocks) * 2
    state = (rows, timbre.WIDTH)
    write(
        TimbreGraph(formed),
        folder / f"{name}_timbre.onnx",
        {
            "code": torch.randn(1, time, CODE),
            "carried": torch.randn(1, time, bands.COUNT + 1),
            "controls": torch.randn(1, time, CONTROLS),
            "keys": nn.functional.normalize(torch.randn(1, ROWS, HEADS, KEY), dim=-1),
            "values": torch.randn(1, ROWS, bands.COUNT),
            "modulation": torch.tensor([1.0, 0.0]).repeat(blocks)[:, None]
            + 0.1 * torch.randn(2 * blocks, timbre.WIDTH),
            "state": torch.randn(state),
        },
        ["moved", "found", "next"],
        ["code", "carried", "controls"],
    )
    asked = {"rows": torch.randn(1, ROWS, CODE + 1)}
    write(KeysGraph(formed), folder / f"{name}_keys.onnx", asked, ["keys"], [])
    means = {"means": torch.randn(1, 2 * bands.COUNT + 1)}
    write(ModulationGraph(formed), folder / f"{name}_modulation.onnx", means, ["modulation"], [])
    return {"state": state, "ahead": formed.ahead}


def main() -> None:
    """Export one set of checkpoints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    folder = Path("training/checkpoints")
    parser.add_argument("--content", type=Path, default=folder / "content.safetensors")
    parser.add_argument("--quick", type=Path, default=folder / "quick.safetensors")
    parser.add_argument("--patient", type=Path, default=folder / "patient.safetensors")
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    export(arguments.content, arguments.quick, arguments.patient, arguments.target)


if __name__ == "__main__":
    run(main)
