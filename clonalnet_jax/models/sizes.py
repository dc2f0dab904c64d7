"""Sizes of the networks, counted once and kept here, so that listing them is instant.

Tracing every network takes half a minute. `tests/models/test_models.py` counts each of
them again, and shows the figures that a new network needs here.
"""

from typing import NamedTuple


class Size(NamedTuple):
    """How large a network is, with 1,000 classes at 224 pixels and 100 at 32.

    Attributes:
      parameters: Number of trained values.
      multiply_adds: Multiply-adds of convolutions and matrix products for one image.
    """

    parameters: int
    multiply_adds: int


SIZES = {
    "resnet18": Size(11_689_512, 1_814_073_344),
    "resnet34": Size(21_797_672, 3_663_761_408),
    "resnet50": Size(25_557_032, 4_089_184_256),
    "resnet101": Size(44_549_160, 7_801_405_440),
    "resnet152": Size(60_192_808, 11_513_626_624),
    "resnext50_32x4d": Size(25_028_904, 4_230_479_872),
    "resnext101_32x8d": Size(88_791_336, 16_414_015_488),
    "wide_resnet50_2": Size(68_883_240, 11_398_021_120),
    "wide_resnet101_2": Size(126_886_696, 22_753_050_624),
    "mobilenet_v2": Size(3_504_872, 300_774_272),
    "mobilenet_v3_large": Size(5_483_032, 216_589_760),
    "mobilenet_v3_small": Size(2_542_856, 56_510_400),
    "efficientnet_b0": Size(5_288_548, 385_814_752),
    "efficientnet_b1": Size(7_794_184, 569_651_680),
    "efficientnet_b2": Size(9_109_994, 658_963_440),
    "efficientnet_b3": Size(12_233_232, 962_708_240),
    "efficientnet_v2_s": Size(21_458_488, 2_849_895_872),
    "regnet_y_400mf": Size(4_344_144, 401_842_848),
    "regnet_y_1_6gf": Size(11_202_430, 1_612_076_160),
    "densenet121": Size(7_978_856, 2_834_161_664),
    "vgg16": Size(138_357_544, 15_470_264_320),
    "vgg16_bn": Size(138_365_992, 15_470_264_320),
    "swin_t": Size(28_288_354, 4_490_566_656),
    "convnext_tiny": Size(28_589_128, 4_455_531_264),
    "convnext_small": Size(50_223_688, 8_683_712_256),
    "vit_small_patch16_224": Size(22_050_664, 4_598_882_304),
    "vit_base_patch16_224": Size(86_567_656, 17_563_828_224),
    "deit_small_patch16_224": Size(22_050_664, 4_598_882_304),
    "deit_base_patch16_224": Size(86_567_656, 17_563_828_224),
    "resnet8": Size(83_892, 12_507_392),
    "resnet14": Size(181_108, 26_663_168),
    "resnet20": Size(278_324, 40_818_944),
    "resnet32": Size(472_756, 69_130_496),
    "resnet44": Size(667_188, 97_442_048),
    "resnet56": Size(861_620, 125_753_600),
    "resnet110": Size(1_736_564, 253_155_584),
    "resnet8x4": Size(1_233_540, 177_071_104),
    "resnet32x4": Size(7_433_860, 1_083_040_768),
    "resnet18_small": Size(11_220_132, 555_468_800),
    "wrn_16_1": Size(180_916, 26_663_168),
    "wrn_16_2": Size(703_284, 101_118_464),
    "wrn_40_1": Size(569_780, 83_286_272),
    "wrn_40_2": Size(2_255_156, 327_610_880),
    "wrn_28_10": Size(36_536_884, 5_243_386_368),
    "vgg8": Size(3_965_028, 96_192_512),
    "vgg13": Size(9_462_180, 284_936_192),
    "mobilenet_v2_half": Size(812_836, 6_523_648),
    "shufflenet_v1": Size(949_258, 38_691_456),
    "shufflenet_v2": Size(1_355_528, 44_504_448),
}
"""By the names of `model_names()`."""
