"""The page in Chromium: it scores what Python scores, says what is wrong with a file, and is reached by keyboard."""

import base64
import io
import json
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cxr.imaging.decode import gray, read_gray
from cxr.imaging.preprocessing import Preprocessing
from cxr.metrics.scaling import Scaling
from cxr.use import load_bundle
from cxr.use.description import describe
from cxr.use.system import Member, Rule
from tests.use.made import FINDINGS, model
from tests.use.pages import POINTS, film, open_file, rows, wait

pytestmark = pytest.mark.browser


def pngs() -> dict[str, Image.Image]:
    gray, other = film(), film(seed=1)
    colour = np.stack([gray, other, film(seed=2)], axis=-1)
    deep = gray.astype(np.uint16) * 257 - other
    palette = Image.fromarray(colour).quantize(200)
    return {
        "gray": Image.fromarray(gray), "deep": Image.fromarray(deep), "colour": Image.fromarray(colour),
        "gray-alpha": Image.merge("LA", [Image.fromarray(gray), Image.fromarray(other)]),
        "alpha": Image.fromarray(np.dstack([colour, other])), "palette": palette,
        "four-bit": Image.fromarray(colour).quantize(13), "one-bit": Image.fromarray(gray).convert("1"),
        "large": Image.fromarray(film((384, 401))), "twice": Image.fromarray(film((32, 32))),
        "whole-factors": Image.fromarray(film((48, 80))), "small": Image.fromarray(film((7, 12))),
    }  # fmt: skip


