"""The command line as a newcomer types it, in processes of its own."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from ..sounds import seconds_of, tone, wav
from ..storage.full import no_file_beyond
from .command import COLD, ROOT, SPEECH, menura


def test_voices_are_added_shown_and_removed(data):
    refused = menura("voices", "add", "Mine", SPEECH, "--no-consent", data=data)
    assert refused.returncode == 1
    added = menura(
        "voices", "add", "Mine", SPEECH, "--consent", "--label", "gender=male", data=data
    )
    assert added.returncode == 0, added.stderr + added.stdout
    listed = menura("voices", "list", data=data).stdout
    assert "Mine" in listed
    assert listed.count("premade") >= 16
    shown = menura("voices", "show", "Mine", data=data).stdout
    assert "male" in shown
    assert "Stated on the command line" in shown
    assert menura("voices", "remove", "Mine", "--yes", data=data).returncode == 0
    assert "Mine" not in menura("voices", "list", data=data).stdout
    assert menura("voices", "remove", "Avocet", "--yes", data=data).returncode == 1


def test_keys_are_created_listed_and_revoked(data):
    made = menura("keys", "create", "a game", "--permission", "voices_read", data=data)
    secret = re.search(r"API key: (sk_\w+)", made.stdout).group(1)
    listed = menura("keys", "list", data=data).stdout
    assert "a game" in listed
    assert secret not in listed
    key_id = next(line for line in listed.splitlines() if "a game" in line).split()[1]
    assert menura("keys", "revoke", key_id, data=data).returncode == 0
    assert "a game" not in menura("keys", "list", data=data).stdout
    wrong = menura("keys", "create", "x", "--permission", "fly", data=data)
    assert wrong.returncode == 1
    assert "fly" in wrong.stderr
    for limit in (("--days", 99_999_999_999_999), ("--credits", 10**20)):
        far = menura("keys", "create", "x", *limit, data=data)
        assert far.returncode == 2
        assert f"'{limit[0]}': Input should be less than or equal to" in far.stderr


def test_a_key_that_expires_after_all_calendars_is_listed(tmp_path):
    assert menura("keys", "create", "far", "--days", 1, data=tmp_path).returncode == 0
    with sqlite3.connect(tmp_path / "menura.db") as database:
        database.execute("UPDATE api_keys SET expires_at = ? WHERE name = 'far'", (2**62,))
    listed = menura("keys", "list", data=tmp_path)
    assert listed.returncode == 0, listed.stderr
    assert "far" in listed.stdout


def test_the_doctor_looks_and_a_bad_setting_is_named(data):
    healthy = menura("doctor", data=data)
    assert healthy.returncode == 0, healthy.stdout
    assert "all 28 formats" in healthy.stdout
    assert "no limit of credits" in healthy.stdout
    assert "Azure" not in healthy.stdout  # nothing is computed elsewhere
    bad = menura("doctor", data=data, MENURA_PORT="eighty")
    assert bad.returncode == 2
    assert "port" in bad.stderr
    assert "eighty" in bad.stderr


def test_what_only_looks_makes_nothing(tmp_path):
    nowhere = tmp_path / "mistyped"
    for words in (("keys", "list"), ("keys", "revoke", "x")):
        refused = menura(*words, data=nowhere)
        assert refused.returncode == 1
        assert str(nowhere) in refused.stderr
    assert str(nowhere) in menura("doctor", data=nowhere).stdout
    assert not nowhere.exists()


def test_the_doctor_misses_what_is_gone(tmp_path):
    cloned = menura("voices", "add", "Mine", SPEECH, "--consent", data=tmp_path)
    assert cloned.returncode == 0, cloned.stderr
    assert "all there" in menura("doctor", data=tmp_path).stdout
    shutil.rmtree(tmp_path / "objects" / "samples")
    report = menura("doctor", data=tmp_path)
    assert report.returncode == 1
    assert "1 are gone, such as samples/" in report.stdout


def test_audio_goes_to_no_folder_that_is_not_there(data, tmp_path):
    nowhere = tmp_path / "nowhere" / "out.mp3"
    refused = menura("convert", SPEECH, "--voice", "Wren", "-o", nowhere, data=data)
    assert refused.returncode == 2
    assert "There is no folder" in refused.stderr


def test_serve_prints_the_key_once_and_lines_that_work(tmp_path):
    data = tmp_path / "data"
    first = _serve(data)
    try:
        lines = _until_curl(first)
        key = re.search(r"API key: (sk_\w+)", lines).group(1)
        base = re.search(r"listens on (\S+)", lines).group(1)
        assert base.startswith("http://127.0.0.1:")
        assert f"{base}/#key={key}" in lines
        assert httpx.get(f"{base}/health", timeout=60).status_code == 200
        key_file = data / "api_key"
        assert key_file.read_text().strip() == key
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        curl = next(line for line in lines.splitlines() if "curl" in line)
        pasted = subprocess.run(
            curl.replace("out.mp3", str(tmp_path / "out.mp3")),
            shell=True,
            cwd=ROOT,
            timeout=60,
            check=True,
            capture_output=True,
        )
        assert pasted.returncode == 0
        assert seconds_of(tmp_path / "out.mp3") > 2
    finally:
        _stop(first)

    second = _serve(data)
    try:
        lines = _until_curl(second)
        assert key not in lines
        assert str(data / "api_key") in lines
    finally:
        _stop(second)


def test_serve_refuses_a_taken_port_before_it_makes_a_key(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        refused = menura("serve", "--port", port, data=tmp_path / "data")
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"Cannot listen on 127.0.0.1:{port}: ")
    assert refused.stderr.count("\n") == 1
    assert "MENURA_PORT" in refused.stderr
    assert not (tmp_path / "data").exists()


def test_serve_and_doctor_tell_when_the_key_file_holds_no_valid_key(tmp_path):
    listed = menura("keys", "list", data=tmp_path).stdout
    key_id = next(line for line in listed.splitlines() if "local" in line).split()[1]
    assert "admits its holder" in menura("doctor", data=tmp_path).stdout
    assert menura("keys", "revoke", key_id, data=tmp_path).returncode == 0
    report = menura("doctor", data=tmp_path)
    assert report.returncode == 1
    assert "revoked or expired" in report.stdout
    (tmp_path / "api_key").unlink()
    assert menura("doctor", data=tmp_path).returncode == 0
    server = _serve(tmp_path)
    try:
        lines = _until_curl(server)
    finally:
        _stop(server)
    assert "holds no key that is valid; make one with: menura keys create" in lines
    assert "$(cat" not in lines


def test_the_database_is_private_in_a_folder_that_others_may_enter(tmp_path):
    tmp_path.chmod(0o755)
    assert menura("doctor", data=tmp_path).returncode == 0
    database = tmp_path / "menura.db"
    for private in database, tmp_path / "lock":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    database.chmod(0o644)
    report = menura("doctor", data=tmp_path)
    assert report.returncode == 1
    assert "others may read" in report.stdout


def test_an_empty_variable_is_none_and_a_tilde_is_the_home(tmp_path):
    empty = {f"MENURA_{name}": "" for name in ("HOST", "CORES", "MAX_SECONDS", "DATABASE_URL")}
    assert menura("voices", "list", data="~/voices", HOME=str(tmp_path), **empty).returncode == 0
    assert (tmp_path / "voices" / "menura.db").is_file()
    report = menura("doctor", data="~/voices", HOME=str(tmp_path), **empty)
    assert report.returncode == 0, report.stdout
    assert "127.0.0.1:8000" in report.stdout


def test_settings_come_from_flag_then_environment_then_file(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "menura.toml").write_text("max_streams = 3\nmax_seconds = 11\nregion = 'file'\n")
    environment = {"MENURA_MAX_SECONDS": "12"}
    found = menura("doctor", data=data, **environment).stdout
    assert re.search(r"Conversions at once\s+│ 3 ", found)
    assert re.search(r"Length\s+│ 12 s", found)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_serve_tells_an_ipv6_address_that_can_be_used(tmp_path, host):
    server = _serve(tmp_path, "--host", host)
    try:
        base = re.search(r"listens on (\S+)", _until_curl(server)).group(1)
        assert base.startswith("http://[::1]:")
        assert httpx.get(f"{base}/health", timeout=60).status_code == 200
    finally:
        _stop(server)


def test_serve_tells_the_public_address_without_a_double_slash(tmp_path):
    server = _serve(tmp_path, "--base-url", "https://voice.example.org/menura/")
    try:
        lines = _until_curl(server)
        assert "https://voice.example.org/menura/#key=" in lines
        own = re.search(r"listens on (\S+), known as https://voice", lines).group(1)
        assert httpx.get(f"{own}/health", timeout=60).status_code == 200
        assert "https://voice.example.org/menura/v1/" in lines
    finally:
        _stop(server)


@pytest.mark.parametrize(("proxies", "status"), [("", 401), ("10.9.9.9, 127.0.0.0/8", 200)])
def test_a_header_tells_the_address_only_of_who_comes_by_a_trusted_proxy(tmp_path, proxies, status):
    server = _serve(tmp_path, MENURA_TRUSTED_PROXIES=proxies)
    try:
        base = re.search(r"listens on (\S+)", _until_curl(server)).group(1)
        own = {"xi-api-key": (tmp_path / "api_key").read_text().strip()}
        with httpx.Client(base_url=f"{base}/v1", timeout=60) as client:
            holders = client.get("/service-accounts", headers=own).json()["service-accounts"]
            made = client.post(
                f"/service-accounts/{holders[0]['service_account_user_id']}/api-keys",
                json={"name": "office", "permissions": "all", "allowed_ips": ["10.1.0.0/16"]},
                headers=own,
            )
            told = {"xi-api-key": made.json()["xi-api-key"], "x-forwarded-for": "10.1.2.3"}
            assert client.get("/models", headers=told).status_code == status
    finally:
        _stop(server)


def test_a_proxy_that_is_no_address_is_refused(tmp_path):
    refused = menura("serve", data=tmp_path, MENURA_TRUSTED_PROXIES="10.0.0.1,proxy.local")
    assert refused.returncode == 2
    assert "'proxy.local'" in refused.stderr


def _serve(data, *flags, under=(), **environment):
    return subprocess.Popen(
        [*under, sys.executable, "-m", "menura.cli", "serve", "--port", "0", *flags],
        env={**os.environ, "MENURA_DATA": str(data), "COLUMNS": "80", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def _until_curl(process):
    lines = ""
    deadline = time.monotonic() + 60
    while "curl" not in lines and time.monotonic() < deadline:
        line = process.stdout.readline()
        assert line, lines
        lines += line
    return lines


def _stop(process):
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 0


def test_a_server_whose_lines_nobody_reads_runs_all_the_same(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = _serve(tmp_path, "--port", str(port))
    try:
        server.stdout.close()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert client.get("/health").status_code == 200
                    break
                except httpx.TransportError:
                    assert server.poll() is None, "The server has ended."
                    assert time.monotonic() < deadline
                    time.sleep(0.1)
            # Once it has been ready for a while it has tried to tell.
            time.sleep(1)
            assert client.get("/health").status_code == 200
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)
    assert server.returncode == 0


def test_told_to_end_the_server_ends_and_charges_what_was_heard(tmp_path):
    server = _serve(tmp_path)
    try:
        lines = _until_curl(server)
        base = re.search(r"listens on http://(\S+):(\d+)", lines)
        key = re.search(r"API key: (\S+)", lines).group(1)
        path = "/v1/speech-to-speech/JBFqnCBsd6RMkjVDRZzb/stream"
        part = (
            b'--b\r\nContent-Disposition: form-data; name="audio"; filename="a"\r\n\r\n'
            + SPEECH.read_bytes()
        )
        with socket.create_connection((base.group(1), int(base.group(2))), 30) as wire:
            wire.sendall(
                f"POST {path}?duplex=true HTTP/1.1\r\nhost: x\r\nxi-api-key: {key}\r\n"
                "content-type: multipart/form-data; boundary=b\r\n"
                "transfer-encoding: chunked\r\n\r\n".encode()
            )
            wire.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
            assert b" 200 " in wire.recv(65_536)
            begun = time.monotonic()
            server.send_signal(signal.SIGTERM)
            logged, _ = server.communicate(timeout=60)
        assert time.monotonic() - begun < 25
        for line in logged.splitlines():
            assert re.match(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ [\w.]+: ", line), line
    finally:
        server.kill()
    with sqlite3.connect(tmp_path / "menura.db") as database:
        assert database.execute("SELECT sum(credits) FROM usage_records").fetchone()[0] > 0


def test_more_clients_are_served_than_files_may_be_open_at_first(tmp_path):
    server = _serve(tmp_path, under=("sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh"))
    try:
        found = re.search(r"listens on http://(\S+):(\d+)", _until_curl(server))
        address = found.group(1), int(found.group(2))
        with ExitStack() as clients:
            for _ in range(100):
                clients.enter_context(socket.create_connection(address, 30))
            assert httpx.get("http://{}:{}/health".format(*address), timeout=30).status_code == 200
        _stop(server)
    finally:
        server.kill()


def test_who_had_nothing_when_the_server_ended_is_told_so_and_pays_nothing(tmp_path):
    server = _serve(tmp_path, "--max-seconds", "0", "--cores", "1")
    try:
        lines = _until_curl(server)
        url = re.search(r"listens on (http://\S+)", lines).group(1)
        key = {"xi-api-key": re.search(r"API key: (\S+)", lines).group(1)}
        path = f"{url}/v1/speech-to-speech/JBFqnCBsd6RMkjVDRZzb"
        files = {"audio": wav(tone(600.0, 8_000), 8_000)}
        uploading = (
            "POST /v1/service-accounts HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
            f"content-length: 9\r\nxi-api-key: {key['xi-api-key']}\r\n\r\n{{"
        )
        host, port = url.removeprefix("http://").split(":")
        with (
            ThreadPoolExecutor() as threads,
            closing(sqlite3.connect(tmp_path / "menura.db")) as database,
            socket.create_connection((host, int(port)), 60) as wire,
        ):
            wire.sendall(uploading.encode())
            asked = [
                threads.submit(httpx.post, path, headers=key, files=files, timeout=60)
                for _ in range(4)
            ]
            deadline = time.monotonic() + 60
            while database.execute("SELECT count(*) FROM leases").fetchone()[0] < len(asked):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            server.send_signal(signal.SIGTERM)
            answers = [each.result() for each in asked]
            assert wire.recv(65_536).startswith(b"HTTP/1.1 503")
            logged, _ = server.communicate(timeout=60)
            assert database.execute("SELECT sum(credits) FROM usage_records").fetchone()[0] is None
    finally:
        server.kill()
    for answer in answers:
        assert answer.status_code == 503
        assert answer.json()["detail"]["code"] == "service_unavailable"
        assert answer.headers["retry-after"] == "5"
    assert "Traceback" not in logged


def test_a_backup_of_a_running_server_can_be_served(server, tmp_path):
    running = server()
    made = running.client.post(
        "/v1/speech-to-speech/JBFqnCBsd6RMkjVDRZzb", files={"audio": SPEECH.read_bytes()}
    )
    item = made.headers["history-item-id"]
    copy = tmp_path / "copy"
    told = menura("backup", copy, data=running.settings.data)
    assert told.returncode == 0, told.stderr
    for private in (copy, copy / "objects", copy / "incoming"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert menura("backup", copy, data=running.settings.data).returncode == 1
    running.client.delete(f"/v1/history/{item}")
    running.stop()
    restored = server(data=copy)
    assert restored.api_key == running.api_key
    assert restored.client.get(f"/v1/history/{item}/audio").content == made.content
    assert "all there" in menura("doctor", data=copy).stdout


def test_a_backup_leaves_alone_what_lies_beside_it(data, tmp_path):
    neighbour = tmp_path / "copy.part" / "theirs.txt"
    neighbour.parent.mkdir()
    neighbour.write_text("kept")
    assert menura("keys", "create", "one", data=data).returncode == 0
    told = menura("backup", tmp_path / "copy", data=data)
    assert told.returncode == 0, told.stderr
    assert neighbour.read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"copy", "copy.part"}


def test_a_backup_that_finds_no_room_is_told_and_leaves_nothing(data, tmp_path):
    assert menura("keys", "create", "one", data=data).returncode == 0
    (tmp_path / "file").touch()
    told = menura("backup", tmp_path / "file" / "copy", data=data)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    with no_file_beyond(100_000):
        told = menura("backup", tmp_path / "copy", data=data, program=COLD)
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert str(tmp_path / "copy") in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_clone_that_finds_no_room_is_told_and_leaves_nothing(data, tmp_path):
    assert menura("keys", "create", "one", data=data).returncode == 0
    (tmp_path / "long.wav").write_bytes(bytes(1_000_000))
    with no_file_beyond(500_000):
        files = SPEECH, tmp_path / "long.wav"
        told = menura("voices", "add", "Mine", *files, "--consent", data=data, program=COLD)
    assert told.returncode == 1
    assert "There is no room left" in told.stderr
    assert list((data / "incoming").iterdir()) == []


@pytest.mark.parametrize("in_file", [True, False])
def test_a_store_elsewhere_is_not_backed_up(data, tmp_path, in_file):
    # Its copy, once served, would delete from the store what was made after it.
    address = (tmp_path / "store").as_uri()
    assert menura("keys", "create", "one", data=data).returncode == 0
    if in_file:
        (data / "menura.toml").write_text(f'objects_url = "{address}"')
    options = {} if in_file else {"MENURA_OBJECTS_URL": address}
    told = menura("backup", tmp_path / "copy", data=data, **options)
    assert told.returncode == 1
    assert "objects_url" in told.stderr
    assert not (tmp_path / "copy").exists()


def test_a_name_between_colons_is_told_as_it_is(data, tmp_path):
    target = tmp_path / "a :dog: b.pcm"
    done = menura("convert", SPEECH, "--voice", "Avocet", "-o", target, data=data)
    assert str(target) in done.stdout
    told = menura("voices", "show", "a :cat: b", data=data)
    assert "a :cat: b" in told.stderr


def test_a_path_that_the_system_does_not_look_at_is_refused_in_a_sentence(tmp_path):
    """As one in a folder that only others may enter, which root's tests cannot have."""
    data, path = tmp_path / "data", tmp_path / ("x" * 300)
    assert menura("keys", "create", "one", data=data).returncode == 0
    for command, options in (
        (("serve", "--port", 0), {"MENURA_SSL_CERTFILE": str(path)}),
        (("voices", "list"), {"MENURA_CONFIG": str(path)}),
        (("backup", path), {}),
        (("convert", SPEECH, "--voice", "Avocet", "-o", f"{path}.wav"), {}),
    ):
        told = menura(*command, data=data, **options)
        assert told.returncode in (1, 2), told.stderr
        assert (path.name in told.stderr, told.stderr.count("\n")) == (True, 1)


