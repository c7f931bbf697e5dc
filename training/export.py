"""Export a checkpoint to the ONNX graphs that the package ships.

    python -m training.export --weights training/checkpoints/fourth.safetensors

Four graphs with explicit states: `content` and `decoder` run once per block of a stream, `voice`
once per reference, `modulation` once per voice. `facts.json` holds the constants. The graphs are
checked against torch before anything is replaced, and an answer of torch to a random question is
kept beside each, so that tests without torch can check them too.
"""

import argparse
import hashlib
import json
import os
import tempfile
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from safetensors import safe_open
from torch import Tensor, nn

from menura.engine.neural import filters
from training.model import STATISTICS, STEERING, Block, Converter, Shape

TARGET = Path("src/menura/engine/neural/weights")
OPSET = 18
TOLERANCE = 1e-3


def frame_norm(x: Tensor) -> Tensor:
    """Return `rms_norm` in as few operations as onnxruntime needs."""
    return x / torch.sqrt((x * x).mean(dim=-1, keepdim=True) + 1e-4)


def block_step(
    block: Block, x: Tensor, state: Tensor, film: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return what `Block` computes for one stream, without batch axis: (time, width) and the state.

    Time comes first and matrices are plain, which onnxruntime fuses; its depthwise convolution and
    its transposes cost more than the multiplications at two frames a call. state: (6, width).
    """
    heard = torch.cat((state, x), dim=0)
    steps = torch.arange(x.shape[0])[:, None] + torch.arange(block.past + 1)
    weight = block.depthwise.weight[:, 0].T
    y = (heard[steps] * weight).sum(dim=1) + block.depthwise.bias
    y = frame_norm(y)
    if film is not None:
        scale, shift = film.chunk(2)
        y = y * (1.0 + scale) + shift
    y = block.reduce(nn.functional.silu(block.expand(y)))
    return x + block.scale * y, heard[x.shape[0] :]


class ContentGraph(nn.Module):
    """Content network with its states as one tensor, (blocks, 6, width)."""

    def __init__(self, model: Converter) -> None:
        super().__init__()
        self.content = model.content

    def forward(self, mel: Tensor, relative: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and the next state."""
        net = self.content
        x = torch.cat((mel[0].clamp(-8.0, 6.0), relative[0].clamp(-10.0, 4.0)), dim=-1)
        x = net.enter(x * 0.5)
        following = []
        for index, block in enumerate(net.blocks):
            x, after = block_step(block, x, state[index], None)  # type: ignore[arg-type]
            following.append(after)
        return frame_norm(net.leave(x))[None], torch.stack(following)

    def plain(self, mel: Tensor, relative: Tensor, state: Tensor) -> Tensor:
        """Return the codes of the network as it was trained."""
        states = [state[index].T[None] for index in range(len(self.content.blocks))]
        return self.content(mel, relative, states)[0]  # type: ignore[no-any-return]


class DecoderGraph(nn.Module):
    """Decoder with its states as one tensor, (blocks, 6, width)."""

    def __init__(self, model: Converter) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(
        self,
        content: Tensor,
        mel: Tensor,
        steering: Tensor,
        energy: Tensor,
        spectrum: Tensor,
        modulation: Tensor,
        state: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """Return controls and the next state."""
        net, mel = self.decoder, mel[0].clamp(-6.0, 6.0)
        x = net.enter(torch.cat((content[0], mel * 0.5, steering[0]), dim=-1))
        following = []
        for index, block in enumerate(net.blocks):
            film = modulation[0, index]
            x, after = block_step(block, x, state[index], film)  # type: ignore[arg-type]
            following.append(after)
        out = net.leave(frame_norm(x)) + (mel + spectrum) @ net.carry.T
        gains, allpass, noise = out.split((filters.GAINS, filters.ALLPASS, filters.NOISE), dim=-1)
        loud = 0.5 * energy[0]
        gains, noise = (gains + loud).clamp(-14.0, 6.0), (noise + loud).clamp(-14.0, 6.0)
        controls = torch.cat((gains, 2.0 * torch.tanh(allpass), noise), dim=-1)
        return controls[None], torch.stack(following)

    def plain(
        self,
        content: Tensor,
        mel: Tensor,
        steering: Tensor,
        energy: Tensor,
        spectrum: Tensor,
        modulation: Tensor,
        state: Tensor,
    ) -> Tensor:
        """Return the controls of the network as it was trained."""
        states = [state[index].T[None] for index in range(len(self.decoder.blocks))]
        return self.decoder(  # type: ignore[no-any-return]
            content, mel, steering, energy, spectrum, modulation, states
        )[0]


class VoiceGraph(nn.Module):
    """Voice network."""

    def __init__(self, model: Converter) -> None:
        super().__init__()
        self.voice = model.voice

    def forward(self, reference: Tensor, statistics: Tensor) -> Tensor:
        """Return the voice vector, (1, 256)."""
        out: Tensor = self.voice(reference, statistics)
        return out


class ModulationGraph(nn.Module):
    """The decoder's modulation by a voice."""

    def __init__(self, model: Converter) -> None:
        super().__init__()
        self.decoder = model.decoder

    def forward(self, voice: Tensor) -> Tensor:
        """Return scales and shifts, (1, blocks, 2 width)."""
        return self.decoder.modulation(voice)


def load(weights: Path) -> Converter:
    """Return the converter of a checkpoint, with the sizes its header names."""
    with safe_open(weights, "pt") as held:
        header = held.metadata() or {}
        tensors = {name: held.get_tensor(name) for name in held.keys()}  # noqa: SIM118
    known = {field.name for field in fields(Shape)}
    shape = Shape(**{name: int(value) for name, value in header.items() if name in known})
    model = Converter(shape, len(tensors["speaker_head.weight"]))
    model.load_state_dict(tensors, strict=False)
    return model.eval()


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
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {name: value.numpy() for name, value in inputs.items()})
    with torch.no_grad():
        ours = graph(*inputs.values())
    if isinstance(graph, ContentGraph | DecoderGraph):
        with torch.no_grad():
            trained = graph.plain(*inputs.values())
        if float((trained - ours[0]).abs().max()) > TOLERANCE:
            raise RuntimeError(f"{path.name}'s graph differs from the trained network")
    answers = [mine.numpy() for mine in (ours if isinstance(ours, tuple) else (ours,))]
    for mine, other in zip(answers, theirs, strict=True):
        error = float(np.abs(mine - other).max())
        if error > TOLERANCE:
            raise RuntimeError(f"{path.name} differs from torch by {error:.2g}")
    asked = {f"ask_{name}": value.numpy().astype(np.float16) for name, value in inputs.items()}
    rounded = [torch.from_numpy(value.astype(np.float32)) for value in asked.values()]
    with torch.no_grad():
        first = graph(*rounded)
    first = first[0] if isinstance(first, tuple) else first
    np.savez_compressed(path.with_suffix(".npz"), answer=first.numpy(), **asked)


def export(weights: Path, target: Path) -> None:
    """Write the four graphs and the facts of a checkpoint into a folder."""
    model = load(weights)
    shape = model.shape
    past = shape.kernel - 1
    content_state = (shape.content_blocks, past, shape.content)
    decoder_state = (shape.decoder_blocks, past, shape.decoder)
    torch.manual_seed(0)
    time, voice = 11, shape.voice + shape.statistics
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fresh = Path(scratch)
        write(
            ContentGraph(model),
            fresh / "content.onnx",
            {
                "mel": torch.randn(1, time, 80),
                "relative": torch.randn(1, time, 1),
                "state": torch.randn(content_state),
            },
            ["code", "next"],
            ["mel", "relative"],
        )
        write(
            DecoderGraph(model),
            fresh / "decoder.onnx",
            {
                "content": torch.randn(1, time, shape.content),
                "mel": torch.randn(1, time, 80),
                "steering": torch.randn(1, time, STEERING),
                "energy": torch.randn(1, time, 1),
                "spectrum": torch.randn(1, 80),
                "modulation": 0.1 * torch.randn(1, shape.decoder_blocks, 2 * shape.decoder),
                "state": torch.randn(decoder_state),
            },
            ["controls", "next"],
            ["content", "mel", "steering", "energy"],
        )
        write(
            VoiceGraph(model),
            fresh / "voice.onnx",
            {"reference": torch.randn(1, 320, 80), "statistics": torch.randn(1, STATISTICS)},
            ["vector"],
            [],
        )
        write(
            ModulationGraph(model),
            fresh / "modulation.onnx",
            {"voice": torch.randn(1, voice)},
            ["modulation"],
            [],
        )
        facts = {
            "version": hashlib.sha256(weights.read_bytes()).hexdigest()[:12],
            "prior": [round(float(value), 5) for value in model.prior],
            "average": [round(float(value), 5) for value in model.mean_voice],
            "content_state": content_state,
            "decoder_state": decoder_state,
        }
        (fresh / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        for path in sorted(fresh.iterdir()):
            os.replace(path, target / path.name)
            (target / path.name).chmod(0o644)


def main() -> None:
    """Export one checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--target", type=Path, default=TARGET)
    arguments = parser.parse_args()
    export(arguments.weights, arguments.target)


if __name__ == "__main__":
    main()
