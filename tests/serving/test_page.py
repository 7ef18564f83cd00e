"""The page in a real browser: what a visitor does, on a desk and on a phone, by mouse and by keyboard.

Needs playwright and Debian's chromium (docs/serving.md, "Test the page"); without them it is skipped and says so.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inference.fakes import COLOURS, Colours, flag, predictor
from lexiseg.segmenter import TextClassifier
from serving.servers import Running, png, running

CHROMIUM = next((found for name in ("chromium", "chromium-headless-shell") if (found := shutil.which(name))), None)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
           "--disable-component-update", "--disable-sync"]  # fmt: skip

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:
    sync_playwright = None  # type: ignore[assignment]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed: pip install playwright"),
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]

LARGE = np.kron(flag(), np.ones((8, 8, 1), np.uint8))  # 384 x 512


class Named(Colours):
    """Has a colour for every word, however odd, and a shade of its own."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.gain.data *= gain

    def embed_text(self, vocabulary, prompts, *, cache=None):
        odd = [[byte / 255 for byte in hashlib.sha256(word.encode()).digest()[:3]] for word in vocabulary.queries]
        weight = [COLOURS.get(word, shade) for word, shade in zip(vocabulary.queries, odd, strict=True)]
        return TextClassifier.of(vocabulary, torch.tensor(weight, dtype=torch.float32), self.config.scale)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield found
        found.close()


@pytest.fixture(scope="module")
def shown() -> Iterator[Running]:
    with running({"colours": predictor(Named()), "dark": predictor(Named(0.5))}) as one:
        yield one