def test_names_do_not_speak_to_the_terminal(data):
    odd = "Tit\x1b]52;c;cHduZWQ=\x07 \x1b[31m\x9b8m"
    made = menura("voices", "add", odd, SPEECH, "--consent", data=data)
    key = menura("keys", "create", odd, data=data)
    told = [
        made,
        key,
        menura("voices", "list", data=data),
        menura("voices", "show", odd, data=data),
        menura("keys", "list", data=data),
        menura("voices", "show", "nobody", data=data),
        menura("voices", "remove", "--yes", odd, data=data),
    ]
    for shown in told:
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", shown.stdout + shown.stderr)
    assert "Tit\N{REPLACEMENT CHARACTER}]52" in told[2].stdout


def test_names_are_not_markup(data, tmp_path):
    odd = "Bird [/i] {x}"
    made = menura("voices", "add", odd, SPEECH, "--consent", data=data)
    assert made.returncode == 0, made.stderr
    assert odd in made.stdout
    for command in (["voices", "list"], ["voices", "show", odd]):
        shown = menura(*command, data=data)
        assert shown.returncode == 0, shown.stderr
        assert odd in shown.stdout
    source = tmp_path / "[live] {0}.flac"
    source.write_bytes(SPEECH.read_bytes())
    target = tmp_path / "[final] x.wav"
    done = menura("convert", source, "--voice", odd, "-o", target, data=data)
    assert done.returncode == 0, done.stderr
    assert "[final] x.wav" in done.stdout
    missing = menura("voices", "show", "[/red]", data=data)
    assert missing.returncode == 1
    assert "[/red]" in missing.stderr
    removed = menura("voices", "remove", odd, "-y", data=data)
    assert f"Deleted {odd}." in removed.stdout
    assert menura("keys", "create", "[/b] team", data=data).returncode == 0
    assert "[/b] team" in menura("keys", "list", data=data).stdout


