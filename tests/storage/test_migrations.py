"""A data folder that an earlier version made is served with all that it holds."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from alembic import command
from sqlalchemy import create_engine
from tests.conftest import RunningServer

from menura.storage.migrations import configuration

SPEECH = Path(__file__).parents[1] / "speech" / "male_librispeech_1235.flac"
EARLIER = "0002"


def age(folder: Path, revision: str) -> None:
    """Give a folder's database the schema of a revision, with the rows that this can hold."""
    old, new = folder / "old.db", folder / "menura.db"
    engine = create_engine(f"sqlite:///{old}")
    with engine.begin() as connection:
        configured = configuration()
        configured.attributes["connection"] = connection
        command.upgrade(configured, revision)
    engine.dispose()
    with closing(sqlite3.connect(old)) as database:
        database.execute("ATTACH ? AS new", (str(new),))
        tables = database.execute("SELECT name FROM main.sqlite_master WHERE type = 'table'")
        for (table,) in tables.fetchall():
            if table != "alembic_version":
                columns = database.execute(f"PRAGMA main.table_info({table})").fetchall()
                names = ", ".join(column[1] for column in columns)
                database.execute(
                    f"INSERT INTO main.{table} ({names}) SELECT {names} FROM new.{table}"
                )
        database.commit()
    for path in folder.glob("menura.db*"):
        path.unlink()
    old.rename(new)


def test_an_earlier_folder_is_served_with_all_that_it_holds(
    server: Callable[..., RunningServer],
) -> None:
    first = server(base_url="http://voice.example.org")
    data = first.settings.data
    speech = SPEECH.read_bytes()
    made = first.client.post("/v1/voices/add", data={"name": "Mine"}, files={"files": speech})
    voice = made.json()["voice_id"]
    settings = f"/v1/voices/{voice}/settings"
    assert first.client.post(f"{settings}/edit", json={"stability": 0.3}).status_code == 200
    path = f"/v1/speech-to-speech/{voice}"
    answer = first.client.post(path, files={"audio": speech})
    item = answer.headers["history-item-id"]
    kept = {
        name: first.client.get(name).json()
        for name in (settings, f"/v1/voices/{voice}", f"/v1/history/{item}", "/v1/user")
    }
    first.stop()
    age(data, EARLIER)
    (data / "objects" / "owner").unlink()
    with closing(sqlite3.connect(data / "menura.db")) as database:
        database.execute("UPDATE voice_models SET engine_version = 'of then'")
        measured = database.execute("SELECT object_key FROM voice_models").fetchall()
        database.execute(
            "INSERT INTO leases (lease_id, account_id, key_id, process_id, expires_at) "
            "SELECT 'left', account_id, key_id, 'killed', 1e12 FROM api_keys"
        )
        database.commit()

    again = server(data=data, base_url="http://voice.example.org")
    assert again.api_key == first.api_key
    assert {name: again.client.get(name).json() for name in kept} == kept
    assert again.client.get(f"/v1/history/{item}/audio").content == answer.content
    assert again.client.post(path, files={"audio": speech}).status_code == 200
    assert again.run(again.services.database.check()) == []
    with closing(sqlite3.connect(data / "menura.db")) as database:
        anew = database.execute("SELECT object_key, engine_version FROM voice_models").fetchall()
        leases = database.execute("SELECT count(*) FROM leases").fetchall()
    assert [version == "of then" for _, version in anew] == [False]
    assert not (data / "objects" / measured[0][0]).exists()
    assert (data / "objects" / anew[0][0]).is_file()
    assert leases == [(0,)]
