"""torchvision's files, and how their images are prepared in evaluation.

From the metadata of its weights; `tests/interop/test_preprocessing_against_torch.py`
compares each with them.
"""

from typing import NamedTuple


class Recipe(NamedTuple):
    """The shorter side before the crop, the crop, and how images are resized.

    Attributes:
      resize_size: Pixels of the shorter side.
      image_size: Pixels of the crop's side.
      interpolation: Either `bilinear` or `bicubic`.
    """

    resize_size: int = 256
    image_size: int = 224
    interpolation: str = "bilinear"


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""The normalisation of all of them."""

_SECOND = Recipe(232)

RECIPES: dict[str, Recipe] = {
    "resnet18-f37072fd": Recipe(),
    "resnet34-b627a593": Recipe(),
    "resnet50-0676ba61": Recipe(),
    "resnet50-11ad3fa6": _SECOND,
    "resnet101-63fe2227": Recipe(),
    "resnet101-cd907fc2": _SECOND,
    "resnet152-394f9c45": Recipe(),
    "resnet152-f82ba261": _SECOND,
    "resnext50_32x4d-7cdf4587": Recipe(),
    "resnext50_32x4d-1a0047aa": _SECOND,
    "resnext101_32x8d-8ba56ff5": Recipe(),
    "resnext101_32x8d-110c445d": _SECOND,
    "wide_resnet50_2-95faca4d": Recipe(),
    "wide_resnet50_2-9ba9bcbe": _SECOND,
    "wide_resnet101_2-32ee1156": Recipe(),
    "wide_resnet101_2-d733dc28": _SECOND,
    "mobilenet_v2-b0353104": Recipe(),
    "mobilenet_v2-7ebf99e0": _SECOND,
    "mobilenet_v3_large-8738ca79": Recipe(),
    "mobilenet_v3_large-5c1a4163": _SECOND,
    "mobilenet_v3_small-047dcff4": Recipe(),
    "efficientnet_b0_rwightman-7f5810bc": Recipe(256, 224, "bicubic"),
    "efficientnet_b1_rwightman-bac287d4": Recipe(256, 240, "bicubic"),
    "efficientnet_b1-c27df63c": Recipe(255, 240),
    "efficientnet_b2_rwightman-c35c1473": Recipe(288, 288, "bicubic"),
    "efficientnet_b3_rwightman-b3899882": Recipe(320, 300, "bicubic"),
    "efficientnet_v2_s-dd5fe13b": Recipe(384, 384),
    "regnet_y_400mf-c65dace8": Recipe(),
    "regnet_y_400mf-e6988f5f": _SECOND,
    "regnet_y_1_6gf-b11a554e": Recipe(),
    "regnet_y_1_6gf-0d7bc02a": _SECOND,
    "densenet121-a639ec97": Recipe(),
    "vgg16-397923af": Recipe(),
    "vgg16_bn-6c64b313": Recipe(),
    "swin_t-704ceda3": Recipe(232, 224, "bicubic"),
}
"""By the name of the file, without its ending."""