def test_names_are_shown_where_their_letters_are_unknown(tmp_path):
    words = ("voices", "add", "Жаворонок", SPEECH, "--consent")
    made = menura(*words, data=tmp_path, PYTHONIOENCODING="cp1252")
    assert made.returncode == 0, made.stderr
    listed = menura("voices", "list", data=tmp_path, PYTHONIOENCODING="cp1252")
    assert listed.returncode == 0, listed.stderr
    assert "\\u0416" in listed.stdout
    assert "Жаворонок" in menura("voices", "list", data=tmp_path).stdout


def test_ids_and_names_are_shown_whole_on_a_narrow_terminal_and_in_a_pipe(data):
    assert menura("keys", "create", "one", data=data).returncode == 0
    for group in ("keys", "voices"):
        shown = menura(group, "list", data=data, COLUMNS="80").stdout
        assert re.search(r"\b[A-Za-z0-9]{20}\b", shown), shown
        assert "…" not in shown
    assert "Bittern" in shown
    piped = menura("voices", "list", data=data, COLUMNS=None).stdout
    bittern = next(line for line in piped.splitlines() if "Bittern" in line)
    assert "lPgBMmayLXPNvKZinRNO" in bittern
    assert "middle aged" in bittern
    assert "…" not in piped


def test_of_two_voices_of_one_name_neither_is_taken(data, tmp_path):
    ids = []
    for _ in range(2):
        made = menura("voices", "add", "Twin", SPEECH, "--consent", data=data)
        ids.append(made.stdout.split()[1])
    for words in (
        ("voices", "remove", "Twin", "-y"),
        ("voices", "remove", "tWIN", "-y"),
        ("voices", "show", "Twin"),
        ("convert", SPEECH, "--voice", "Twin", "-o", tmp_path / "out.wav"),
    ):
        refused = menura(*words, data=data)
        assert refused.returncode == 1
        assert all(each in refused.stderr for each in ids)
    for each in ids:
        assert menura("voices", "remove", each, "-y", data=data).returncode == 0


