"""The client returns what the library returns, waits for a busy server, and raises the library's errors."""

from __future__ import annotations

import asyncio
import io
import threading
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from inference.fakes import Colours, flag, predictor
from lexiseg import ImageError, Segmentation, ServiceError, SettingError, UnknownName, Vocabulary, VocabularyError
from lexiseg.serving import client as clients
from lexiseg.serving.client import AsyncClient, Client
from serving.servers import WORDS, Running, png, running


@pytest.fixture
def client(server: Running):
    with Client(server.url) as one:
        yield one


def same(one: Segmentation, other: Segmentation) -> None:
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.labels.dtype == other.labels.dtype
    assert one.vocabulary == other.vocabulary
    assert one.warnings == other.warnings
    assert one.areas() == other.areas()


def test_results_are_those_of_the_library_from_any_kind_of_image(client: Client, tmp_path: Path) -> None:
    expected = predictor().segment(flag(), WORDS)
    (tmp_path / "flag.png").write_bytes(png())
    sources = [
        tmp_path / "flag.png",
        str(tmp_path / "flag.png"),
        png(),
        io.BytesIO(png()),
        Image.fromarray(flag()),
        flag(),
    ]
    for source in sources:
        same(client.segment(source, WORDS), expected)
    found = client.segment(flag(), WORDS)
    assert (found.model, found.settings["model"]) == ("colours", "colours")
    found.overlay()  # plain colours, since the photograph stayed here


@pytest.mark.parametrize(
    "words",
    ["red, sea: blue|white", ["red", ("blue", "white")], {"red": "red", "sea": ["blue"]}, Vocabulary("red, blue")],
)
def test_words_are_given_as_everywhere(client: Client, words: object) -> None:
    expected = predictor().segment(flag(), words, background="yellow, green")
    same(client.segment(flag(), words, background="yellow, green"), expected)
    same(client.classify(client.embed(flag()), words, background=["yellow", "green"]), expected)


def test_words_come_last_and_scores_with_them(client: Client) -> None:
    seen = client.embed(flag())
    assert (seen.size, seen.model) == ((48, 64), "colours")
    for words in ("red, blue", WORDS):
        found, expected = client.classify(seen, words), predictor().segment(flag(), words)
        same(found, expected)
        assert found.scores is not None
        assert expected.scores is not None
        np.testing.assert_allclose(found.scores.astype(float), expected.scores.astype(float), atol=0.003)
    client.forget(seen)
    client.forget(seen)
    same(client.classify(seen, "red, blue"), predictor().segment(flag(), "red, blue"))  # embedded again


def test_many_photographs_go_in_several_requests_in_order(client: Client) -> None:
    pictures = [flag(12 + place, 24) for place in range(19)]
    found = client.segment_many(pictures, WORDS)
    assert [one.labels.shape for one in found] == [(12 + place, 24) for place in range(19)]
    same(found[7], predictor().segment(pictures[7], WORDS))


