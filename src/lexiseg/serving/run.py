"""Starts the service.

It loads and warms the models, then opens the socket.

A model that loads while requests wait would stall all of them, so nothing is accepted before everything is ready.
"""

from __future__ import annotations

import contextlib
import importlib.util
import ipaddress
import logging
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lexiseg.errors import MissingDependency, SettingError

if TYPE_CHECKING:
    import socket

    import uvicorn

    from lexiseg.inference.predictor import Predictor
    from lexiseg.serving.limits import Limits
    from lexiseg.serving.service import Service

__all__ = ["MODELS", "TOKEN", "http_server", "parse", "read_token", "serve"]

MODELS = ("maskclip/mini", "student/mini", "simseg/mini")  # those that every installation has
TOKEN = "LEXISEG_TOKEN"
SHORTEST = 16  # letters of a token
NEEDED = {"fastapi": "fastapi", "uvicorn": "uvicorn", "python_multipart": "python-multipart",
          "prometheus_client": "prometheus-client"}  # fmt: skip
GRACE = 30  # seconds in which accepted requests are finished


def serve(
    models: str | os.PathLike[str] | Sequence[str] | Mapping[str, str | os.PathLike[str]] = MODELS,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    allow_hosts: Iterable[str] = (),
    no_token: bool = False,
    limits: Limits | None = None,
    device: str = "auto",
    dtype: str = "auto",
    started: Callable[[str], None] | None = None,
) -> None:
    """Serves models, a page and an API until the process is told to stop (SIGINT, SIGTERM).

    models: one or several, or a mapping of the names that requests use to models; the first is the default. No request
        can load another.
    host, port: where to listen; port 0 is any free one.
    token: what requests must bring; None is the environment's LEXISEG_TOKEN, if it is set.
    allow_hosts: further names that this server is called by.
    no_token: listen beyond this machine without a token.
    limits: what requests may take; see `Limits`.
    device, dtype: see `lexiseg.load`.
    started: called with the address when the server accepts requests.

    Raises `MissingDependency` without the extra `serve`, `SettingError` for a host beyond this machine without a token,
    and what loading the models raises.

    >>> import lexiseg
    >>> lexiseg.serve("maskclip/mini", host="0.0.0.0")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    lexiseg.errors.SettingError: host '0.0.0.0' is reached from other machines, and no token is set; ...
    """
    _check_installed()
    token = os.environ.get(TOKEN) or None if token is None else token
    _check_token(host, token, no_token=no_token)
    from lexiseg.serving.app import create_app
    from lexiseg.serving.service import Service

    with _socket(host, port) as listening, _logged():
        service = Service(_loaded(parse(models), device, dtype), limits)
        app = create_app(service, token=token, hosts=_hosts(host, token, allow_hosts))
        address = _address(host, listening.getsockname()[1])
        with contextlib.suppress(KeyboardInterrupt):
            server = http_server(app, service, lambda: started(address) if started else None)
            server.run(sockets=[listening])


def parse(models: Any) -> dict[str, str]:
    """Served name -> model: of "maskclip/mini", "cats=runs/a/model", several of them, or a mapping.

    A folder's name is its last part, so that no request and no answer holds a path.
    Raises `SettingError` for a name that is given twice or cannot be used.
    """
    if isinstance(models, Mapping):
        pairs = [(str(name), os.fspath(model)) for name, model in models.items()]
    else:
        given = [models] if isinstance(models, (str, os.PathLike)) else list(models)
        pairs = [_pair(os.fspath(one)) for one in given]
    names = [name for name, _ in pairs]
    if not pairs:
        raise SettingError("name a model to serve, for example maskclip/mini")
    for name in names:
        if names.count(name) > 1:
            raise SettingError(f"two models would be called {name!r}; name them: {name}-2=MODEL")
        if not name or len(name) > 64 or not all(letter.isalnum() or letter in "._-/+" for letter in name):
            raise SettingError(f"{name!r} is not a name for a model: use letters, digits and ._-/+, at most 64")
    return dict(pairs)