def test_the_settings_file_of_a_folder_that_a_flag_names(tmp_path, data):
    (tmp_path / "menura.toml").write_text("max_seconds = 77", encoding="utf-8")
    shown = menura("doctor", "--data", tmp_path, data=data)
    assert "77 s" in shown.stdout


def test_the_settings_file_may_begin_with_a_mark(data, tmp_path):
    file = tmp_path / "menura.toml"
    file.write_bytes("max_seconds = 77\r\nregion = 'ж'\r\n".encode("utf-8-sig"))
    assert "77 s" in menura("doctor", data=data, MENURA_CONFIG=str(file)).stdout


@pytest.mark.parametrize(
    ("toml", "environment", "complaint"),
    [
        ("max_seconds = ", {}, "cannot be read"),
        ("default_tier = 'zzz'", {}, "default_tier is 'zzz'"),
        ("max_secnds = 3", {}, "there is no setting 'max_secnds'"),
        ("[tiers.free]\nvocies = 3", {}, "tiers.free.vocies = 3"),
        ("", {"MENURA_DEFAULT_TIER": "zzz"}, "default_tier is 'zzz'"),
        ("", {"MENURA_CONFIG": "/nowhere/at/all"}, "which is no file"),
        ("", {"MENURA_SSL_CERTFILE": "/nowhere/at/all"}, "ssl_certfile names '/nowhere/at/all'"),
        ("", {"MENURA_TIERS": "x"}, '"tiers"'),
        ("host = ''", {}, "host = ''"),
        ('region = "a\\nb"', {}, "region = 'a\\nb'"),
        ("", {"MENURA_BASE_URL": "nonsense"}, "base_url = 'nonsense'"),
        ("[tiers.free]\nformats_denied = ['pcm48000']", {}, "no output format 'pcm48000'"),
        ("", {"MENURA_MAX_SECONDS": "inf"}, "max_seconds = "),
        ("", {"MENURA_SSL_CERTFILE": "~nobody-here/x"}, "no home folder"),
        ("", {"MENURA_DATA": "~nobody-here/x"}, "no home folder"),
    ],
)
def test_wrong_settings_are_said_in_one_line(tmp_path, toml, environment, complaint):
    (tmp_path / "menura.toml").write_text(toml, encoding="utf-8")
    refused = menura("serve", data=tmp_path, **environment)
    assert refused.returncode == 2
    assert complaint in refused.stderr
    assert "Value error" not in refused.stderr
    assert refused.stderr.count("\n") == 1, refused.stderr


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"SSL_CERTFILE": "README.md"}, "README.md"),
        ({"SSL_CERTFILE": "README.md", "SSL_KEYFILE": "LICENSE"}, "README.md"),
        ({"SSL_KEYFILE": "LICENSE"}, "ssl_certfile"),
    ],
)
def test_a_certificate_that_cannot_be_used_is_named(tmp_path, files, named):
    environment = {f"MENURA_{name}": str(ROOT / file) for name, file in files.items()}
    refused = menura("serve", "--port", "0", data=tmp_path, **environment)
    assert refused.returncode == 2
    assert named in refused.stderr
    assert refused.stderr.count("\n") == 1, refused.stderr


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"DATA": "/proc/version"}, "data folder '/proc/version'"),
        ({}, "menura.db' cannot be opened: file is not a database"),
        ({"DATABASE_URL": "postgresql://me:hidden@127.0.0.1:1/x"}, "postgresql://127.0.0.1:1/x"),
        ({"DATABASE_URL": "nosuch://me:hidden@127.0.0.1/x"}, "nosuch://127.0.0.1/x"),
        ({"OBJECTS_URL": "nosuch://me:hidden@place/x?key=hidden"}, "nosuch://place/x"),
        ({"DEFAULT_MODEL": "nope"}, "default_model cannot be used: A model with id 'nope'"),
    ],
)
def test_what_cannot_be_opened_is_said_in_one_line(tmp_path, environment, named):
    if not environment:
        (tmp_path / "menura.db").write_text("not a database" * 100, encoding="utf-8")
    variables = {f"MENURA_{name}": value for name, value in environment.items()}
    for words in (("serve", "--port", "0"), ("voices", "list"), ("doctor",)):
        refused = menura(*words, data=tmp_path, **variables)
        assert refused.returncode in {1, 3}
        told = " ".join((refused.stdout + refused.stderr).split())
        if words != ("doctor",):
            assert named in told
            assert "Traceback" not in told
        assert "hidden" not in told


