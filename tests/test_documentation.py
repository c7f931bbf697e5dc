"""What the README and the documents say is run, and must be true."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from pydantic_core import PydanticUndefined
from tests.sounds import decoded, seconds_of

from menura.settings import Settings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONVERTED = sorted((ROOT / "examples" / "converted").glob("*.mp3"))
DEFAULT_BASE = "http://127.0.0.1:8000"


def blocks(path, language):
    """Yield the code blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)


def commands(path):
    """Yield the shell commands of a document, continued lines joined and comments left out."""
    for block in blocks(path, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command and not command.startswith("#"):
                yield command


def run_shell(command, server, folder):
    environment = {
        **os.environ,
        "MENURA_API_KEY": server.api_key,
        "MENURA_DATA": str(server.settings.data),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    for name in ("examples", "tests"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    if not (folder / "in.m4a").exists():
        (folder / "lines").mkdir()
        for place in ("in.m4a", "lines/one.wav", "lines/two.wav"):
            shutil.copy(ROOT / "examples" / "speech_male.wav", folder / place)
    done = subprocess.run(
        command.replace(DEFAULT_BASE, server.url).replace("NAME", "Avocet"),
        shell=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_the_two_commands_of_the_readme_are_targets_of_the_makefile():
    made = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = [shlex.split(line)[1] for line in commands(ROOT / "README.md") if line[:5] == "make "]
    assert named[:2] == ["serve", "test"]
    for path in DOCUMENTS:
        for target in re.findall(r"`?make ([a-z-]+)`?", "\n".join(blocks(path, "sh"))):
            assert target in made, path


def test_the_readmes_shell_lines_work(shared_server, tmp_path):
    run = [line for line in commands(ROOT / "README.md") if not line.startswith("make ")]
    assert any(line.startswith("curl") for line in run)
    for line in run:
        for target in re.findall(r"-o (\S+)", line):
            (tmp_path / target).unlink(missing_ok=True)
        run_shell(line, shared_server, tmp_path)
        for target in re.findall(r"-o (\S+)", line):
            made = tmp_path / target
            for file in made.iterdir() if made.is_dir() else [made]:
                assert seconds_of(file) > 2
            assert not made.is_dir() or len(list(made.iterdir())) == 2


def test_the_readmes_python_works(shared_server, tmp_path):
    (code,) = blocks(ROOT / "README.md", "python")
    names = {"key": shared_server.api_key}
    exec(
        code.replace(DEFAULT_BASE, shared_server.url).replace(
            "examples/", f"{ROOT.as_posix()}/examples/"
        ),
        names,
    )
    # The SDK has no method for it, and an open socket at the end of the tests is an error.
    names["client"]._client_wrapper.httpx_client.httpx_client.close()
    target = tmp_path / "out.mp3"
    target.write_bytes(names["audio"])
    assert seconds_of(target) > 2


def test_the_readmes_javascript_works(shared_server, tmp_path):
    modules = ROOT / "tests" / "sdk" / "js" / "node_modules"
    if shutil.which("node") is None or not modules.exists():
        pytest.skip("Node.js or the JS SDK is not installed; tests/setup.sh names it.")
    (code,) = blocks(ROOT / "README.md", "js")
    script = tmp_path / "readme.mjs"
    script.write_text(
        "import { writeFileSync } from 'node:fs';\n"
        f"const key = {shared_server.api_key!r};\n"
        + code.replace(DEFAULT_BASE, shared_server.url).replace(
            "examples/", f"{ROOT.as_posix()}/examples/"
        )
        + "\nconst pieces = []; for await (const piece of audio) pieces.push(piece);\n"
        "writeFileSync('out.mp3', Buffer.concat(pieces));\n"
    )
    (tmp_path / "node_modules").symlink_to(modules)
    done = subprocess.run(
        ["node", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert seconds_of(tmp_path / "out.mp3") > 2


def test_the_live_python_works(shared_server, tmp_path):
    (code,) = blocks(ROOT / "docs" / "live.md", "python")
    own = shared_server.url.replace("http", "ws")
    code = code.replace(DEFAULT_BASE.replace("http", "ws"), own)
    script = tmp_path / "live.py"
    script.write_text(
        f"key = {shared_server.api_key!r}\n"
        + code.replace("examples/", f"{ROOT.as_posix()}/examples/")
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["type"] for line in done.stdout.splitlines()][-1] == "ended"
    assert (tmp_path / "heard.pcm").stat().st_size > 2 * 48_000


def test_the_documents_curl_lines_work(shared_server, tmp_path):
    lines = [
        line for path in DOCUMENTS[1:] for line in commands(path) if re.search(r"\bcurl\b", line)
    ]
    assert lines
    for line in lines:
        # No microphone and no loudspeaker here: recordings take their place in the pipe.
        command = re.sub(r"^.*?\|\s*curl", "cat examples/speech_male.wav | curl", line)
        run_shell(re.sub(r"\|\s*ffplay.*$", "> heard.mp3", command), shared_server, tmp_path)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_exist(path):
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (path.parent / target).exists(), target
    for named in re.findall(
        r"`((?:src|tests|docs|training|benchmarks|evaluation)/[\w./-]+)`", text
    ):
        assert (ROOT / named).exists(), named


@pytest.mark.parametrize("path", CONVERTED, ids=lambda path: path.stem)
def test_the_converted_examples_are_what_menura_makes(shared_server, tmp_path, path):
    source, voice = path.stem.split("_as_")
    (recording,) = (ROOT / "examples").glob(f"speech_{source}.*")
    (command,) = commands(ROOT / "examples" / "README.md")
    command = (
        command.replace("speech_female.mp3", recording.name)
        .replace("Raven", voice.capitalize())
        .replace("examples/converted/female_as_raven.mp3", "made.mp3")
    )
    run_shell(command, shared_server, tmp_path)
    made, kept = (decoded(each.read_bytes()) for each in (tmp_path / "made.mp3", path))
    # Processors round differently.
    assert np.corrcoef(made, kept)[0, 1] > 0.95


def test_the_table_of_settings_is_true():
    text = (ROOT / "docs" / "operations.md").read_text("utf-8")
    table = text.split("<!-- settings")[1].split("<!-- end")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| .*? \| (.*) \|$", table, re.M))
    assert rows == {name: field.description for name, field in Settings.model_fields.items()}
    for name, default in re.findall(r"^\| `(\w+)` \| `(.*?)` \|", table, re.M):
        field = Settings.model_fields[name]
        if field.default is not PydanticUndefined:
            assert str(field.default) == default, name


def test_the_example_of_a_settings_file_loads(tmp_path, monkeypatch):
    example = blocks(ROOT / "docs" / "operations.md", "toml")[0]
    path = tmp_path / "menura.toml"
    path.write_text(example)
    monkeypatch.setenv("MENURA_CONFIG", str(path))
    settings = Settings()
    assert settings.tiers["studio"].concurrency == 8
    assert settings.default_tier == "studio"


def test_every_dependency_is_explained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").split("## Dependencies")[1]
    for requirement in project["dependencies"]:
        name = re.match(r"[\w-]+", requirement)[0]
        assert re.search(rf"\b{re.escape(name)}\b", text), name
