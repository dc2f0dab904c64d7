"""The report of a real run, seen by a real browser."""

import base64
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clonalnet_jax import modes
from clonalnet_jax.errors import UserError, displayable
from clonalnet_jax.report import evidence, write_report
from clonalnet_jax.workdir.saved_logits import SavedLogits, write_logits
from clonalnet_jax.workdir.sealed import write_sealed
from tests.marks import quickly

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent.parent
SCRIPT = "<script>alert(1)</script>"
NAMES = (
    SCRIPT,
    '" onerror="alert(2)',
    "$x^2$ & <b>",
    "a name that is so long that it can stand beside no axis and in no narrow column",
    "Unbreakable" * 8,
    "犬",
    "\x1b[31mred\x00 two\nlines gnp\u202egpj",
    "=cmd|' /C calc'!A0",
    *"89",
)


@pytest.fixture(scope="module")
def trained(trained_digits, one_device):
    """A workdir with a baseline and a clone that are wrong now and then."""
    return trained_digits[1]


def with_odd_names(monkeypatch):
    real = evidence.open_experiment

    def renamed(*args):
        experiment = real(*args)
        dataset = dataclasses.replace(experiment.dataset, class_names=NAMES)
        return experiment._replace(dataset=dataset)

    monkeypatch.setattr(evidence, "open_experiment", renamed)


