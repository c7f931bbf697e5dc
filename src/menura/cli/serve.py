"""`menura serve`: start the server and tell how to use it."""

import gc
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
import uvicorn

from menura.accounts.service import KEY_FILE
from menura.cli.options import DataOption, address_in_url, complain, say, settings_from
from menura.services import CannotOpenError, Services
from menura.settings import Settings

EXAMPLE = Path("examples/speech_female.mp3")
OWN_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where a server is found that listens on every address; on `::` it has no IPv4."""

MANY_FILES = 10_240
"""As many as macOS lets a process have open."""


class AnnouncingServer(uvicorn.Server):
    """A server that says where it is once it is ready."""

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[int], Awaitable[None]]
    ) -> None:
        super().__init__(config)
        self._on_listening = on_listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the port."""
        await super().startup(sockets=sockets)
        if self.started:
            _spare_the_collector()
            await self._on_listening(self.servers[0].sockets[0].getsockname()[1])


def _spare_the_collector() -> None:
    """Take what lives as long as the server out of the sight of the garbage collector. A full
    collection that looks at it stops every live stream for a fifth of a second; and since one comes
    only when there is much new beside what the last one kept, garbage would lie for long, threads
    of FFmpeg included."""
    gc.collect()
    gc.freeze()
    # What this one keeps is what the next is put off by.
    gc.collect()


def _is_news(record: logging.LogRecord) -> bool:
    """Tell whether a line is worth logging. uvicorn takes every refused WebSocket and every answer
    that breaks off for an error of the application; we log more of those ourselves. A traceback
    that ends in CannotOpenError is cut down, in place, to that error's sentence."""
    message = record.getMessage()
    _, told, reason = message.rpartition(f"{CannotOpenError.__qualname__}: ")
    if told:
        record.msg, record.args = reason.strip(), ()
    return not message.startswith("ASGI callable returned without completing ")


def refuse_taken(host: str, port: int) -> None:
    """End the command if the address cannot be listened on, before anything is made."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in set(found):
            with socket.socket(family, kind, protocol) as tried:
                if os.name == "posix":
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    tried.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                tried.bind(address)
    except OSError as error:
        complain(
            f"Cannot listen on {address_in_url(host, port)}: {error.strerror or error}. "
            "MENURA_HOST and MENURA_PORT choose another address."
        )
        raise typer.Exit(1) from None


def open_many_files() -> None:
    """Let the process have more files open than a system allows at first, where it allows more: a
    stream takes four, and macOS begins with 256."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415  Windows has neither the module nor the limit

        now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        # macOS names no end, and refuses more than this.
        wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(most, MANY_FILES)
        if now != resource.RLIM_INFINITY and now < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


async def announce(services: Services, port: int) -> None:
    """Print the address of the page, the key if it is new, and a curl line to paste.

    Who does not listen to the end (`menura serve | head -1`) gets a server all the same.
    """
    services.conversion.lanes.prepare()
    key_works = await services.accounts.key_file_works()
    # The library ends the program where a pipe is broken, after it has given it a new output.
    with suppress(SystemExit):
        _tell(services, port, key_works)


def _tell(services: Services, port: int, key_works: bool) -> None:
    settings, first_key = services.settings, services.first_key
    host = OWN_ADDRESSES.get(settings.host, settings.host)
    scheme = "https" if settings.ssl_certfile else "http"
    own = f"{scheme}://{address_in_url(host, port)}"
    base = (settings.base_url or own).rstrip("/")
    key_file = settings.data / KEY_FILE

    say(f"Menura listens on {own}" + (f", known as {base}" if settings.base_url else ""))
    key = f'$(cat "{key_file}")'
    if first_key is not None:
        say(f"API key: {first_key}")
        say(f"(kept in {key_file}, which only you can read)")
        say(f"The page: {base}/#key={first_key}")
        key = first_key
    else:
        if key_works:
            say(f"The API key is in {key_file}")
        else:
            say(f"{key_file} holds no key that is valid; make one with: menura keys create NAME")
            key = "YOUR_KEY"
        say(f"The page: {base}/")
    recording = EXAMPLE if EXAMPLE.is_file() else "YOUR_RECORDING"
    say("Try it:")
    say(
        f'  curl -o out.mp3 -H "xi-api-key: {key}" -F audio=@{recording} '
        f"{base}/v1/speech-to-speech/JBFqnCBsd6RMkjVDRZzb"
    )


