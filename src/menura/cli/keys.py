"""`menura keys`: make, list and revoke API keys of this machine's account."""

import time
from typing import Annotated

import typer
from rich.table import Column, Table

from menura.accounts.keys import MOST_CREDITS
from menura.accounts.principal import PERMISSIONS
from menura.cli.options import (
    DataOption,
    cell,
    console,
    require_data_folder,
    run,
    say,
    settings_from,
)
from menura.services import open_services

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys of the local account.")


LAST_DAY = 32_503_679_999
"""The last second of the year 2999; Windows knows hardly any beyond."""


def _day(second: int) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(min(second, LAST_DAY)))


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Name of the key, for example what it is for.")],
    permission: Annotated[
        list[str] | None,
        typer.Option(
            help=f"What the key may do, may be repeated; else everything: {', '.join(PERMISSIONS)}."
        ),
    ] = None,
    credit_limit: Annotated[
        int | None,
        typer.Option(
            "--credits",
            min=0,
            max=MOST_CREDITS,
            help="Credits that the key may use in a month; else no limit of its own.",
        ),
    ] = None,
    days: Annotated[
        int | None, typer.Option(min=1, max=36_500, help="Days until the key expires; else never.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Make a key and print it; it is shown only this once."""

    async def work() -> str:
        async with open_services(settings_from(data=data), converting=False) as services:
            account = await services.accounts.local_account()
            made = await services.accounts.keys.create(
                account.account_id,
                name,
                permissions=permission,
                character_limit=credit_limit,
                expires_at=None if days is None else int(time.time()) + days * 86_400,
            )
            return made.secret

    secret = run(work())
    say(f"API key: {secret}")


@app.command("list")
def show(data: DataOption = None) -> None:
    """List the keys with their ids; of each key only the beginning is shown."""
    settings = settings_from(data=data)
    require_data_folder(settings)

    async def work() -> Table:
        table = Table(
            Column("Id", no_wrap=True, min_width=20),
            Column("Name", overflow="fold"),
            Column("Begins with", no_wrap=True, min_width=8),
            Column("May", overflow="fold"),
            Column("Made", no_wrap=True, min_width=10),
            Column("Expires", no_wrap=True, min_width=7),
        )
        async with open_services(settings, converting=False) as services:
            account = await services.accounts.local_account()
            for key in await services.accounts.keys.list(account.account_id):
                table.add_row(
                    key.key_id,
                    cell(key.name),
                    key.hint,
                    "all" if key.permissions is None else ", ".join(key.permissions),
                    _day(key.created_at),
                    "never" if key.expires_at is None else _day(key.expires_at),
                )
        return table

    console.print(run(work()))


@app.command("revoke")
def revoke(
    key_id: Annotated[str, typer.Argument(help="Id of the key, as `menura keys list` shows it.")],
    data: DataOption = None,
) -> None:
    """Delete a key; it stops working at once."""
    settings = settings_from(data=data)
    require_data_folder(settings)

    async def work() -> None:
        async with open_services(settings, converting=False) as services:
            account = await services.accounts.local_account()
            await services.accounts.keys.revoke(account.account_id, key_id)

    run(work())
    say(f"Revoked {key_id}.")