@pytest.fixture(scope="module")
def page(trained):
    """The report of the digits whose classes have names that are hard to show."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        with_odd_names(monkeypatch)
        unused = {"paths": [], "format": "", "output": None, "force_config": False}
        assert modes.run_mode("report", None, trained, run="clone", **unused) == 0
    return trained / "report" / "index.html"


def text_of(page):
    return page.read_text()


def test_the_page_is_one_small_file_that_refers_to_nothing(page):
    html = text_of(page)
    assert len(html) < 10e6
    references = re.findall(r'(?:src|srcset|href)="([^"]{0,40})', html)
    assert len(references) > 20
    # It shows nothing but what it holds; links lead to the figures beside it.
    assert all(ref.startswith(("data:", "#", "figures/")) for ref in references)
    shown = re.findall(r'(?:src|srcset)="([^"]{0,40})', html)
    assert all(ref.startswith("data:") for ref in shown)
    for link in re.findall(r'href="(figures/[^"]+)"', html):
        assert (page.parent / link).exists()
    assert "url(" not in html
    assert "default-src 'none'" in html


def test_the_page_says_what_the_results_say(page, trained):
    html = text_of(page)
    results = json.loads((trained / "results.json").read_text())
    for row in results.values():
        assert f">{row['top1']:.2f}</td>" in html
        assert f">{row['ece']:.2f}</td>" in html
    environment = json.loads((trained / "environment.json").read_text())[-1]
    assert environment["packages"]["jax"] in html
    assert "one seed is one seed" in html.lower()
    assert "optimizer.learning_rate" in html


def test_figures_lie_beside_the_page_for_papers(page):
    figures = page.parent / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"training_top1", "pairs", "gains", "matrix_clone", "risk_coverage"} <= names
    for name in names:
        assert (figures / f"{name}.svg").read_text().startswith("<?xml")
        with Image.open(figures / f"{name}.png") as image:
            assert min(image.size) > 600
        assert len((figures / f"{name}.csv").read_text().splitlines()) > 1
    rows = (page.parent / "classes.csv").read_text().splitlines()
    assert len(rows) == 1 + len(NAMES)
    assert not any(row.startswith(("=", '"=')) for row in rows)
    assert "\x1b" not in "".join(rows)


def test_without_saved_predictions_the_checkpoints_are_evaluated(trained, tmp_path):
    found = evidence.collect_evidence(trained, None, run="clone")
    fresh = shutil.ignore_patterns("report", "predictions")
    shutil.copytree(trained, tmp_path / "w", ignore=fresh)
    computed = evidence.collect_evidence(tmp_path / "w", None, run="clone")
    np.testing.assert_array_equal(computed.labels, found.labels)
    for run, logits in found.logits.items():
        np.testing.assert_allclose(computed.logits[run], logits, rtol=1e-5, atol=1e-5)


def test_predictions_of_another_test_split_are_not_taken(trained, tmp_path):
    found = evidence.collect_evidence(trained, None, run="clone")
    shutil.copytree(trained, tmp_path / "w", ignore=shutil.ignore_patterns("report"))
    few = SavedLogits(np.zeros((5, 10), np.float32), np.zeros(5, np.int32))
    write_logits(tmp_path / "w", "clone", few)
    again = evidence.collect_evidence(tmp_path / "w", None, run="clone")
    assert again.right("clone").tolist() == found.right("clone").tolist()


def test_answers_are_those_that_were_measured(trained):
    found = evidence.collect_evidence(trained, None, run="clone")
    results = json.loads((trained / "results.json").read_text())
    for run, row in results.items():
        assert 100 * found.right(run).mean() == pytest.approx(row["top1"], abs=0.07)
    assert len(found.labels) == 1497


def test_the_first_seed_stands_for_the_images_of_several(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "seed10")
    shutil.copytree(trained, tmp_path / "seed3")
    (tmp_path / "seed1").mkdir()  # killed before it began
    found = evidence.collect_evidence(tmp_path, None, run="clone")
    assert found.experiment.workdir == tmp_path / "seed3"


def test_a_workdir_without_the_run_says_what_there_is(trained, tmp_path):
    with pytest.raises(UserError, match="did you mean 'clone'"):
        write_report(trained, run="clon")
    with pytest.raises(UserError, match="nothing trained there"):
        write_report(tmp_path)


def test_a_workdir_that_lost_its_config_says_so(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    (tmp_path / "w" / "config.json").unlink()
    with pytest.raises(UserError, match=r"checkpoints, but no config\.json"):
        write_report(tmp_path / "w")


def test_a_workdir_that_lost_its_results_says_so(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    (tmp_path / "w" / "results.json").unlink()
    with pytest.raises(UserError, match=r"(?s)results\.json.*--mode=evaluate"):
        write_report(tmp_path / "w")


@pytest.mark.parametrize("name", ["metrics.jsonl", "environment.json"])
def test_a_report_says_which_of_its_files_is_lost(trained, tmp_path, capsys, name):
    shutil.copytree(trained, tmp_path / "w")
    evidence.collect_evidence(tmp_path / "w", None, run="clone")
    assert "missing" not in capsys.readouterr().out
    (tmp_path / "w" / name).unlink()
    evidence.collect_evidence(tmp_path / "w", None, run="clone")
    assert f"{name} is missing" in capsys.readouterr().out


def test_a_config_of_a_newer_version_asks_for_the_one_of_now(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    path = tmp_path / "w" / "config.json"
    saved = json.loads(path.read_text())
    saved["data"]["brand_new"] = 1
    write_sealed(path.parent, path.name, json.dumps(saved))
    with pytest.raises(UserError, match=r"brand_new.*\n.*\n.*--config="):
        write_report(tmp_path / "w")


def test_a_baseline_that_was_given_is_shown_too(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    shutil.rmtree(tmp_path / "w" / "baseline")
    path = tmp_path / "w" / "config.json"
    shutil.rmtree(tmp_path / "w" / "predictions")
    saved = json.loads(path.read_text())
    saved["baseline"]["checkpoint"] = str(trained / "baseline")
    write_sealed(path.parent, path.name, json.dumps(saved))
    before, after = (
        evidence.collect_evidence(workdir, None, run="clone")
        for workdir in (trained, tmp_path / "w")
    )
    for run, logits in before.logits.items():
        np.testing.assert_allclose(after.logits[run], logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [(True, "nothing trained there"), (False, "--config is missing")],
)
def test_main_needs_a_workdir_instead_of_a_config(tmp_path, given, message):
    command = [sys.executable, "main.py", "--mode=report"]
    command += [f"--workdir={tmp_path}"] if given else []
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 2
    assert message in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.fixture(scope="module")
def browser():
    """Headless Chromium of the distribution; it keeps nothing and asks nobody."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs [test]")
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        pytest.skip("needs chromium and chromedriver (apt-get install chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    profile = tempfile.mkdtemp()
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"),
        *("disable-background-networking", "disable-component-update", "disable-sync"),
        f"user-data-dir={profile}",
    ):
        options.add_argument(f"--{flag}")
    service = webdriver.ChromeService(programs[1])
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()
    shutil.rmtree(profile, ignore_errors=True)


