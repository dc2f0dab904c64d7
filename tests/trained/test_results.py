"""What `train` returns: figures, and the networks and the report behind them."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest

import clonalnet_jax as cn
from clonalnet_jax.errors import UserError

pytestmark = pytest.mark.usefixtures("one_device")


@pytest.fixture(scope="module")
def results(trained_digits, one_device):
    workdir = trained_digits[1]
    return cn.Results(json.loads((workdir / "results.json").read_text()), workdir)


def test_it_is_a_dict_of_figures(results):
    assert set(results) == {"baseline", "clone"}
    assert json.loads(json.dumps(results)) == results
    assert results["clone"]["top1"] > 50


@pytest.mark.parametrize("run", ["baseline", "clone"])
def test_its_networks_are_those_that_were_trained(results, run):
    images = np.random.default_rng(0).integers(256, size=(3, 8, 8, 1), dtype=np.uint8)
    expected = cn.load(results.workdir, run).logits(images)
    np.testing.assert_array_equal(getattr(results, run).logits(images), expected)
    assert getattr(results, run) is getattr(results, run)


def test_a_network_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        _ = cn.Results({}, tmp_path).clone


def test_a_notebook_shows_a_table_of_text(results):
    odd = {"clone <b>": results["clone"]}
    shown = cn.Results(odd, results.workdir)._repr_mimebundle_(include=(), exclude=())
    assert "top-1" in shown["text/plain"]
    assert "clone &lt;b&gt;" in shown["text/html"]


class Frames(HTMLParser):
    """Keeps the attributes of the frames of a page."""

    def __init__(self):
        super().__init__()
        self.frames = []

    def handle_starttag(self, tag, attributes):
        """Keeps them."""
        assert tag == "iframe"
        self.frames.append(dict(attributes))


def test_a_notebook_shows_a_page_as_it_is_in_a_frame(tmp_path):
    path = tmp_path / "index.html"
    text = '<html><p title="a\'b">a &amp; b</p></iframe><script>x()</script></html>'
    path.write_text(text)
    parser = Frames()
    parser.feed(cn.ReportPage(path)._repr_html_().removesuffix("</iframe>"))
    (frame,) = parser.frames
    assert frame["srcdoc"] == text
    assert "allow-scripts" not in frame["sandbox"]


def test_a_page_that_is_gone_is_named(tmp_path):
    with pytest.raises(UserError, match=r"index\.html"):
        cn.ReportPage(tmp_path / "index.html")._repr_html_()