class Visit:
    """A page of its own, with everything that it asked for and complained of."""

    def __init__(self, browser: Browser, server: Running, **options: Any) -> None:
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 800}} | options))
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.server = server
        self.page.on("request", lambda request: self.requests.append(f"{request.method} {request.url}"))
        self.page.on("console", lambda message: self._complain(message.type, message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _complain(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.complaints.append(text)

    def open(self, words: str = "red, green, blue, yellow", more: str = "") -> Page:
        self.page.goto(f"{self.server.url}/#words={words}{more}")
        self.ready(words)
        return self.page

    def ready(self, words: str | None = None) -> None:
        wanted = "" if words is None else f"='{re.sub(', *', ',', words)}'"
        self.page.wait_for_selector(f"body[data-ready{wanted}]", timeout=20_000)

    def upload(self, rgb: np.ndarray = LARGE, name: str = "flag.png") -> None:
        self.page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": png(rgb)})
        self.page.wait_for_selector(f"#pane-a canvas[aria-label^='{name}']")
        self.ready()

    def asked(self, path: str) -> int:
        return sum(path in request for request in self.requests)

    def pixels(self, pane: str = "pane-a") -> np.ndarray:
        data = self.page.locator(f"#{pane} canvas").screenshot()
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)

    def point(self, x: float, y: float, pane: str = "pane-a") -> str:
        box = self.page.locator(f"#{pane} canvas").bounding_box()
        assert box is not None
        self.page.mouse.move(box["x"] + x * box["width"], box["y"] + y * box["height"])
        return self.page.locator("#tip").inner_text()


@pytest.fixture
def visit(browser: Browser, shown: Running, request: pytest.FixtureRequest) -> Iterator[Visit]:
    one = Visit(browser, shown, **getattr(request, "param", {}))
    yield one
    here = (shown.url, f"blob:{shown.url}", "data:")
    assert [each for each in one.requests if not each.partition(" ")[2].startswith(here)] == []
    assert one.complaints == []
    one.context.close()


def test_a_newcomer_sees_a_labelled_photograph_without_doing_anything(visit: Visit) -> None:
    visit.page.goto(visit.server.url)
    visit.ready()
    assert visit.page.locator("#chips li .name").all_inner_texts()[0] == "motorcycle"
    assert visit.page.locator("#samples button[aria-pressed=true]").count() == 1
    assert visit.pixels().std() > 10


def test_a_photograph_that_is_dropped_is_labelled_and_read_at_the_pointer(visit: Visit) -> None:
    visit.open()
    visit.upload()
    assert visit.point(0.1, 0.5).startswith("red")
    assert visit.point(0.5, 0.2).startswith("green")
    assert visit.point(0.5, 0.8).startswith("yellow")
    assert re.fullmatch(r"blue\s+100 %", visit.point(0.9, 0.5))
    assert visit.page.locator("#reading").inner_text().startswith("blue")
    shares = dict(zip(visit.page.locator("#chips .name").all_inner_texts(),
                      visit.page.locator("#chips .area").all_inner_texts(), strict=True))  # fmt: skip
    assert shares == {"red": "33 %", "green": "16 %", "blue": "34 %", "yellow": "16 %"}
    visit.page.mouse.move(2, 2)
    assert not visit.page.locator("#tip").is_visible()


def test_a_file_dropped_on_the_page_is_taken(visit: Visit) -> None:
    visit.open()
    script = """async ([bytes]) => {
      const moved = new DataTransfer();
      moved.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
      const event = (kind) => new DragEvent(kind, {dataTransfer: moved, bubbles: true, cancelable: true});
      document.body.dispatchEvent(event("dragenter"));
      document.body.dispatchEvent(event("drop"));
    }"""
    visit.page.evaluate(script, [list(png(LARGE))])
    visit.page.wait_for_selector("#pane-a canvas[aria-label^='dropped.png']")
    assert not visit.page.locator(".drop").is_visible()


def test_the_slider_lets_the_photograph_through(visit: Visit) -> None:
    visit.open()
    visit.upload()
    visit.page.fill("#opacity", "0")
    visit.page.wait_for_timeout(100)
    bare = visit.pixels()
    height, width = bare.shape[:2]
    assert np.abs(bare[height // 2, width // 8] - [255, 0, 0]).max() < 8
    visit.page.fill("#opacity", "100")
    visit.page.wait_for_timeout(100)
    covered = visit.pixels()
    assert np.abs(covered[height // 2, width // 8] - bare[height // 2, width // 8]).max() > 20


def test_words_are_edited_without_looking_at_the_photograph_again(visit: Visit) -> None:
    page = visit.open("red, green")
    visit.upload()
    embeds = visit.asked("POST " + visit.server.url + "/v1/embed")
    page.fill("#words", "blue|white,")
    visit.ready("red,green,blue")
    page.fill("#words", "sun: yellow")
    page.press("#words", "Enter")
    visit.ready("red,green,blue,sun")
    assert visit.point(0.5, 0.8).startswith("sun")
    page.get_by_role("button", name="Remove green").click()
    visit.ready("red,blue,sun")
    page.fill("#words", "RED, red , sun")  # they are there already
    page.press("#words", "Enter")
    visit.ready("red,blue,sun")
    page.press("#words", "Backspace")
    visit.ready("red,blue")
    assert visit.asked("POST " + visit.server.url + "/v1/embed") == embeds
    assert "words=red" in page.url
    page.press("#words", "Backspace")
    page.press("#words", "Backspace")
    page.wait_for_selector("#chips:empty", state="attached")
    assert "Type a word" in page.locator("#status").inner_text()


def test_a_word_that_is_pressed_shows_its_score_map(visit: Visit) -> None:
    page = visit.open()
    visit.upload()
    before = visit.pixels()
    word = page.locator("#chips li[data-word=blue] .word")
    word.click()
    page.wait_for_selector("body[data-heat=blue]")
    page.mouse.move(2, 2)
    page.wait_for_timeout(150)
    heat = visit.pixels()
    height, width = heat.shape[:2]
    assert heat[height // 2, -width // 8].sum() > heat[height // 2, width // 8].sum() + 100
    assert word.get_attribute("aria-pressed") == "true"
    assert re.fullmatch(r"blue\s+0 %", visit.point(0.1, 0.5))
    word.click()
    page.wait_for_selector("body:not([data-heat])")
    page.mouse.move(2, 2)
    page.locator("h1").click()
    page.wait_for_timeout(150)
    assert np.abs(visit.pixels() - before).mean() < 2


def test_pointing_at_a_word_shows_where_it_is(visit: Visit) -> None:
    page = visit.open()
    visit.upload()
    before = visit.pixels()
    page.locator("#chips li[data-word=blue]").hover()
    page.wait_for_timeout(150)
    change = np.abs(visit.pixels() - before).sum(2)
    height, width = change.shape
    assert change[height // 2, width // 8] > 30  # dimmed
    assert change[height // 2, -width // 8] < 10


def test_two_models_are_compared_side_by_side(visit: Visit) -> None:
    page = visit.open("white, black")
    visit.upload(np.full((64, 96, 3), 160, np.uint8))
    assert not page.locator("#pane-b").is_visible()
    page.select_option("#compare", "dark")
    page.wait_for_selector("#pane-b:not([hidden])")
    visit.ready()
    assert page.locator("figcaption").all_inner_texts() == ["colours", "dark"]
    left, right = (page.locator(f"#{pane} canvas").bounding_box() for pane in ("pane-a", "pane-b"))
    assert left["x"] + left["width"] <= right["x"] + 1
    assert abs(left["y"] - right["y"]) < 2
    visit.point(0.5, 0.5)
    assert re.fullmatch(r"white .* \| +black .*", page.locator("#reading").inner_text())
    assert page.locator("#chips li[data-word=white] .area").inner_text() == "100 % · 0 %"
    page.select_option("#compare", "")
    page.wait_for_selector("#pane-b", state="hidden")


def test_options_change_the_answer(visit: Visit) -> None:
    page = visit.open("red, green")
    visit.upload(flag(96, 128))  # refining takes its time
    page.locator("#more summary").click()
    page.check("#rest")
    page.fill("#background", "blue, yellow")
    page.press("#background", "Enter")
    page.wait_for_selector("#chips li.quiet")
    assert visit.point(0.9, 0.5).startswith("unlabelled")
    page.uncheck("#rest")
    page.wait_for_selector("#chips li.quiet", state="detached")
    page.fill("#threshold", "100")
    page.wait_for_selector("#chips li.quiet")
    assert page.locator("#threshold-value").inner_text() == "100 %"
    page.select_option("#refine", "pamr")
    visit.ready()
    page.select_option("#prompts", "imagenet80")
    visit.ready()
    bodies = []
    page.on("request", lambda request: bodies.append(request.post_data or ""))
    page.fill("#threshold", "50")
    visit.ready()
    page.wait_for_timeout(400)
    visit.ready()
    sent = json.loads(next(body for body in bodies if body.startswith("{")))
    assert {key: sent[key] for key in ("words", "threshold", "refine", "prompts", "format")} == {
        "words": "red, green", "threshold": 0.5, "refine": "pamr", "prompts": "imagenet80", "format": "map",
    }  # fmt: skip


def test_downloads_are_what_the_api_answers(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    visit.upload()
    expected = predictor(Named()).segment(png(LARGE), "red, green, blue, yellow")
    found = {}
    for kind in ("png", "overlay", "coco"):
        with page.expect_download() as downloading:
            page.locator(f"[data-file={kind}]").click()
        found[kind] = downloading.value
        found[kind].save_as(tmp_path / found[kind].suggested_filename)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flag.coco.json", "flag.overlay.png", "flag.png"]
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "flag.png")), expected.labels)
    drawn = np.array(Image.open(tmp_path / "flag.overlay.png"))
    np.testing.assert_array_equal(drawn, np.array(expected.overlay()))
    data_set = json.loads((tmp_path / "flag.coco.json").read_text())
    assert [one["file_name"] for one in data_set["images"]] == ["flag.png"]
    assert len(data_set["annotations"]) == 4


def test_the_command_that_is_copied_gives_the_same(visit: Visit) -> None:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page = visit.open("red, blue")
    page.press("#words", "Backspace")
    visit.ready("red")
    page.fill("#words", "sea: blue|white,")
    visit.ready("red,sea")
    visit.upload(name="my flag.png")
    page.locator("#more summary").click()
    page.fill("#threshold", "30")
    visit.ready()
    page.locator("#command").click()
    page.wait_for_selector("#command-line")
    line = page.evaluate("navigator.clipboard.readText()")
    assert page.locator("#command-line").inner_text() == line
    assert shlex.split(line) == [
        *("lexiseg", "segment", "my flag.png", "--words", "red, sea: blue|white"),
        *("--model", "colours", "--threshold", "0.3"),
    ]


def test_a_link_brings_words_and_models_back(visit: Visit) -> None:
    page = visit.open("red, blue", "&model=dark&compare=colours&photograph=chelsea.png")
    assert page.locator("#model").input_value() == "dark"
    assert page.locator("#compare").input_value() == "colours"
    assert page.locator("#samples button[aria-pressed=true]").get_attribute("data-name") == "chelsea.png"


def test_words_are_text_and_never_markup(visit: Visit) -> None:
    word = "<img src=x onerror=alert(1)>"
    page = visit.open("red")
    page.fill("#words", word)
    page.press("#words", "Enter")
    visit.ready(f"red,{word}")
    assert page.locator("#chips li .name").all_inner_texts() == ["red", word]
    assert page.locator("#chips img").count() == 0


@pytest.mark.parametrize(
    "visit", [{}, {"viewport": {"width": 360, "height": 780}}], indirect=True, ids=["desk", "phone"]
)
def test_a_long_phrase_stays_inside_its_column(visit: Visit) -> None:
    page = visit.open("red")
    page.fill("#words", "a very long phrase about something that nobody would ever ask for in a photograph")
    page.press("#words", "Enter")
    page.wait_for_selector("body[data-ready*=phrase]")
    assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth")
    panel = page.locator(".panel").bounding_box()
    for part in page.locator(".panel li, .panel .add, .panel .choices").all():
        box = part.bounding_box()
        assert box is None or box["x"] + box["width"] <= panel["x"] + panel["width"] + 1


def test_everything_is_done_with_the_keyboard(visit: Visit) -> None:
    page = visit.open("red, green")
    visit.upload()
    page.locator("#words").focus()
    page.keyboard.type("blue")
    page.keyboard.press("Enter")
    visit.ready("red,green,blue")
    assert page.evaluate("document.activeElement.id") == "words"
    page.locator("#chips li[data-word=red] .word").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("body[data-heat=red]")
    assert page.evaluate("document.activeElement.closest('li').dataset.word") == "red"
    page.keyboard.press("Enter")
    page.wait_for_selector("body:not([data-heat])")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # removes red
    visit.ready("green,blue")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Remove green"
    page.locator("#pane-a canvas").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#reading").inner_text().startswith("green")
    for _ in range(4):
        page.keyboard.press("Shift+ArrowRight")
    assert page.locator("#reading").inner_text().startswith("blue")
    page.keyboard.press("Escape")
    assert page.locator("#reading").inner_text() == ""


def test_everything_that_can_be_used_has_a_name(visit: Visit) -> None:
    page = visit.open()
    page.locator("#more summary").click()
    kinds = ("button", "input", "select", "canvas", "summary")
    for control in page.locator(", ".join(f"{kind}:visible" for kind in kinds)).all():
        named = control.evaluate(
            "one => one.getAttribute('aria-label') || one.labels?.[0]?.textContent || one.textContent "
            "|| one.querySelector('img')?.alt"
        )
        assert named, control.evaluate("one => one.outerHTML")
    assert page.locator("[role=status]").count() == 1
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("h1").count() == 1


def contrast(one: list[float], other: list[float]) -> float:
    """Of two sRGB colours, by WCAG 2."""

    def light(colour: list[float]) -> float:
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in colour)
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(
    "visit", [{"color_scheme": "light"}, {"color_scheme": "dark"}], indirect=True, ids=["light", "dark"]
)
def test_text_stands_out_from_its_ground(visit: Visit) -> None:
    page = visit.open()
    script = """() => [...document.querySelectorAll("h1, h2, p, button, label, .name, .area, a, summary, select")]
      .filter((one) => one.offsetParent && one.textContent.trim())
      .map((one) => {
        let under = one;
        const clear = (each) => /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(each).backgroundColor);
        while (under && clear(under)) under = under.parentElement;
        const ground = getComputedStyle(under ?? document.body).backgroundColor;
        return [one.tagName, getComputedStyle(one).color, ground];
      })"""
    found = page.evaluate(script)
    assert len(found) > 20
    for tag, colour, ground in found:
        ink, paper = ([float(n) for n in re.findall(r"[\d.]+", text)][:3] for text in (colour, ground))
        assert contrast(ink, paper) >= 4.5, (tag, colour, ground)


PHONES = [{"viewport": {"width": width, "height": 780}, "has_touch": True, "is_mobile": True} for width in (360, 390)]


@pytest.mark.parametrize("visit", PHONES, indirect=True, ids=["360", "390"])
def test_a_phone_shows_the_picture_first_and_nothing_beside_the_screen(visit: Visit) -> None:
    page = visit.open()
    visit.upload()
    page.locator("#more summary").click()
    page.select_option("#compare", "dark")
    visit.ready()
    assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth")
    picture, words, photos = (page.locator(one).bounding_box() for one in ("#panes", "#chips", "#samples"))
    assert picture["y"] < photos["y"] < words["y"]
    assert picture["y"] < 120
    first, second = (page.locator(f"#{pane} canvas").bounding_box() for pane in ("pane-a", "pane-b"))
    assert second["y"] >= first["y"] + first["height"] - 1  # one under the other
    for target in page.locator("button:visible, select:visible, summary:visible").all():
        box = target.bounding_box()
        assert box["height"] >= 40, target.evaluate("one => one.outerHTML")
        assert box["width"] >= 36, target.evaluate("one => one.outerHTML")
    page.locator("#pane-a canvas").tap(position={"x": 20, "y": 50})
    assert page.locator("#reading").inner_text().startswith("red")


def test_a_large_photograph_is_sent_smaller(visit: Visit) -> None:
    page = visit.open()
    wide = np.zeros((500, 3000, 3), np.uint8)
    wide[:, 1500:] = [255, 0, 0]
    visit.upload(wide, "wide.png")
    assert page.evaluate("document.querySelector('#pane-a canvas').width") == 2048
    assert visit.point(0.9, 0.5).startswith("red")
    page.locator("#more summary").click()
    page.check("#full")
    visit.upload(wide, "full.png")
    assert page.evaluate("document.querySelector('#pane-a canvas').width") == 3000


def test_a_turned_photograph_is_shown_as_the_server_sees_it(visit: Visit) -> None:
    visit.open()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it to the right
    content = io.BytesIO()
    Image.fromarray(LARGE).save(content, "JPEG", exif=exif, quality=95)
    visit.page.set_input_files("#file", {"name": "turned.jpg", "mimeType": "image/jpeg", "buffer": content.getvalue()})
    visit.page.wait_for_selector("#pane-a canvas[aria-label^='turned.jpg']")
    visit.ready()
    assert visit.point(0.5, 0.05).startswith("red")
    assert visit.point(0.5, 0.95).startswith("blue")


# what goes wrong; the browser itself complains of answers above 399


def complaints_but(visit: Visit, expected: str) -> None:
    visit.complaints = [text for text in visit.complaints if not re.search(expected, text)]


def test_a_file_that_is_no_photograph_is_said(visit: Visit) -> None:
    page = visit.open()
    page.set_input_files("#file", {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"hello"})
    page.wait_for_selector("#problem:not([hidden])")
    assert "cannot open notes.txt" in page.locator("#problem p").inner_text()
    visit.upload()
    assert not page.locator("#problem").is_visible()


def test_words_that_cannot_be_used_are_said(visit: Visit) -> None:
    page = visit.open("red")
    page.fill("#words", "sea: red")
    page.press("#words", "Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "'red'" in page.locator("#problem p").inner_text()
    page.get_by_role("button", name="Remove sea").click()
    visit.ready("red")
    assert not page.locator("#problem").is_visible()
    complaints_but(visit, "422")


def test_an_embedding_that_has_expired_is_made_again_without_a_word(visit: Visit) -> None:
    page = visit.open("red, green")
    visit.upload()
    visit.server.service.embeddings.clear()
    page.fill("#words", "blue,")
    visit.ready("red,green,blue")
    assert not page.locator("#problem").is_visible()
    visit.server.service.embeddings.clear()
    page.locator("#chips li[data-word=blue] .word").click()
    page.wait_for_selector("body[data-heat=blue]")
    complaints_but(visit, "404")


def test_a_full_queue_is_waited_for(visit: Visit) -> None:
    page = visit.open("red, green")
    visit.server.service.admitted += 16
    page.fill("#words", "blue,")
    page.get_by_text("asking again in").wait_for()
    visit.server.service.admitted -= 16
    visit.ready("red,green,blue")
    complaints_but(visit, "503")


def test_a_server_that_is_gone_and_comes_back_is_noticed(visit: Visit) -> None:
    page = visit.open("red, green")
    page.route("**/v1/**", lambda route: route.abort())
    page.fill("#words", "blue,")
    page.wait_for_selector("#problem:not([hidden])")
    assert "does not answer" in page.locator("#problem p").inner_text()
    page.unroute("**/v1/**")
    page.locator("#again").click()
    visit.ready("red,green,blue")
    assert not page.locator("#problem").is_visible()
    complaints_but(visit, "ERR_FAILED")


def test_a_server_with_a_token_asks_for_it(browser: Browser) -> None:
    token = "0123456789abcdef"
    with running({"colours": predictor(Named())}, token=token) as one:
        visit = Visit(browser, one)
        page = visit.page
        page.goto(f"{one.url}/#words=red, blue")
        page.wait_for_selector("#token-form:not([hidden])")
        page.fill("#token", token)
        page.press("#token", "Enter")
        visit.ready("red,blue")
        assert not page.locator("#token-form").is_visible()
        assert token not in page.url
        page.reload()
        visit.ready("red,blue")
        visit.context.close()


def test_a_word_that_the_model_has_not_learned_is_marked_and_another_offered(browser: Browser) -> None:
    from lexiseg.encoders.familiar import Familiar

    model = predictor(Named())
    model.familiar = Familiar(frozenset({"red", "blue", "banner"}), None, {"flag": "banner"})
    with running({"colours": model}) as one:
        visit = Visit(browser, one)
        page = visit.open("red, flag")
        assert "has not learned 'flag'" in page.locator("#warnings").inner_text()
        assert page.locator("#chips li[data-word=flag] .mark").is_visible()
        page.get_by_role("button", name="Use “banner”").click()
        visit.ready("red,banner")
        assert not page.locator("#warnings").is_visible()
        assert visit.complaints == []
        visit.context.close()
