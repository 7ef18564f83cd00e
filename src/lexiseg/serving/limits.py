"""Bounds what strangers may ask of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lexiseg.errors import SettingError

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may take.

    Raises `SettingError` for a limit that is not above zero.
    """

    request_bytes: int = 20_000_000
    json_bytes: int = 256_000  # of a request without photographs
    pixels: int = 40_000_000  # of a photograph, before it is decoded
    images: int = 8  # of a request
    words: int = 200  # of a request, those of a background included
    letters: int = 100  # of a word
    queue: int = 16  # requests that are worked on or wait, before their bodies are read
    batch: int = 8  # photographs that pass a network together
    seconds: float = 30.0  # from the last byte of a request to its answer
    header_seconds: float = 10.0  # to receive the header of a request
    receive_seconds: float = 60.0  # to receive all of a request
    send_seconds: float = 60.0  # in which a client must take the next part of an answer
    connections: int = 512
    cache_bytes: int = 512_000_000  # embeddings that are kept
    cache_seconds: float = 600.0  # how long each is
    map_pixels: int = 512  # the long side of a map of scores

    def __post_init__(self) -> None:
        for field in fields(self):
            if not getattr(self, field.name) > 0:  # NaN too
                raise SettingError(f"the limit {field.name} must be above 0, got {getattr(self, field.name)}")

    @property
    def pixels_at_once(self) -> int:
        """Pixels of photographs and label maps of all requests together; more of them wait."""
        return self.images * self.pixels