def read_token(path: str | os.PathLike[str] | None) -> str | None:
    """The token in a file, which others cannot see as they see a command's arguments; None without a file.

    Raises `SettingError`.
    """
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read the token in {path}: {error}; give a text file of the token") from error


def _pair(given: str) -> tuple[str, str]:
    name, equals, model = given.partition("=")
    if equals:
        return name, model
    folder = Path(given)
    return (folder.resolve().name if folder.is_dir() else given), given


def _check_installed() -> None:
    for module, package in NEEDED.items():
        if importlib.util.find_spec(module) is None:
            raise MissingDependency(package, "serve", "serving")


def _check_token(host: str, token: str | None, *, no_token: bool) -> None:
    if token is not None and (len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token):
        raise SettingError(
            f"the token must be {SHORTEST} or more letters without blanks, for example {secrets.token_urlsafe(24)}"
        )
    if token is None and not no_token and not _is_loopback(host):
        raise SettingError(
            f"host {host!r} is reached from other machines, and no token is set; set {TOKEN} or give a file of the "
            "token (--token-file FILE), or say --no-token if everyone may use it"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _hosts(host: str, token: str | None, allowed: Iterable[str]) -> tuple[str, ...] | None:
    """Names that requests may call the server by; None for any, where a token decides and none was named.

    Pages of others reach a server on this machine by a name that they let point to it; they do not have the token.
    """
    names = tuple(allowed)
    if token is not None and not names and not _is_loopback(host):
        return None
    return (*names, host)


@contextlib.contextmanager
def _socket(host: str, port: int) -> Iterator[socket.socket]:
    """Bound before minutes of loading; it listens only once everything is ready."""
    import socket

    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        made = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise SettingError(f"cannot use host {host!r}: {error}; give an address of this machine") from error
    with made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind(place)
        except OSError as error:
            why = error.strerror or error
            raise SettingError(f"cannot listen at {host} port {port}: {why}; choose another, port=0 for any") from error
        yield made


def _loaded(models: Mapping[str, str], device: str, dtype: str) -> dict[str, Predictor]:
    from lexiseg.encoders.text_cache import TextMemory
    from lexiseg.inference.predictor import Predictor
    from lexiseg.serving.service import warm

    found = {}
    for name, model in models.items():
        # words of strangers stay in memory: the usual cache would write them to the user's folder
        predictor = Predictor.load(model, device=device, dtype=dtype, text_cache=False)
        predictor.text_cache = TextMemory()
        warm(predictor)
        found[name] = predictor
    return found


@contextlib.contextmanager
def _logged() -> Iterator[None]:
    """Log lines of the server go to stderr; those of the library, which name words, do not."""
    library, access = logging.getLogger("lexiseg"), logging.getLogger("lexiseg.serving")
    handler = logging.StreamHandler(sys.stderr)
    levels = library.level, access.level, access.propagate
    library.setLevel(logging.ERROR)
    for noisy in ("python_multipart", "uvicorn.error"):  # a line for each malformed request
        logging.getLogger(noisy).setLevel(logging.ERROR)
    access.setLevel(logging.INFO)
    access.propagate = False
    access.addHandler(handler)
    try:
        yield
    finally:
        access.removeHandler(handler)
        library.level, access.level, access.propagate = levels


def _address(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{shown}:{port}"


def http_server(app: Any, service: Service, started: Callable[[], None]) -> uvicorn.Server:
    """What runs the application: with limits in time, without what would speak of the server or believe a proxy."""
    import uvicorn

    from lexiseg.serving.protocol import timed

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets)
            started()

        def handle_exit(self, sig: int, frame: Any) -> None:
            service.draining = True
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        http=timed(service.limits),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=15,
    )
    return Server(config)
