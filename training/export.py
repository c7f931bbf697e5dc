"""Export the three checkpoints to the ONNX graphs that the package ships.

    python -m training.export

Seven graphs: `content` and the `timbre` of the quick or the patient network run once per block of a
stream with explicit states, `keys` and `modulation` of either once per voice. `facts.json` holds
the constants. The graphs are checked against torch before anything is replaced, and an answer of
torch to a random question is kept beside each, so that tests without torch can check them too.
Those that run in every block are then given weights of eight bits: a stream of 20 ms blocks mostly
waits for weights to come from memory.
"""

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from evaluation.command_line import run
from numpy.typing import NDArray
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
from training.content import load_content
from training.graphs import ContentGraph, KeysGraph, ModulationGraph, TimbreGraph
from training.timbre import HEADS, KEY, Timbre

TARGET = Path("src/menura/engine/neural/weights")
OPSET = 18
TOLERANCE = 1e-3
COARSE = 0.04
"""Share of an answer's deviation by which eight bits may be off, root mean square."""

Array = NDArray[np.float32]


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
    """Export one graph, check it against torch, and keep an answer of torch beside it.

    moving: inputs whose second axis is time; a graph that has any runs in every block.
    """
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
    expected = answers(graph, inputs)
    for ours, theirs in zip(expected, run_file(path, inputs), strict=True):
        error = float(np.abs(ours - theirs).max())
        if error > TOLERANCE:
            raise RuntimeError(f"{path.name} differs from torch by {error:.2g}")
    if moving:
        with torch.no_grad():
            trained = graph.plain(*inputs.values()).numpy()
        if float(np.abs(trained - expected[0]).max()) > TOLERANCE:
            raise RuntimeError(f"{path.name}'s graph differs from the trained network")
        lighten(path)
        for name, ours, coarse in zip(outputs, expected, run_file(path, inputs), strict=True):
            error = float(np.sqrt(np.mean((ours - coarse) ** 2)) / ours.std())
            if error > COARSE:
                raise RuntimeError(f"{path.name}: eight bits change `{name}` by {error:.2g}")
    asked = {f"ask_{name}": value.numpy().astype(np.float16) for name, value in inputs.items()}
    rounded = {name: torch.from_numpy(v.astype(np.float32)) for name, v in asked.items()}
    np.savez_compressed(path.with_suffix(".npz"), answer=answers(graph, rounded)[0], **asked)


@torch.no_grad()
def answers(graph: nn.Module, inputs: dict[str, Tensor]) -> list[Array]:
    """Return what a graph gives out in torch."""
    given = graph(*inputs.values())
    return [part.numpy() for part in (given if isinstance(given, tuple) else (given,))]


def run_file(path: Path, inputs: dict[str, Tensor]) -> list[Array]:
    """Return what an exported graph gives out in onnxruntime."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in inputs.items()})


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
                "mel": torch.randn(1, time, MELS),
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
