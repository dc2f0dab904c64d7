"""Host transforms beside torchvision's, on the same pixels or in distribution."""

import io

import numpy as np
import pytest
import torch_bridge as bridge
from PIL import Image
from scipy import stats

from clonalnet_jax.data.photometric import OPERATIONS, shift_hue
from clonalnet_jax.data.transforms import crop_box, eval_transform

torch, torchvision, _ = bridge.import_torch()
T = torchvision.transforms
F = T.functional


@pytest.fixture
def photograph(rng):
    """Smooth colours with texture, 150x200, as a JPEG file."""
    y, x = np.mgrid[:150, :200]
    waves = np.stack([np.sin(x / 9), np.sin(y / 7), np.sin((x + y) / 5)], axis=-1)
    pixels = 128 + 90 * waves + rng.normal(size=(150, 200, 3)) * 12
    file = io.BytesIO()
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("interpolation", "mode"),
    [("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")],
)
@pytest.mark.parametrize(("size", "resize_size"), [(64, 73), (100, 100), (97, 120)])
def test_evaluation_is_torchvisions_to_2_of_255(
    photograph, interpolation, mode, size, resize_size
):
    recipe = T.Compose(
        [T.Resize(resize_size, T.InterpolationMode[mode]), T.CenterCrop(size)]
    )
    for image in (photograph, rotated(photograph)):
        expected = np.asarray(recipe(Image.open(io.BytesIO(image)).convert("RGB")))
        found = eval_transform(
            image, size=size, resize_size=resize_size, interpolation=interpolation
        )
        assert np.abs(found.astype(int) - expected).max() <= 2


def rotated(data):
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).transpose(Image.Transpose.ROTATE_90).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize("shape", [(375, 500), (500, 150), (64, 64)])
def test_crops_are_distributed_as_torchvisions(shape):
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    image = Image.new("L", shape[::-1])
    ours = [crop_box(rng, *shape, (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(3000)]
    theirs = [
        T.RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3])
        for _ in range(3000)
    ]
    ours, theirs = np.asarray(ours).T, np.asarray(theirs).T
    for one, other in zip(ours, theirs, strict=True):
        assert stats.ks_2samp(one, other).pvalue > 0.001
    areas = [boxes[2] * boxes[3] for boxes in (ours, theirs)]
    assert stats.ks_2samp(*areas).pvalue > 0.001


def test_rand_augment_has_torchvisions_operations_and_magnitudes():
    expected = T.RandAugment()._augmentation_space(31, (224, 224))
    assert list(OPERATIONS) == list(expected)
    for name, (magnitudes, signed) in expected.items():
        operation = OPERATIONS[name]
        assert operation.signed == signed
        if magnitudes.ndim:
            np.testing.assert_allclose(
                operation.magnitudes(224), magnitudes, rtol=1e-5, atol=1e-5
            )
        else:
            assert operation.magnitudes is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("bin_number", [3, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_rand_augments_operations_are_torchvisions(photograph, name, bin_number, sign):
    image = Image.open(io.BytesIO(photograph)).convert("RGB").resize((96, 96))
    operation = OPERATIONS[name]
    if sign < 0 and not operation.signed:
        pytest.skip("has no sign")
    strength = 0.0
    if operation.magnitudes is not None:
        strength = sign * float(operation.magnitudes(96)[bin_number])
    from torchvision.transforms.autoaugment import _apply_op

    expected = _apply_op(image, name, strength, T.InterpolationMode.NEAREST, None)
    np.testing.assert_array_equal(operation.apply(image, strength), expected)


@pytest.mark.parametrize("turns", [-0.5, -0.1, 0.0, 0.07, 0.5])
def test_hue_is_turned_as_torchvision_turns_it(photograph, turns):
    image = Image.open(io.BytesIO(photograph)).convert("RGB")
    np.testing.assert_array_equal(shift_hue(image, turns), F.adjust_hue(image, turns))