def show(browser, page, *, width=1280, scheme="light"):
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get(Path(page).as_uri())
    # What is folded away must fit as well.
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => d.open = true)"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1280])
def test_a_browser_shows_all_of_it(browser, page, width, scheme):
    show(browser, page, width=width, scheme=scheme)
    images, missing, wide = browser.execute_script(
        "const images = [...document.images];"
        "return [images.length,"
        " images.filter(i => !i.complete || i.naturalWidth === 0).length,"
        " document.documentElement.scrollWidth - document.documentElement.clientWidth]"
    )
    assert images > 20
    assert missing == 0
    assert wide == 0  # nothing to scroll sideways
    assert browser.get_log("browser") == []


def test_names_are_shown_as_text(browser, page):
    show(browser, page)
    text = browser.execute_script("return document.body.textContent")
    for name in NAMES:
        assert displayable(name) in text
    assert browser.execute_script("return document.scripts.length") == 0
    assert (
        browser.execute_script("return document.querySelectorAll('[onerror]').length")
        == 0
    )


def test_dark_pages_have_dark_figures(browser, page):
    seen = {}
    for scheme in ("light", "dark"):
        show(browser, page, scheme=scheme)
        seen[scheme] = browser.execute_script(
            "const figure = document.querySelector('picture img');"
            "return [getComputedStyle(document.body).backgroundColor,"
            " figure.currentSrc === figure.src]"
        )
    assert seen == {
        "light": ["rgb(255, 255, 255)", True],
        "dark": ["rgb(13, 17, 23)", False],
    }


def test_it_can_be_read_without_eyes_and_used_without_a_mouse(browser, page):
    show(browser, page)
    problems = browser.execute_script(
        "const all = (s) => [...document.querySelectorAll(s)];"
        "return {"
        " alt: all('img').filter(i => !i.alt).length,"
        " captions: all('table').filter(t => !t.caption).length,"
        " scope: all('th').filter(t => !t.scope).length,"
        " scroll: all('.scroll, pre').filter(e => e.tabIndex !== 0).length,"
        " anchors: all('a[href^=\"#\"]')"
        "  .filter(a => !document.querySelector(a.getAttribute('href'))).length,"
        " ids: all('[id]').length - new Set(all('[id]').map(e => e.id)).size,"
        "}"
    )
    assert set(problems.values()) == {0}, problems
    levels = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3,h4')].map(h => +h.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels))


def contrast(one, other):
    def luminance(colour):
        rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_text_and_lines_stand_out_from_the_page():
    """WCAG 2.1: 4.5 for text, 3 for what is drawn."""
    from clonalnet_jax.report import rendering

    css = (Path(rendering.__file__).parent / "style.css").read_text()
    themes = [
        dict(re.findall(r"--(\w+): (#\w+)", part)) for part in css.split("@media")[:2]
    ]
    for colours, theme in zip(themes, (rendering.LIGHT, rendering.DARK), strict=True):
        for name in ("text", "muted", "link", "better", "worse"):
            for background in ("page", "panel"):
                assert contrast(colours[name], colours[background]) >= 4.5, name
        for colour in (theme.baseline, theme.clone, *theme.others):
            assert contrast(colour, colours["page"]) >= 3, colour


@pytest.mark.parametrize("scheme", quickly(("light", "dark"), ("light",)))
@pytest.mark.parametrize("width", quickly((400, 1280), (1280,)))
def test_axe_finds_nothing_to_complain_of(browser, page, width, scheme):
    axe_core_python = pytest.importorskip("axe_core_python", reason="needs [test]")
    script = Path(axe_core_python.__file__).parent / "axe.min.js"
    show(browser, page, width=width, scheme=scheme)
    browser.execute_script(script.read_text())
    found = browser.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run().then(r => done(r.violations.map("
        "  v => `${v.impact} ${v.id}: ${v.nodes[0].html}`)))"
    )
    assert found == []


def test_on_paper_no_heading_is_left_alone_and_no_page_half_empty(
    browser, page, tmp_path
):
    pypdf = pytest.importorskip("pypdf", reason="needs [test]")
    show(browser, page)
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => d.open = false)"
    )
    asked = {"printBackground": True, "paperWidth": 8.27, "paperHeight": 11.69}
    printed = browser.execute_cdp_cmd("Page.printToPDF", asked)
    (tmp_path / "page.pdf").write_bytes(base64.b64decode(printed["data"]))
    pages = pypdf.PdfReader(tmp_path / "page.pdf").pages
    assert len(pages) <= 9
    headings = browser.execute_script(
        "return [...document.querySelectorAll('h2,h3')].map(h => h.textContent.trim())"
    )
    for one in pages:
        lines = [line for line in one.extract_text().splitlines() if line.strip()]
        assert lines[-1].strip() not in headings
