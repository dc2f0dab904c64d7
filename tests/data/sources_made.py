"""Small data sets as their authors publish them, and what is read back."""

import io
import pickle

import numpy as np
from clonalnet_jax.configs import default
from PIL import Image

from clonalnet_jax.data import open_dataset


def read(tmp_path, name, test_split="test", **overrides):
    config = default.get_config().data
    config.update(
        {"source": "tfds", "name": name, "path": str(tmp_path / "tfds")} | overrides
    )
    config.test_split = test_split
    return open_dataset(config, seed=0)


def pairs(images, labels):
    return sorted(
        (image.tobytes(), int(label))
        for image, label in zip(images, labels, strict=True)
    )


def contents(source):
    examples = [source[index] for index in range(len(source))]
    return pairs([e.image for e in examples], [e.label for e in examples])


def jpeg(pixels, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", **options)
    return file.getvalue()


def write_cifar(root, rng, classes):
    """The official archive's files with a few random images; returns the splits."""
    splits, fine = {}, classes == 100
    names = [f"class {k}" for k in range(classes)]
    labels_key = b"fine_labels" if fine else b"labels"
    if fine:
        meta, files = b"fine_label_names", {"train": ["train"], "test": ["test"]}
    else:
        batches = [f"data_batch_{k}" for k in range(1, 6)]
        meta, files = b"label_names", {"train": batches, "test": ["test_batch"]}
    contents = {"meta" if fine else "batches.meta": {meta: [n.encode() for n in names]}}
    for split, parts in files.items():
        images = rng.integers(256, size=(4 * len(parts), 32, 32, 3), dtype=np.uint8)
        labels = rng.integers(classes, size=len(images)).tolist()
        splits[split] = pairs(images, labels)
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), 3072)
        for number, part in enumerate(parts):
            rows = slice(4 * number, 4 * number + 4)
            contents[part] = {b"data": planes[rows], labels_key: labels[rows]}
    root.mkdir()
    for name, content in contents.items():
        (root / name).write_bytes(pickle.dumps(content, protocol=2))
    return splits


def write_tiny_imagenet(root, rng, wnids=("n01", "n02", "n03"), *, val=None):
    """Three classes of five training and two validation images; some are grey."""
    files = {"train": [], "validation": []}
    for label, wnid in enumerate(wnids):
        (root / "train" / wnid / "images").mkdir(parents=True)
        for index in range(5):
            shape = (64, 64) if index == 0 else (64, 64, 3)
            data = jpeg(rng.integers(256, size=shape, dtype=np.uint8))
            path = root / "train" / wnid / "images" / f"{wnid}_{index}.JPEG"
            path.write_bytes(data)
            files["train"].append((data, label))
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for index, wnid in enumerate(val or [w for w in wnids for _ in range(2)]):
        data = jpeg(rng.integers(256, size=(64, 64, 3), dtype=np.uint8))
        (root / "val" / "images" / f"val_{index}.JPEG").write_bytes(data)
        lines.append(f"val_{index}.JPEG\t{wnid}\t0\t0\t10\t10\n")
        if wnid in wnids:
            files["validation"].append((data, wnids.index(wnid)))
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(reversed(wnids)))
    words = "n01\tcrane, bird\nn02\tcrane\nn03\tgoldfish, Carassius\nn99\tother\n"
    (root / "words.txt").write_text(words)
    return files


def decoded(files):
    images = [np.asarray(Image.open(io.BytesIO(d)).convert("RGB")) for d, _ in files]
    return pairs(images, [label for _, label in files])


def write_folder(root, rng):
    for split in ("train", "val"):
        for name in ("ant", "cat"):
            (root / split / name).mkdir(parents=True)
            for index in range(3):
                pixels = rng.integers(256, size=(40 + index, 60, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{index}.png")