@pytest.mark.parametrize("held", [None, "sk_x".encode("utf-16"), b"my own secret"])
def test_a_key_file_that_cannot_be_used_is_said_in_one_line(tmp_path, held):
    file = tmp_path / "api_key"
    file.mkdir() if held is None else file.write_bytes(held)
    for words in (("serve", "--port", "0"), ("voices", "list")):
        refused = menura(*words, data=tmp_path)
        assert refused.returncode in {1, 3}
        told = " ".join((refused.stdout + refused.stderr).split())
        assert f"The data folder '{tmp_path}' cannot be opened: " in told
        assert "Traceback" not in told
        assert "secret" not in told
    assert held is None or file.read_bytes() == held


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's full device")
def test_an_answer_that_cannot_be_written_is_said_in_one_line(data):
    with open("/dev/full", "w", encoding="utf-8") as full:
        refused = subprocess.run(
            [sys.executable, "-m", "menura.cli", "voices", "list"],
            env={**os.environ, "MENURA_DATA": str(data)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert refused.returncode == 1
    assert refused.stderr == "The answer cannot be written: No space left on device.\n"


@pytest.mark.parametrize("broken", ["not a database", None])
def test_the_doctor_tells_what_is_wrong(tmp_path, broken):
    folder = tmp_path / "data"
    if broken is None:
        folder.write_text("a file", encoding="utf-8")
    else:
        folder.mkdir()
        (folder / "menura.db").write_text(broken * 100, encoding="utf-8")
    report = menura("doctor", data=folder)
    assert report.returncode == 1
    assert "bad" in report.stdout
    assert "Traceback" not in report.stderr


def test_a_key_has_the_limits_that_it_was_made_with(tmp_path):
    words = ("--credits", 7, "--days", 2, "--permission", "voices_read")
    assert menura("keys", "create", "small", *words, data=tmp_path).returncode == 0
    with sqlite3.connect(tmp_path / "menura.db") as database:
        columns = "character_limit, expires_at, permissions"
        rows = database.execute(f"SELECT {columns} FROM api_keys WHERE name = 'small'")
        ((limit, expires_at, permissions),) = rows.fetchall()
    assert limit == 7
    assert abs(expires_at - time.time() - 2 * 86_400) < 120
    assert json.loads(permissions) == ["voices_read"]


def test_a_voice_has_what_was_said_of_it(tmp_path):
    words = ("--consent", "--description", "At home.", "--denoise", "--label", "age=old")
    added = menura("voices", "add", "Mine", SPEECH, *words, data=tmp_path)
    assert added.returncode == 0, added.stderr
    shown = menura("voices", "show", "Mine", data=tmp_path).stdout
    assert "At home." in shown
    assert re.search(r"age\s+│ old", shown)
    with sqlite3.connect(tmp_path / "menura.db") as database:
        rows = database.execute("SELECT remove_background_noise FROM voice_samples")
        assert rows.fetchall() == [(1,)]


@pytest.mark.parametrize(
    ("flag", "wrong", "right"),
    [
        ("--port", 65536, None),
        ("--base-url", "nonsense", "https://voice.example.org"),
        ("--max-seconds", -1, "5"),
        ("--max-upload-bytes", -1, "5"),
        ("--cores", 0, "1"),
        ("--default-tier", "zzz", "free"),
    ],
)
def test_a_flag_of_the_server_goes_before_the_environment(tmp_path, flag, wrong, right):
    name = flag.removeprefix("--").replace("-", "_")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        # Should the flag not be read, the server ends for another reason.
        variables = {"MENURA_PORT": str(taken.getsockname()[1])}
        if right is not None:
            variables[f"MENURA_{name.upper()}"] = right
        refused = menura("serve", flag, wrong, data=tmp_path, **variables)
    assert refused.returncode == 2, refused.stderr
    assert name in refused.stderr
    assert str(wrong) in refused.stderr


def test_a_running_server_has_little_for_the_garbage_collector_to_look_at(tmp_path):
    program = """
import gc, signal
from menura.cli import serve
from menura.cli.main import app

async def tell(services, port):
    print("to look at:", len(gc.get_objects()))
    signal.raise_signal(signal.SIGTERM)

serve.announce = tell
app()
"""
    told = menura("serve", "--port", "0", data=tmp_path / "data", program=("-c", program))
    found = re.search(r"to look at: (\d+)", told.stdout)
    assert found, told.stderr
    assert int(found[1]) < 10_000