def serve(
    data: DataOption = None,
    host: Annotated[
        str | None,
        typer.Option(help="Address to listen on [127.0.0.1].", envvar="MENURA_HOST"),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on, 0 for a free one [8000].", envvar="MENURA_PORT"),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Public address, for links in answers.", envvar="MENURA_BASE_URL"),
    ] = None,
    max_seconds: Annotated[
        float | None,
        typer.Option(
            help="Longest audio in seconds, 0 for no limit [300.5].", envvar="MENURA_MAX_SECONDS"
        ),
    ] = None,
    max_upload_bytes: Annotated[
        int | None,
        typer.Option(
            help="Largest upload in bytes, 0 for no limit [52428800].",
            envvar="MENURA_MAX_UPLOAD_BYTES",
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            help="Most streams that compute at once; else one for each core.",
            envvar="MENURA_CORES",
        ),
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            help="Most processes that convert; else as many as cores.", envvar="MENURA_PROCESSES"
        ),
    ] = None,
    default_tier: Annotated[
        str | None,
        typer.Option(
            help="Tier of the local account; else enterprise.", envvar="MENURA_DEFAULT_TIER"
        ),
    ] = None,
    ssl_certfile: Annotated[
        Path | None, typer.Option(help="Certificate file for https.", envvar="MENURA_SSL_CERTFILE")
    ] = None,
    ssl_keyfile: Annotated[
        Path | None,
        typer.Option(
            help="File with the private key of the certificate.", envvar="MENURA_SSL_KEYFILE"
        ),
    ] = None,
) -> None:
    """Start the server. More settings: environment variables and menura.toml."""
    settings = settings_from(
        data=data,
        host=host,
        port=port,
        base_url=base_url,
        max_seconds=max_seconds,
        max_upload_bytes=max_upload_bytes,
        cores=cores,
        processes=processes,
        default_tier=default_tier,
        ssl_certfile=ssl_certfile,
        ssl_keyfile=ssl_keyfile,
    )
    _check_certificate(settings)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    opened: list[Services] = []
    config = _configured(settings, opened.append)
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    refuse_taken(settings.host, settings.port)
    open_many_files()
    server = AnnouncingServer(config, lambda port: announce(opened[0], port))
    with suppress(KeyboardInterrupt):
        server.run()
    if not server.started:
        raise typer.Exit(1)


def _check_certificate(settings: Settings) -> None:
    """End the command if what https needs is not there."""
    for name, path in (
        ("ssl_certfile", settings.ssl_certfile),
        ("ssl_keyfile", settings.ssl_keyfile),
    ):
        if path is not None and not os.path.isfile(path):  # false where a folder is closed to us
            complain(f"{name} names {str(path)!r}, which is no file that can be read.")
            raise typer.Exit(2)
    if settings.ssl_keyfile and not settings.ssl_certfile:
        complain(f"ssl_keyfile is {str(settings.ssl_keyfile)!r}, but no ssl_certfile is given.")
        raise typer.Exit(2)


def _configured(settings: Settings, on_ready: Callable[[Services], None]) -> uvicorn.Config:
    """Return how uvicorn is to serve; end the command if the certificate cannot be used."""
    from menura.api.app import create_app  # noqa: PLC0415  keeps the other commands quick
    from menura.cli.serving import SERVING  # noqa: PLC0415  likewise

    config = uvicorn.Config(
        create_app(settings, on_ready=on_ready),
        host=settings.host,
        port=settings.port,
        ssl_certfile=settings.ssl_certfile,
        ssl_keyfile=settings.ssl_keyfile,
        # Who may call from where is told by addresses: a header is worth no more than who sends it.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        **SERVING,
    )
    try:
        # Left to run() this would read as a failure to listen: an SSLError is an OSError.
        config.load()
    except OSError as error:
        files = " with ".join(
            repr(str(path)) for path in (settings.ssl_certfile, settings.ssl_keyfile) if path
        )
        complain(f"{files} cannot be used for https: {error}.")
        raise typer.Exit(2) from None
    return config
