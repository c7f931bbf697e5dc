"""A data folder with its services, and clones to make in it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from menura.services import Services, open_services
from menura.settings import Settings
from menura.voices.card import Card
from menura.voices.store import Maker, Upload

SPEECH = Path(__file__).parent.parent / "speech"
MALE = SPEECH / "male_librispeech_1235.flac"
FEMALE = SPEECH / "female_ljspeech.flac"
GEORGE = "JBFqnCBsd6RMkjVDRZzb"


class House:
    """Open services and the local account."""

    def __init__(self, services: Services, account_id: str) -> None:
        self.services = services
        self.voices = services.voices
        self.account_id = account_id
        self.maker = Maker(account_id, "key", 5)

    def upload(self, path: Path = MALE, data: bytes | None = None) -> Upload:
        writer = self.voices.receive()
        writer.write(path.read_bytes() if data is None else data)
        return Upload(path.name, writer)

    async def clone(self, name: str = "Mine", path: Path = MALE) -> str:
        voice = await self.voices.create(self.maker, Card(name), [self.upload(path)])
        return voice.voice_id

    async def keys(self) -> set[str]:
        return {found.key async for found in self.services.objects.own()}

    def unfinished(self) -> list[Path]:
        return list((self.services.settings.data / "incoming").iterdir())


def inside(folder: Path, act: Callable[[House], Awaitable[Any]], **options: Any) -> Any:
    """Run `act` in opened services over a data folder."""

    async def run() -> Any:
        async with open_services(Settings(data=folder, **options)) as services:
            account = await services.accounts.local_account()
            return await act(House(services, account.account_id))

    return asyncio.run(run())
