"""Predicting files: what is printed, what is skipped, what comes back."""

import numpy as np
import pytest
from PIL import Image

from clonalnet_jax.data import open_dataset
from clonalnet_jax.errors import UserError
from clonalnet_jax.trained.predict import predict_files
from clonalnet_jax.trained.printing import run_predict


@pytest.fixture(scope="module")
def trained(trained_digits, tmp_path_factory, one_device):
    """A baseline and clone of the digits, trained a little; and some test images."""
    config, workdir = trained_digits
    folder = tmp_path_factory.mktemp("images")
    test = open_dataset(config.data, seed=0).test
    for index in range(40):
        pixels, label = test[index]
        Image.fromarray(pixels[..., 0]).save(folder / f"{index:02d}_{label}.png")
    return config, workdir, folder


def test_most_predictions_are_right_and_in_the_order_of_the_files(trained):
    config, workdir, folder = trained
    predictions = list(predict_files(config, workdir, [folder]))
    assert [p.path for p in predictions] == sorted(folder.iterdir())
    right = [p.top[0][0] == p.path.stem[-1] for p in predictions]
    assert np.mean(right) > 0.8
    for prediction in predictions:
        values = [value for _, value in prediction.top]
        assert values == sorted(values, reverse=True)
        assert len(values) == 5
        assert 0 < sum(values) <= 1 + 1e-5
        # One category at least stands out, and none below the average does.
        assert prediction.confusing
        assert all(value > 0.1 for _, value in prediction.confusing)


def test_a_prediction_does_not_depend_on_its_neighbours(trained):
    config, workdir, folder = trained
    whole = {p.path: p for p in predict_files(config, workdir, [folder])}
    path = sorted(folder.iterdir())[35]
    (alone,) = predict_files(config, workdir, [path])
    assert alone.top[0][1] == pytest.approx(whole[path].top[0][1], rel=1e-4)


def test_colour_size_and_orientation_are_brought_to_the_networks(trained, tmp_path):
    config, workdir, folder = trained
    path = sorted(folder.iterdir())[0]
    plain = Image.open(path)
    large = plain.convert("RGB").resize((64, 64), Image.Resampling.NEAREST)
    large.save(tmp_path / "large.png")
    plain.convert("RGB").save(tmp_path / "colour.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by 90 degrees
    large.rotate(90).save(tmp_path / "turned.png", exif=exif)
    (expected,) = predict_files(config, workdir, [path])
    colour, resized, turned = predict_files(config, workdir, [tmp_path])
    assert colour.top == expected.top
    assert turned.top == resized.top
    # Resizing there and back blurs, but a digit stays a digit.
    assert resized.top[0][0] == expected.top[0][0]


def test_unreadable_files_are_named_and_the_rest_predicted(trained, tmp_path, capsys):
    config, workdir, folder = trained
    (tmp_path / "bad[red].png").write_text("no image")
    good = sorted(folder.iterdir())[0]
    truncated = tmp_path / "truncated.png"
    truncated.write_bytes(good.read_bytes()[:50])
    missing = tmp_path / "missing.png"
    paths = [tmp_path, missing, good]
    assert run_predict(config, workdir, paths, run="clone") == 3
    printed = capsys.readouterr().out
    assert "SKIPPED" in printed
    for name in ("bad[red].png", "truncated.png", "missing.png"):
        assert name in printed
    (*skipped, last) = predict_files(config, workdir, paths)
    assert [bool(p.error) for p in skipped] == [True] * 3
    assert last.top
    assert run_predict(config, workdir, [good], run="clone") == 0


def test_any_run_can_predict_and_an_unknown_one_is_named(trained):
    config, workdir, folder = trained
    assert len(list(predict_files(config, workdir, [folder], run="baseline"))) == 40
    with pytest.raises(UserError, match="did you mean 'clone'"):
        list(predict_files(config, workdir, [folder], run="clown"))


def test_nothing_to_predict_is_an_error(trained, tmp_path):
    config, workdir, _ = trained
    with pytest.raises(UserError, match="nothing to predict"):
        list(predict_files(config, workdir, [tmp_path]))