def test_options_reach_the_model(client: Client) -> None:
    assert client.segment(flag() // 9, WORDS, model="own").unlabelled_area == 1
    found = client.segment(flag(), "red, white", threshold=1, prompts="imagenet80", refine="none")
    assert found.unlabelled_area > 0
    assert found.settings["prompts"] == predictor(prompts="imagenet80").settings["prompts"]
    assert [model["name"] for model in client.models()["models"]] == ["colours", "own"]


def test_mistakes_are_the_librarys_errors(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="is not a photograph"):
        client.segment(b"x", WORDS)
    with pytest.raises(ImageError, match="cannot read"):
        client.segment(tmp_path / "nothing.png", WORDS)
    with pytest.raises(ImageError, match="an image cannot be this dict"):
        client.segment({}, WORDS)
    with pytest.raises(ImageError, match="is not a photograph"):
        client.segment_many([flag(), b"x"], WORDS)
    with pytest.raises(VocabularyError):
        client.segment(flag(), "red, red")
    with pytest.raises(VocabularyError, match="more than the limit of 200"):
        client.segment(flag(), [f"word {place}" for place in range(300)])
    with pytest.raises(SettingError, match="threshold"):
        client.segment(flag(), WORDS, threshold=2)
    with pytest.raises(UnknownName, match="did you mean 'colours'"):
        client.segment(flag(), WORDS, model="colour")


def test_a_server_that_is_not_there_is_one_sentence() -> None:
    with Client("http://127.0.0.1:9") as one, pytest.raises(ServiceError, match="is the server started") as raised:
        one.models()
    assert (raised.value.kind, raised.value.status) == ("unreachable", 0)


def test_the_token_is_sent_and_missed() -> None:
    token = "0123456789abcdef"
    with running(token=token) as one:
        with Client(one.url, token=token) as allowed:
            same(allowed.segment(flag(), WORDS), predictor().segment(flag(), WORDS))
        with Client(one.url) as stranger, pytest.raises(ServiceError) as raised:
            stranger.models()
        assert (raised.value.kind, raised.value.status) == ("token", 401)
        assert raised.value.request_id in str(raised.value)


def test_a_busy_server_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    with running(queue=1) as one, Client(one.url) as client:
        one.service.admitted = 100

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            one.service.admitted = 0 if len(waits) == 2 else 100

        monkeypatch.setattr(clients.time, "sleep", sleep)
        same(client.segment(flag(), WORDS), predictor().segment(flag(), WORDS))
        assert waits == [1.0, 1.5]
        one.service.admitted = 100
        monkeypatch.setattr(clients.time, "sleep", lambda seconds: None)
        with pytest.raises(ServiceError) as raised:
            client.segment(flag(), WORDS)
        assert raised.value.kind == "queue-full"


def test_the_awaited_client_does_the_same(server: Running) -> None:
    async def ask() -> None:
        async with AsyncClient(server.url) as one:
            expected = predictor().segment(flag(), WORDS)
            found = await asyncio.gather(*(one.segment(flag(), WORDS) for _ in range(5)))
            for each in found:
                same(each, expected)
            seen = await one.embed(flag())
            await one.forget(seen)
            same(await one.classify(seen, WORDS), expected)
            assert (await one.models())["default"] == "colours"
            with pytest.raises(ImageError):
                await one.segment(b"x", WORDS)
        async with AsyncClient("http://127.0.0.1:9") as nobody:
            with pytest.raises(ServiceError):
                await nobody.models()

    asyncio.run(ask())


def test_an_answer_that_is_no_problem_is_still_an_error() -> None:
    def odd(request: httpx.Request) -> httpx.Response:
        return httpx.Response(502, text="<html>a proxy</html>")

    one = Client("http://127.0.0.1:9")
    one._http = httpx.Client(transport=httpx.MockTransport(odd), base_url="http://127.0.0.1:9")
    with pytest.raises(ServiceError, match="Bad Gateway") as raised:
        one.segment(flag(), WORDS)
    assert raised.value.status == 502
    one.close()


def test_labels_of_16_bits_come_through() -> None:
    class Many(Colours):
        def embed_text(self, vocabulary, prompts, *, cache=None):
            import torch

            from inference.fakes import COLOURS
            from lexiseg.segmenter import TextClassifier

            weight = torch.tensor([COLOURS.get(word, (9, 9, 9)) for word in vocabulary.queries], dtype=torch.float32)
            return TextClassifier.of(vocabulary, weight, self.config.scale)

    words = [f"word {place}" for place in range(296)] + WORDS.split(", ")
    with running({"many": predictor(Many())}, words=400) as one, Client(one.url) as client:
        expected = predictor(Many()).segment(flag(), words)
        same(client.segment(flag(), words), expected)
        same(client.classify(client.embed(flag()), words), expected)


def test_threads_may_share_a_client(client: Client) -> None:
    expected = predictor().segment(flag(), WORDS).labels
    found: list[bool] = []

    def ask() -> None:
        found.append(bool((client.segment(flag(), WORDS).labels == expected).all()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [True] * 8