def saved(kind: str, pixels: np.ndarray | None = None, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(film() if pixels is None else pixels).save(file, kind, **options)
    return file.getvalue()


def test_png_scores_are_those_of_python(page: Any, folder: Path, tmp_path: Path) -> None:
    scorer = load_bundle(folder)
    for name, image in pngs().items():
        image.save(tmp_path / f"{name}.png")
        assert "2 findings scored" in open_file(page, tmp_path / f"{name}.png")
        found = scorer.score_image(read_gray(tmp_path / f"{name}.png"))
        assert found.calibrated is not None
        shown = rows(page)
        assert {row["finding"] for row in shown} == set(FINDINGS)
        for row in shown:
            k = FINDINGS.index(row["finding"])
            assert float(row["score"]) == pytest.approx(found.score[0, k], abs=1e-6), name
            assert float(row["shown"]) == pytest.approx(found.calibrated[0, k], abs=1e-6), name
        assert [float(row["shown"]) for row in shown] == sorted((float(row["shown"]) for row in shown), reverse=True)


def test_jpeg_scores_are_those_of_python(page: Any, folder: Path, tmp_path: Path) -> None:
    scorer = load_bundle(folder)
    colour = np.stack([film((90, 80)), film((90, 80), 1), film((90, 80), 2)], axis=-1)
    for name, image in (("gray", Image.fromarray(film((90, 80)))), ("colour", Image.fromarray(colour))):
        image.save(tmp_path / f"{name}.jpg", quality=90)
        open_file(page, tmp_path / f"{name}.jpg")
        found = scorer.score_image(read_gray(tmp_path / f"{name}.jpg")).score[0]
        for row in rows(page):
            assert float(row["score"]) == pytest.approx(found[FINDINGS.index(row["finding"])], abs=1e-2)


PIXELS = """
const [base64, done] = arguments;
const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
decode(new File([bytes], "film")).then(
  ({ pixels, width, height }) => done([height, width, Array.from(pixels)]), (error) => done(String(error.stack)));
"""


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_jpeg_is_not_turned_by_its_exif_orientation(page: Any, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = saved("JPEG", film((90, 80)), exif=exif, quality=90, progressive=orientation % 2 == 0)
    height, width, pixels = page.execute_async_script(PIXELS, base64.b64encode(content).decode())
    assert (height, width) == (90, 80)
    assert np.abs(np.array(pixels).reshape(90, 80) - gray(content).astype(int)).max() <= 2


VIEWS = """
const [base64, cases, done] = arguments;
const bytes = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
decode(new File([bytes], "film.png"))
  .then((image) => done(cases.map((one) => Array.from(view(reduced(image, one.cached), one)))))
  .catch((error) => done(String(error)));
"""


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("shape", [(401, 384), (64, 96), (192, 128), (40, 50), (33, 64)])
def test_networks_see_the_pixels_that_python_shows_them(page: Any, shape: tuple[int, int], deep: bool) -> None:
    pixels = film(shape).astype(np.uint16) * 250 + 11 if deep else film(shape)
    cases = [Preprocessing(32, 32), Preprocessing(24, 32), Preprocessing(21, 32, crop=True), Preprocessing(16, 64),
             Preprocessing(48, 32)]  # fmt: skip
    members = tuple(Member(f"m{k}", case) for k, case in enumerate(cases))
    expected = model(members=members).views(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    about = [{"size": case.size, "cached": case.cached, "crop": case.crop} for case in cases]
    found = page.execute_async_script(VIEWS, base64.b64encode(file.getvalue()).decode(), about)
    for case, seen, shown in zip(cases, found, expected, strict=True):
        difference = np.abs(np.array(seen).reshape(shown.shape) - shown.astype(int))
        assert difference.max() == 0, (case, difference.max(), (difference > 0).mean())


RULES = """
const [system, scores] = arguments;
return scores.map((members) => {
  const score = ordered(system, system.findings.map((_, k) => combine(system.rule, members, k)));
  return [score, ordered(system, score.map((value, k) => calibrate(system, value, k)))];
});
"""


@pytest.mark.parametrize(
    "rule",
    [Rule("mean", ((0.25, 0.75), (0.5, 0.5))), Rule("logit", ((1.5, -0.5), (0.2, 0.9)), (0.3, -1.0)), Rule("max"),
     Rule("vote")],
)  # fmt: skip
def test_rule_calibration_and_hierarchy_are_those_of_python(page: Any, rule: Rule) -> None:
    scaling = Scaling("platt", FINDINGS, (1.7, -0.4), (0.1, -0.2), ())
    system = model(rule=rule, scaling=scaling, parents=(-1, 0)).system
    scores = np.random.default_rng(0).random((2, 50, 2)).astype(np.float32)
    scores[:, :2] = [[0, 1], [1, 0]]
    found = np.array(page.execute_script(RULES, describe(system), scores.transpose(1, 0, 2).tolist()))
    expected = system.combine(scores)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(found[:, 1], system.calibrate(expected), atol=1e-6)


def test_bars_mark_thresholds_and_calls_follow_them(page: Any, tmp_path: Path) -> None:
    Image.fromarray(film() // 2).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    scores = {row["finding"]: float(row["score"]) for row in rows(page)}
    for point, thresholds in POINTS.items():
        page.find_element("css selector", f"#point option[value={point}]").click()
        for finding, threshold in thresholds.items():
            row = page.find_element("css selector", f"[data-finding={finding}]")
            call = "No threshold" if threshold is None else "At or above" if scores[finding] >= threshold else "Below"
            assert f"% {call}" in row.accessible_name
            assert len(row.find_elements("css selector", ".mark.chosen")) == (threshold is not None)
    page.find_element("css selector", "[data-finding=Mass]").click()
    detail = page.find_element("id", "detail").text
    assert all(name in detail for name in ("Ensemble", "a", "b", "standard deviation"))


def test_the_status_counts_at_the_chosen_operating_point(page: Any, tmp_path: Path) -> None:
    Image.fromarray(film()).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    scores = {row["finding"]: float(row["score"]) for row in rows(page)}
    expected = {point: sum(least is not None and scores[name] >= least for name, least in thresholds.items())
                for point, thresholds in POINTS.items()}  # fmt: skip
    for point, count in expected.items():
        page.find_element("css selector", f"#point option[value={point}]").click()
        assert f" {count} at or above the threshold." in page.find_element("id", "status").text
    assert len(set(expected.values())) == 2
    without = "const known = SYSTEM.operating_points; SYSTEM.operating_points = {}; showScoresAndStatus();"
    said = page.execute_script(f"{without} SYSTEM.operating_points = known; return $('status').textContent;")
    assert "2 findings scored" in said and "threshold" not in said


def test_attention_window_and_zoom_change_the_picture(page: Any, tmp_path: Path) -> None:
    Image.fromarray(film((200, 180))).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")

    def picture() -> str:
        return page.execute_script("return $('canvas').toDataURL()")

    seen = {picture()}
    for name, value in (("opacity", 70), ("level", 90), ("width", 120), ("zoom", 100)):
        page.execute_script(
            "const e = $(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input'))", name, value
        )
        seen.add(picture())
    canvas = page.find_element("id", "canvas")
    for key in ("\ue012", "+", "i"):  # left arrow
        canvas.send_keys(key)
        seen.add(picture())
    assert len(seen) == 8
    page.find_element("id", "reset").click()
    assert page.execute_script("return [viewer.zoom, viewer.level, viewer.width, viewer.inverted]") == [
        1,
        128,
        256,
        False,
    ]


def test_a_dragged_film_follows_the_pointer(page: Any, tmp_path: Path) -> None:
    dot = np.zeros((80, 40), np.uint8)
    dot[39:41, 19:21] = 255
    Image.fromarray(dot).save(tmp_path / "dot.png")
    open_file(page, tmp_path / "dot.png")
    webdriver = pytest.importorskip("selenium.webdriver")
    canvas = page.find_element("id", "canvas")
    for zoom, right, down in ((1, 70, 40), (3, -60, 50)):
        page.execute_script("reset(); change({ zoom: arguments[0] })", zoom)
        webdriver.ActionChains(page).click_and_hold(canvas).move_by_offset(right, down).release().perform()
        gray = """
          const [canvas, ...away] = [$("canvas"), ...arguments];
          const [x, y] = [canvas.width, canvas.height].map((side, k) => side / 2 + away[k] * devicePixelRatio);
          return canvas.getContext("2d").getImageData(x, y, 1, 1).data[0];
        """
        assert page.execute_script(gray, right, down) > 200
        assert page.execute_script(gray, 0, 0) < 50


def test_a_file_that_cannot_be_used_is_named(page: Any, tmp_path: Path) -> None:
    good, jpeg = saved("PNG"), saved("JPEG")
    size = jpeg.index(b"\xff\xc0") + 5  # where a frame has its height and width
    huge = bytearray(good)
    huge[16:24] = (60000).to_bytes(4, "big") * 2
    cases = {
        "text.png": (b"text", "is not a DICOM, PNG or JPEG"), "film.gif": (saved("GIF"), "is not a DICOM, PNG or JPEG"),
        "empty.jpg": (b"", "is empty"),
        "cut.png": (good[:300], "is truncated"), "cut.jpg": (jpeg[:-40], "is truncated"),
        "film.dcm": (b"\0" * 128 + b"DICM", "is a DICOM file without pixel data"),
        "damaged.jpg": (jpeg[:20] + jpeg[-20:], "is damaged"), "sum.png": (bytes(huge), "of a chunk (IHDR) is wrong"),
        "blank.png": (saved("PNG", np.full((50, 50), 128, np.uint8)), "is blank"),
        "huge.jpg": (jpeg[:size] + b"\xea\x60" * 2 + jpeg[size + 4 :], "is too large: 60000 × 60000 pixels"),
    }  # fmt: skip
    huge[29:33] = zlib.crc32(huge[12:29]).to_bytes(4, "big")
    cases["huge.png"] = (bytes(huge), "60000 × 60000 pixels; the maximum is 128 million pixels")
    (tmp_path / "good.png").write_bytes(good)
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        assert "2 findings scored" in open_file(page, tmp_path / "good.png"), "the page works on"
        assert words in open_file(page, tmp_path / name)
        assert rows(page) == []
        assert page.find_element("id", "canvas").accessible_name == "No radiograph is open."


def test_a_folder_is_named(page: Any) -> None:
    page.execute_script(
        "open({ name: 'folder', arrayBuffer: () => Promise.reject(new DOMException('', 'NotFoundError')) })"
    )
    wait(page, "$('status').textContent.startsWith('folder cannot be read: it is a folder')")


DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), (one) => one.charCodeAt(0));
const transfer = new DataTransfer();
for (const name of arguments[1]) transfer.items.add(new File([bytes], name));
$("stage").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true, cancelable: true }));
return $("status").textContent;
"""


def test_a_film_can_be_dropped_and_several_are_refused(page: Any) -> None:
    content = base64.b64encode(saved("PNG")).decode()
    page.execute_script(DROP, content, ["dropped.png"])
    wait(page, "$('status').textContent.startsWith('dropped.png: 2 findings scored')")
    said = page.execute_script(DROP, content, ["a.png", "b.png"])
    assert said == "2 files were dropped. The page scores one file at a time; python -m cxr predict scores many."
    assert page.execute_script("return state.name") == "dropped.png"


def test_no_film_is_shown_beside_the_scores_of_another(page: Any, tmp_path: Path) -> None:
    for name, seed in (("one.png", 0), ("two.png", 1)):
        (tmp_path / name).write_bytes(saved("PNG", film(seed=seed)))
    open_file(page, tmp_path / "one.png")
    page.execute_script("""
      window.seen = [];
      const show = viewer.show.bind(viewer);
      viewer.show = (image) => {
        show(image);
        seen.push(document.querySelectorAll(".row").length, $("status").textContent);
      };
    """)
    open_file(page, tmp_path / "two.png")
    assert page.execute_script("return seen") == [0, "Scoring two.png…"]
    assert len(rows(page)) == 2


def test_patient_facts_reach_the_networks(page: Any, folder: Path, tmp_path: Path) -> None:
    Image.fromarray(film()).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    age = page.find_element("id", "age")
    assert age.is_displayed()
    age.send_keys("60")
    for name, value in (("sex", "female"), ("view", "ap")):
        page.find_element("css selector", f"#{name} option[value={value}]").click()
    found = page.execute_script("return attributes()")
    assert found == pytest.approx([0.6, 0, 1, 0, 1])
    for unlikely in ("-5", "121"):
        age.clear()
        age.send_keys(unlikely)
        assert page.execute_script("return [Number.isNaN(attributes()[0]), $('age').matches(':invalid')]") == [
            True,
            True,
        ]


def test_the_chosen_finding_stays_when_facts_change(page: Any, tmp_path: Path) -> None:
    Image.fromarray(film()).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    lowest = page.find_elements("css selector", ".row")[-1]
    chosen = lowest.get_attribute("data-finding")
    lowest.click()
    page.execute_script("window.before = state.scores")
    page.find_element("css selector", "#sex option[value=female]").click()
    wait(page, "state.scores !== before")
    assert page.find_element("css selector", ".row[aria-pressed=true]").get_attribute("data-finding") == chosen


def test_controls_have_names_and_are_reached_by_the_keyboard(page: Any, tmp_path: Path) -> None:
    Image.fromarray(film()).save(tmp_path / "film.png")
    open_file(page, tmp_path / "film.png")
    controls = [one for one in page.find_elements("css selector", "button, input, select, canvas, summary")
                if one.is_displayed()]  # fmt: skip
    assert len(controls) > 14 and all(control.accessible_name for control in controls)
    page.execute_script("document.activeElement.blur()")
    reached = set()
    for _ in controls:
        page.switch_to.active_element.send_keys("\ue004")  # tab
        reached.add(page.switch_to.active_element.id)
    assert {control.id for control in controls} <= reached
    second = page.find_elements("css selector", ".row")[1]
    finding = second.get_attribute("data-finding")
    second.send_keys("\ue007")  # enter
    focused = page.switch_to.active_element
    assert (focused.get_attribute("data-finding"), focused.get_attribute("aria-pressed")) == (finding, "true")
    assert page.find_element("id", "status").get_attribute("aria-live") == "polite"


def test_nothing_is_requested(page: Any, folder: Path, tmp_path: Path) -> None:
    Image.fromarray(film()).save(tmp_path / "film.png")
    page.get_log("performance")
    page.get((folder / "page.html").as_uri())
    open_file(page, tmp_path / "film.png")
    assert (
        page.execute_async_script("fetch('http://127.0.0.1:9/').then(() => arguments[0](1), () => arguments[0](0))")
        == 0
    )
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    assert any(url.endswith("page.html") for url in sent)
    assert {url.partition(":")[0] for url in sent} <= {"file", "blob", "data", "http"}
    assert [url for url in sent if url.startswith("http")] in ([], ["http://127.0.0.1:9/"])
    assert [url for url in sent if url.startswith("file")] == [(folder / "page.html").as_uri()]


def test_the_model_card_is_rendered_with_checksums(page: Any, folder: Path) -> None:
    page.find_element("css selector", "#card summary").click()
    card = page.find_element("css selector", "#card article")
    assert "license" not in card.text and card.find_element("css selector", "strong").text == "bold"
    assert [cell.text for cell in card.find_elements("css selector", "td")] == ["1", "2_3"]
    items = [one.text for one in card.find_elements("css selector", "li")]
    assert items[:2] == ["one", "two"]
    networks = sorted(folder.glob("*.onnx"))
    assert items[2:] == [f"{sha256(network.read_bytes()).hexdigest()} {network.name}" for network in networks]
    assert sha256((folder / "bundle.json").read_bytes()).hexdigest() in card.text
