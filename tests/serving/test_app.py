"""Every route: what it answers, and that it is what the library answers for the same bytes."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as run_lengths
from pycocotools.coco import COCO

from inference.fakes import COLOURS, Colours, agreement, flag, predictor, truth
from lexiseg import Segmentation
from lexiseg.data import bundled
from lexiseg.segmenter import TextClassifier
from serving.servers import WORDS, Running, Waiting, in_background, kind, png, running


def labels_of(result: dict) -> np.ndarray:
    """The label map of an answer, by pycocotools."""
    labels = np.full(result["size"], result["unlabelled"]["label"], np.uint16)
    for segment in result["segments"]:
        labels[run_lengths.decode(segment["segmentation"]).astype(bool)] = segment["category_id"]
    return labels


def labels_of_library(rgb: np.ndarray | None = None) -> np.ndarray:
    return predictor().segment(png(rgb), WORDS).labels


def unpacked(text: str, dtype: str, size: list[int]) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype).reshape(size)


def oriented(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = io.BytesIO()
    image.save(content, "JPEG", exif=exif, quality=95)
    return content.getvalue()


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


PICTURES = {
    "flag": png(),
    "grey of 16 bits": saved(Image.fromarray(np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)), "PNG"),
    "palette": saved(Image.fromarray(flag()).quantize(8), "PNG"),
    "turned": oriented(Image.fromarray(flag())),
    "animation": saved(Image.fromarray(flag()), "GIF", save_all=True, append_images=[Image.new("RGB", (64, 48))]),
    "transparent": saved(Image.fromarray(np.dstack([flag(), np.eye(48, 64, dtype=np.uint8) * 255])), "PNG"),
    "a pixel": png(flag()[:1, :1]),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_labels_are_those_of_the_library_in_every_form(server: Running, picture: str) -> None:
    data = PICTURES[picture]
    expected = predictor().segment(data, WORDS, keep_image=False)
    answer = server.segment(data)
    assert answer.status_code == 200
    (result,) = answer.json()["results"]
    np.testing.assert_array_equal(labels_of(result), expected.labels)
    assert [segment["score"] for segment in result["segments"]] == pytest.approx(
        [segment["score"] for segment in expected.to_coco_rle()]
    )
    assert [row["area"] for row in result["classes"]] == pytest.approx(list(expected.areas().values()))

    (mapped,) = server.segment(data, format="map").json()["results"]
    np.testing.assert_array_equal(unpacked(mapped["labels"], mapped["dtype"], mapped["size"]), expected.labels)
    assert expected.scores is not None
    scores = unpacked(mapped["scores"], "uint8", mapped["size"])
    np.testing.assert_allclose(scores / 255, expected.scores.astype(float), atol=0.5 / 255 + 1e-6)

    picture_of_labels = np.array(Image.open(io.BytesIO(server.segment(data, format="png").content)))
    np.testing.assert_array_equal(picture_of_labels, expected.labels)


def test_an_answer_names_model_words_and_times(server: Running) -> None:
    answer = server.segment(words="red, sea: blue|white").json()
    assert answer["model"] == "colours"
    assert answer["request_id"]
    assert answer["vocabulary"] == predictor().segment(flag(), "red, sea: blue|white").vocabulary.digest
    assert set(answer["milliseconds"]) == {"queue", "embed", "classify"}
    assert all(value >= 0 for value in answer["milliseconds"].values())
    (result,) = answer["results"]
    assert [(row["name"], row["words"]) for row in result["classes"]] == [("red", ["red"]), ("sea", ["blue", "white"])]
    assert result["unlabelled"] == {"label": 255, "colour": "#707070", "area": 0.0}
    assert {segment["category"] for segment in result["segments"]} == {"red", "sea"}


def test_words_may_be_json_in_a_form(server: Running) -> None:
    for words in ('["red", ["blue", "white"]]', '{"red": "red", "sea": ["blue", "white"]}'):
        (result,) = server.segment(words=words).json()["results"]
        assert [row["words"] for row in result["classes"]] == [["red"], ["blue", "white"]]


def test_background_and_threshold_leave_pixels_unlabelled(server: Running) -> None:
    (result,) = server.segment(words="red, green", background="blue, yellow").json()["results"]
    assert result["unlabelled"]["area"] == pytest.approx((truth() > 1).mean(), abs=0.01)
    (result,) = server.segment(words="red, white", threshold="1").json()["results"]
    assert result["unlabelled"]["area"] > 0


def test_npz_and_coco_are_files_that_the_usual_readers_open(server: Running, tmp_path) -> None:
    expected = predictor().segment(png(), WORDS)
    answer = server.segment(format="npz")
    assert answer.headers["content-disposition"] == 'attachment; filename="0.npz"'
    (tmp_path / "a.npz").write_bytes(answer.content)
    loaded = Segmentation.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(loaded.labels, expected.labels)
    np.testing.assert_array_equal(loaded.scores, expected.scores)
    assert loaded.vocabulary == expected.vocabulary
    (tmp_path / "a.json").write_bytes(server.segment(format="coco").content)
    data_set = COCO(str(tmp_path / "a.json"))
    assert data_set.imgs[1]["file_name"] == "0.png"
    for annotation in data_set.anns.values():
        mask = data_set.annToMask(annotation).astype(bool)
        np.testing.assert_array_equal(mask, expected.labels == annotation["category_id"])


def test_the_overlay_is_the_one_of_the_library(server: Running) -> None:
    rgb = np.kron(flag(), np.ones((4, 4, 1), np.uint8))
    drawn = np.array(Image.open(io.BytesIO(server.segment(png(rgb), format="overlay").content)))
    np.testing.assert_array_equal(drawn, np.array(predictor().segment(rgb, WORDS).overlay()))


def test_300_classes_have_labels_of_16_bits() -> None:
    class Many(Colours):
        def embed_text(self, vocabulary, prompts, *, cache=None):
            weight = torch.tensor([COLOURS.get(word, (9, 9, 9)) for word in vocabulary.queries], dtype=torch.float32)
            return TextClassifier.of(vocabulary, weight, self.config.scale)

    words = [f"word {number}" for number in range(296)] + WORDS.split(", ")
    with running({"many": predictor(Many())}, words=400) as one:
        for form in ("map", "png"):
            answer = one.segment(words=json.dumps(words), format=form)
            if form == "map":
                (result,) = answer.json()["results"]
                assert result["dtype"] == "uint16"
                labels = unpacked(result["labels"], "<u2", result["size"])
            else:
                labels = np.array(Image.open(io.BytesIO(answer.content)))
            np.testing.assert_array_equal(labels, labels_of_library().astype(int) + 296)


def test_one_photograph_of_several_that_fails_leaves_the_others(server: Running) -> None:
    answer = server.segment(png(), b"no photograph", png(flag()[:, ::-1].copy()))
    assert answer.status_code == 200
    first, second, third = answer.json()["results"]
    assert second["name"] == "1.png"
    assert second["problem"]["type"].endswith(":image")
    np.testing.assert_array_equal(labels_of(first), labels_of_library())
    np.testing.assert_array_equal(labels_of(third), labels_of_library(flag()[:, ::-1].copy()))


def test_where_all_photographs_fail_the_first_problem_is_the_answer(server: Running) -> None:
    answer = server.segment(b"one", b"two")
    assert (answer.status_code, kind(answer)) == (422, "image")
    assert "0.png" in answer.json()["detail"]


def test_words_come_last(server: Running) -> None:
    seen = server.embed().json()
    assert len(seen["id"]) == 32
    assert (seen["model"], seen["size"], seen["expires_in"]) == ("colours", [48, 64], 600)
    for words in ("red, blue", WORDS):
        answer = server.http.post("/v1/classify", json={"id": seen["id"], "words": words})
        (result,) = answer.json()["results"]
        np.testing.assert_array_equal(labels_of(result), predictor().segment(png(), words).labels)
    assert result["name"] == "flag.png"
    body = {"id": seen["id"], "words": ["red", ["blue", "white"]], "background": ["green"], "threshold": 0.5}
    (result,) = server.http.post("/v1/classify", json=body | {"format": "map"}).json()["results"]
    expected = predictor().segment(png(), ["red", ("blue", "white")], background=["green"], threshold=0.5)
    np.testing.assert_array_equal(unpacked(result["labels"], "uint8", result["size"]), expected.labels)
    for form in ("png", "npz", "coco"):
        answer = server.http.post("/v1/classify", json=body | {"format": form, "name": "my flag.jpg"})
        assert answer.status_code == 200
        assert "my flag." in answer.headers["content-disposition"]


def test_the_id_of_an_embedding_says_nothing_of_the_photograph(server: Running) -> None:
    assert server.embed().json()["id"] != server.embed().json()["id"]


def test_an_embedding_can_be_forgotten(server: Running) -> None:
    key = server.embed().json()["id"]
    for _ in range(2):
        assert server.http.delete(f"/v1/embed/{key}").status_code == 204
    answer = server.http.post("/v1/classify", json={"id": key, "words": "red"})
    assert (answer.status_code, kind(answer)) == (404, "unknown-embedding")


def test_a_map_of_scores_is_the_posterior_of_one_class(server: Running) -> None:
    key = server.embed().json()["id"]
    body = {"id": key, "words": WORDS}
    total = np.zeros((48, 64))
    for name in WORDS.split(", "):
        answer = server.http.post("/v1/scores", json=body | {"name": name}).json()
        assert (answer["name"], answer["grid"]) == (name, [48, 64])
        scores = unpacked(answer["scores"], "uint8", answer["grid"]) / 255
        assert answer["highest"] == pytest.approx(scores.max(), abs=0.003)
        total += scores
    np.testing.assert_allclose(total, 1, atol=0.01)
    answer = server.http.post("/v1/scores", json=body | {"name": "purple"})
    assert (answer.status_code, kind(answer)) == (422, "setting")


def test_a_map_of_scores_is_no_larger_than_the_limit() -> None:
    with running(map_pixels=16) as one:
        key = one.embed().json()["id"]
        answer = one.http.post("/v1/scores", json={"id": key, "words": WORDS, "name": "red"}).json()
        assert answer["grid"] == [12, 16]
        scores = unpacked(answer["scores"], "uint8", answer["grid"]) / 255
        model = predictor()
        expected = model.ask(WORDS).posterior(model.embed(png()), "red", long_side=16)
        np.testing.assert_allclose(scores, expected.astype(float), atol=0.5 / 255 + 1e-6)


def test_refiners_are_chosen_by_request(server: Running) -> None:
    photograph = bundled.photograph("chelsea.png").read_bytes()
    plain, same, refined = (
        server.segment(photograph, words="red, white, black, yellow", **fields).json()
        for fields in ({}, {"refine": "none"}, {"refine": "pamr"})
    )
    assert plain["results"][0]["segments"] == same["results"][0]["segments"]
    assert plain["results"][0]["segments"] != refined["results"][0]["segments"]
    assert (plain["settings"]["inference"]["refine"], refined["settings"]["inference"]["refine"]) == (None, "pamr")
    expected = predictor(refine="pamr").segment(photograph, "red, white, black, yellow", keep_image=False)
    np.testing.assert_array_equal(labels_of(refined["results"][0]), expected.labels)


def test_prompts_are_chosen_by_request(server: Running) -> None:
    own, other = (server.segment(**fields).json()["settings"]["prompts"] for fields in ({}, {"prompts": "imagenet80"}))
    assert own != other
    assert other == predictor(prompts="imagenet80").settings["prompts"]


def test_models_are_listed_with_the_limits(server: Running) -> None:
    content = server.http.get("/v1/models").json()
    assert [model["name"] for model in content["models"]] == ["colours", "own"]
    assert [model["own_background"] for model in content["models"]] == [False, True]
    assert content["default"] == "colours"
    assert content["refine"] == ["none", "crf", "pamr"]
    assert "imagenet80" in content["prompts"]
    assert content["limits"]["request_bytes"] == 20_000_000


def test_the_model_is_chosen_by_request(server: Running) -> None:
    answer = server.segment(png(flag() // 9), model="own").json()
    assert answer["model"] == "own"
    assert answer["results"][0]["unlabelled"]["area"] == 1
    answer = server.segment(model="own", threshold="0.5")
    assert (answer.status_code, kind(answer)) == (422, "setting")


PROBLEMS = {
    "no words": ({"data": {}}, 422, "invalid"),
    "blank words": ({"data": {"words": " "}}, 422, "invalid"),
    "words that cannot be used": ({"data": {"words": "red, red"}}, 422, "words"),
    "words that are a file": ({"data": {"words": "classes.txt"}}, 422, "words"),
    "broken JSON": ({"data": {"words": '["red"'}}, 422, "invalid"),
    "JSON of something else": ({"data": {"words": "[[[[1]]]]"}}, 422, "invalid"),
    "an unknown model": ({"data": {"words": "red", "model": "maskclip/mini"}}, 404, "unknown-model"),
    "an unknown field": ({"data": {"words": "red", "weights": "x"}}, 422, "invalid"),
    "an unknown format": ({"data": {"words": "red", "format": "pickle"}}, 422, "invalid"),
    "a field given twice": ({"data": {"words": ["red", "blue"]}}, 422, "invalid"),
    "a threshold that is none": ({"data": {"words": "red", "threshold": "nan"}}, 422, "invalid"),
    "a threshold of words": ({"data": {"words": "red", "threshold": "much"}}, 422, "invalid"),
    "a photograph that is none": ({"data": {"words": "red"}, "files": {"image": b"x"}}, 422, "image"),
    "no photograph": ({"data": {"words": "red"}, "files": {"image": (None, "x")}}, 422, "invalid"),
    "a photograph in another field": ({"data": {"words": "red"}, "files": {"photo": b"x"}}, 422, "invalid"),
    "no form": ({"content": b"x"}, 415, "media-type"),
    "no boundary": ({"content": b"x", "headers": {"content-type": "multipart/form-data"}}, 400, "malformed"),
    "a broken form": (
        {"content": b"x" * 99, "headers": {"content-type": "multipart/form-data; boundary=a"}}, 400, "malformed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PROBLEMS)
def test_every_mistake_in_a_form_is_a_problem_that_says_what_it_is(server: Running, case: str) -> None:
    request, status, expected = PROBLEMS[case]
    given = {"files": {"image": ("flag.png", png())}} if "data" in request else {}
    answer = server.http.post("/v1/segment", **(given | request))
    assert (answer.status_code, kind(answer)) == (status, expected)


BODIES = {
    "no JSON": ({"content": b"{"}, 400, "malformed"),
    "deep JSON": ({"content": b"[" * 100_000}, 400, "malformed"),
    "a list": ({"content": b"[]"}, 422, "invalid"),
    "nothing": ({"content": b"{}"}, 422, "invalid"),
    "text that is no Unicode": ({"content": b'{"id": "\xff"}'}, 400, "malformed"),
    "half a letter": ({"content": rb'{"id": "a", "words": "\ud800"}'}, 400, "malformed"),
    "a number as text": ({"json": {"id": "a", "words": "red", "threshold": "0.5"}}, 422, "invalid"),
    "a threshold above 1": ({"json": {"id": "a", "words": "red", "threshold": 2}}, 422, "invalid"),
    "an unknown key": ({"json": {"id": "a", "words": "red", "templates": "x"}}, 422, "invalid"),
    "an unknown id": ({"json": {"id": "a", "words": "red"}}, 404, "unknown-embedding"),
    "words that cannot be used": ({"json": {"id": "a", "words": []}}, 422, "words"),
    "another type": ({"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "media-type"),
    "too much": ({"json": {"id": "a", "words": "x" * 300_000}}, 413, "too-large"),
}


@pytest.mark.parametrize("case", BODIES)
def test_every_mistake_in_json_is_a_problem_that_says_what_it_is(server: Running, case: str) -> None:
    request, status, expected = BODIES[case]
    answer = server.http.post("/v1/classify", **({"headers": {"content-type": "application/json"}} | request))
    assert (answer.status_code, kind(answer)) == (status, expected)
    if status == 422 and expected == "invalid":
        assert all(set(error) == {"at", "why"} for error in answer.json()["errors"])


OTHERS = [
    ("GET", "/v2", 404),
    ("GET", "/v1/segment", 405),
    ("POST", "/", 405),
    ("GET", "/static/nothing.js", 404),
    ("GET", "/static/../app.py", 404),
    ("GET", "/static/%2e%2e/app.py", 404),
    ("GET", "//etc/passwd", 404),
]


@pytest.mark.parametrize(("method", "path", "status"), OTHERS)
def test_other_paths_and_methods_are_problems(server: Running, method: str, path: str, status: int) -> None:
    answer = server.http.request(method, path)
    assert answer.status_code == status
    assert kind(answer) in ("not-found", "method")


def test_alive_and_ready_until_it_drains() -> None:
    with running() as one:
        assert one.http.get("/health").json() == {"status": "ok"}
        assert one.http.get("/ready").json() == {"status": "ready"}
        one.service.draining = True
        assert one.http.get("/health").status_code == 200
        answer = one.http.get("/ready")
        assert (answer.status_code, kind(answer)) == (503, "draining")
        answer = one.segment()
        assert (answer.status_code, kind(answer)) == (503, "draining")


def test_an_answer_that_is_late_is_a_problem_and_its_work_is_not_done() -> None:
    slow = Waiting()
    with running({"slow": predictor(slow)}, seconds=0.3) as one, in_background(one.segment) as first:
        assert slow.entered.wait(10)
        answer = one.segment()
        assert (answer.status_code, kind(answer)) == (504, "timeout")
        slow.go.set()
    assert first[0].status_code == 504
    assert len(slow.batches) == 1


def test_what_a_client_that_leaves_has_asked_is_not_worked_on() -> None:
    slow = Waiting()
    with running({"slow": predictor(slow)}) as one, in_background(one.segment) as first:
        assert slow.entered.wait(10)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{one.url}/v1/segment", files={"image": png()}, data={"words": WORDS}, timeout=0.3)
        asyncio.run(until(lambda: one.service.admitted == 1))
        slow.go.set()
    assert first[0].status_code == 200
    assert len(slow.batches) == 1


async def until(true) -> None:
    for _ in range(500):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become true")


def test_answers_never_mix() -> None:
    """40 requests at once, two photographs: each gets its own labels, batched or not."""
    mirrored = flag()[:, ::-1].copy()
    expected = [labels_of_library(), labels_of_library(mirrored)]
    assert agreement(expected[0], truth()) > 0.95
    assert agreement(*expected) < 0.5
    with running(queue=64) as one:
        gate = threading.Barrier(8)

        def ask(place: int) -> bool:
            if place < 8:
                gate.wait()
            answer = one.segment(png(mirrored if place % 2 else None))
            return bool((labels_of(answer.json()["results"][0]) == expected[place % 2]).all())

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(40)))
        assert one.service.predictors["colours"].segmenter.batches
        assert one.service.admitted == 0


def test_metrics_have_templates_of_routes_and_no_raw_paths(server: Running) -> None:
    server.segment()
    for number in range(3):
        server.http.get(f"/nothing/{number}")
        server.http.delete(f"/v1/embed/{number}")
    text = server.http.get("/metrics").text
    assert 'lexiseg_requests_total{route="/v1/segment",status="200"}' in text
    assert 'route="/v1/embed/{id}"' in text
    assert 'route="other"' in text
    assert "/nothing" not in text
    for name in ("request_seconds", "queue_wait_seconds", "batch_size", "embed_seconds", "classify_seconds",
                 "cache_bytes", "queue_depth", "rejected"):  # fmt: skip
        assert f"lexiseg_{name}" in text


def test_the_description_is_openapi_and_names_every_route(server: Running) -> None:
    described = server.http.get("/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    assert set(described["paths"]) == {
        "/v1/segment", "/v1/embed", "/v1/embed/{id}", "/v1/classify", "/v1/scores", "/v1/models",
        "/health", "/ready", "/metrics",
    }  # fmt: skip
    text = json.dumps(described)
    references = {part.partition('"')[0] for part in text.split('"#/components/schemas/')[1:]}
    assert references <= set(described["components"]["schemas"])
    form = described["paths"]["/v1/segment"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["model"]["enum"] == ["colours", "own"]
