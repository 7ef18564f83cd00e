"""Starts the page and the API: `lexiseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lexiseg.cli import common


def register(app: typer.Typer) -> None:
    epilog = common.examples(
        "lexiseg serve",
        "lexiseg serve maskclip/vit-b16 mine=runs/mine/model --port 9000",
        "lexiseg serve --host 0.0.0.0 --token-file token.txt --allow-host labels.example.org",
    )
    app.command("serve", epilog=epilog)(serve)


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME=]MODEL...", help="Models or folders; the first is the default.  [default: the embedded ones]"
        ),
    ] = None,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; beyond this machine needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 is any free one.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="File with the token to ask for; or set LEXISEG_TOKEN.")
    ] = None,
    no_token: Annotated[bool, typer.Option("--no-token", help="Let everyone in who can reach --host.")] = False,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that this server is called by; repeat for more.")
    ] = None,
    max_mb: Annotated[float, typer.Option("--max-mb", min=0.01, max=1000, help="Megabytes of a request.")] = 20,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", min=0.001, max=1000, help="Of a photograph, before it is decoded.")
    ] = 40,
    queue: Annotated[
        int, typer.Option("--queue", min=1, max=10_000, help="Requests at a time; more are refused.")
    ] = 16,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, max=3600, help="Seconds until an answer.")] = 30,
    device: common.Device = "auto",
    dtype: common.Dtype = "auto",
) -> None:
    """Serve models over HTTP, with a page at / to look with."""
    from lexiseg.serving import run
    from lexiseg.serving.limits import Limits

    limits = Limits(request_bytes=round(max_mb * 1e6), pixels=round(max_megapixels * 1e6), queue=queue, seconds=timeout)
    chosen = run.parse(models or run.MODELS)
    token = run.read_token(token_file)
    common.note(f"loading {', '.join(chosen)} ...")

    def started(address: str) -> None:
        common.note(f"lexiseg is at {address} (API: {address}/v1/openapi.json); Ctrl+C stops it")

    run.serve(
        chosen, host=host, port=port, token=token, no_token=no_token, allow_hosts=allow_host or (), limits=limits,
        device=device, dtype=dtype, started=started,
    )  # fmt: skip
