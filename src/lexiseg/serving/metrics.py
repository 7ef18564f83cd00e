"""Counts what the server does, for Prometheus.

Routes are templates: raw paths would grow without bound.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_1_0_0

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = CONTENT_TYPE_PLAIN_1_0_0
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
BATCHES = (1, 2, 3, 4, 6, 8, 16, 32)


class Metrics:
    """One server's own registry, since a process may hold several servers.

    cached: bytes of the embeddings that are kept; waiting: pieces of work that wait for a model; admitted: requests
        that have a place in the queue.
    """

    def __init__(
        self, *, cached: Callable[[], int], waiting: Callable[[], int], admitted: Callable[[], int] = lambda: 0
    ) -> None:
        self.registry = CollectorRegistry()
        own: Any = {"registry": self.registry}
        timed: Any = own | {"buckets": SECONDS}
        self.requests = Counter("lexiseg_requests", "Requests that were answered.", ["route", "status"], **own)
        self.seconds = Histogram("lexiseg_request_seconds", "From the header to the answer.", ["route"], **timed)
        self.rejected = Counter("lexiseg_rejected", "Requests that were refused, by problem.", ["reason"], **own)
        self.wait = Histogram("lexiseg_queue_wait_seconds", "Waiting for a model.", **timed)
        self.batches = Histogram(
            "lexiseg_batch_size", "Photographs that passed a network together.", buckets=BATCHES, **own
        )
        self.embed = Histogram("lexiseg_embed_seconds", "Embedding one batch.", ["model"], **timed)
        self.classify = Histogram("lexiseg_classify_seconds", "Answering one question.", ["model"], **timed)
        Gauge("lexiseg_cache_bytes", "Embeddings that are kept.", **own).set_function(cached)
        Gauge("lexiseg_in_progress", "Requests that have a place in the queue.", **own).set_function(admitted)
        Gauge("lexiseg_queue_depth", "Work that waits for a model.", **own).set_function(waiting)

    def text(self) -> bytes:
        return generate_latest(self.registry)
