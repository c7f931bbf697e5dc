"""Export a checkpoint to the ONNX graphs that the package ships.

    python -m training.export --weights training/checkpoints/first.safetensors

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

from training.model import STATISTICS, STEERING, Converter, Shape

TARGET = Path("src/menura/engine/neural/weights")
OPSET = 18
TOLERANCE = 1e-3


class ContentGraph(nn.Module):
    """Content network with its states as one tensor, (blocks, width, 6)."""

    def __init__(self, model: Converter) -> None:
        super().__init__()
        self.content = model.content

    def forward(self, mel: Tensor, relative: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Return codes and the next state."""
        states = [state[index : index + 1] for index in range(len(self.content.blocks))]
        code, following = self.content(mel, relative, states)
        return code, torch.cat(following, dim=0)


class DecoderGraph(nn.Module):
    """Decoder with its states as one tensor, (blocks, width, 6)."""

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
        states = [state[index : index + 1] for index in range(len(self.decoder.blocks))]
        controls, following = self.decoder(
            content, mel, steering, energy, spectrum, modulation, states
        )
        return controls, torch.cat(following, dim=0)


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
    content_state = (shape.content_blocks, shape.content, past)
    decoder_state = (shape.decoder_blocks, shape.decoder, past)
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
