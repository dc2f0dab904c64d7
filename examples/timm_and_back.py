"""A checkpoint of timm, cloned into a smaller network, and back into timm.

    python examples/timm_and_back.py timm:resnet34.a1_in1k DIRECTORY

DIRECTORY holds train/<class>/ and test/<class>/ of the checkpoint's classes, in its
order; a file model.safetensors will do as well. More in docs/weights.md.
"""

import argparse
from pathlib import Path

import numpy as np

import clonalnet_jax as cn

parser = argparse.ArgumentParser()
parser.add_argument("weights", help="timm:<name>, or a file")
parser.add_argument("images", help="folder with train/<class> and test/<class>")
parser.add_argument("--baseline", default="resnet34", help="what the weights are of")
parser.add_argument("--clone", default="resnet18", help="the smaller network")
parser.add_argument("--min_top1", type=float, help="what its author states, or less")
parser.add_argument("--epochs", type=float, default=90.0)
parser.add_argument("--batch_size", type=int, default=256)
parser.add_argument("--workdir", default="runs/timm")

if __name__ == "__main__":
    asked = parser.parse_args()
    config = cn.config(
        "weights",
        data={"path": asked.images, "like_weights": asked.weights.startswith("timm:")},
        baseline={
            "model": asked.baseline,
            "weights": asked.weights,
            "min_top1": asked.min_top1,
        },
        clone={"model": asked.clone},
        epochs=asked.epochs,
        batch_size=asked.batch_size,
    )
    results = cn.train(config, asked.workdir)
    path = Path(asked.workdir) / "export" / "clone.safetensors"
    if not path.exists():
        cn.export(asked.workdir, format="safetensors")

    import timm
    import torch
    from safetensors.torch import load_file

    count = len(results.clone.class_names)
    network = timm.create_model(asked.clone, num_classes=count).eval()
    network.load_state_dict(load_file(path))  # strict: every name and shape
    pixels = np.random.default_rng(0).random((2, *results.clone.image_shape))
    mean, std = (np.array(x) for x in (config.data.mean, config.data.std))
    normalised = torch.tensor((pixels - mean) / std).permute(0, 3, 1, 2).float()
    theirs = network(normalised).detach().numpy()
    ours = results.clone.logits(pixels.astype(np.float32))
    print(f"{path}: timm's logits are off by {np.abs(ours - theirs).max():.1e} at most")
