"""Every configuration key, its meaning and its default; the others override few.

Not an experiment: it names no data set. Keys that start with `0:` or `None:` say what
that value stands for.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """The defaults, locked: an unknown key is an error that suggests the nearest."""
    config = ConfigDict()
    config.seed = 0  # of data order, augmentation and every initialisation
    config.batch_size = 128  # global, over all devices
    config.epochs = 30.0
    config.steps = config_dict.placeholder(int)  # None: from epochs
    # Trained after the baseline, each from the same random initialisation:
    # "clone", "cross_entropy" (plain retraining), "label_smoothing", "distillation",
    # "dkd" (decoupled distillation, CVPR 2022), "logit_standardisation" (CVPR 2024);
    # "clone_without_difference", "clone_without_attention", "clone_without_negentropy".
    config.methods = ("clone",)
    config.compute_dtype = "float32"  # or "bfloat16"; parameters stay float32
    # Of the moving average of a run's variables, which is what is then evaluated, saved
    # and exported (0.999, say); 0: none.
    config.ema_decay = 0.0
    # Parts that a batch is computed in, one after the other, to save memory; batch norm
    # sees one part at a time.
    config.accumulate_steps = 1
    # Steps in one program on a TPU or GPU; a CPU always takes them one by one.
    config.steps_per_call = 1
    config.partition = ConfigDict()
    # Whether parameters and optimiser state are split over the devices instead of
    # copied to each (FSDP, ZeRO stage 3).
    config.partition.fsdp = False
    # Devices of a process over which the classes are split, for very many of them.
    config.partition.model = 1
    # Without a finished step for so long, the stacks of all threads are printed and the
    # program exits for its scheduler to start it again; 0: never.
    config.watchdog_minutes = 30.0
    # Steps of every run, after its first ten, that jax.profiler traces into
    # <workdir>/<run>/profile; 0: none.
    config.profile_steps = 0
    config.debug_nans = False  # name the operation that makes one; slow
    config.deterministic = False  # bit-identical on GPU too, slower; a CPU always is
    config.log_every_steps = 50
    config.checkpoint_every_epochs = 1.0  # evaluates and saves; also at the end
    # Which checkpoint is reported: "last", or "best" on config.data.holdout.
    config.select = "last"

    config.baseline = ConfigDict()
    config.baseline.model = "resnet20"  # a name of clonalnet_jax.models
    config.baseline.options = ConfigDict()  # the model's fields, such as width
    # A run directory such as runs/digits/baseline; None: train it first.
    config.baseline.checkpoint = config_dict.placeholder(str)
    # PyTorch weights instead: a .pth or .safetensors file, "timm:<name>" or
    # "torchvision:<name>". They must know the data's classes in the data's order.
    config.baseline.weights = config_dict.placeholder(str)
    # Starts from these weights with a new classifier, trained as the baseline first.
    config.baseline.replace_head = False
    # How the frozen baseline runs beside a clone: batch norm folded into the
    # convolutions, and the dtype of its computation (None: config.compute_dtype).
    config.baseline.fold_batch_norm = True
    config.baseline.compute_dtype = config_dict.placeholder(str)
    # Whether its answers are computed once and read from files from then on, by the
    # methods that focus on confusing categories: "none"; "views", of every augmented
    # image of the run, which pays off from the second method on; "images", of the
    # images as they are, which pays off within a run but is not the authors' method.
    config.baseline.cache = "none"
    # Where; None: baseline_cache in the workdir. Several workdirs may share one.
    config.baseline.cache_dir = config_dict.placeholder(str)
    config.baseline.cache_top_k = 16  # probabilities kept of each answer
    # Top-1 in percent on the test split below which no clone is trained;
    # None: what always naming the commonest class would reach by luck.
    config.baseline.min_top1 = config_dict.placeholder(float)

    config.clone = ConfigDict()
    config.clone.model = "resnet20"  # equal to the baseline or smaller
    config.clone.options = ConfigDict()

    config.loss = ConfigDict()  # focusing-picking; the authors' values
    config.loss.temperature = 2.0
    config.loss.label_smoothing = 0.1  # also of the label_smoothing control
    config.loss.attention_weight = 1.0
    config.loss.negentropy_weight = 1.0

    config.distillation = ConfigDict()  # (1 - weight) CE + weight T^2 KL
    config.distillation.temperature = 4.0
    config.distillation.weight = 0.9

    # CE weight x CE + T^2 (target weight x KL + non-target weight x KL); the authors'.
    config.dkd = ConfigDict()
    config.dkd.temperature = 4.0
    config.dkd.cross_entropy_weight = 1.0
    config.dkd.target_weight = 1.0
    config.dkd.non_target_weight = 8.0

    # CE weight x CE + weight x T^2 KL of standardised logits; the authors' values.
    config.logit_standardisation = ConfigDict()
    config.logit_standardisation.temperature = 2.0
    config.logit_standardisation.cross_entropy_weight = 0.1
    config.logit_standardisation.weight = 9.0

    config.compare = ConfigDict()  # of --mode=compare
    config.compare.seeds = 5  # how many: config.seed, config.seed + 1, ...
    # In place of config.methods.
    config.compare.methods = (
        "cross_entropy",
        "label_smoothing",
        "distillation",
        "dkd",
        "logit_standardisation",
        "clone",
        "clone_without_difference",
        "clone_without_attention",
        "clone_without_negentropy",
    )

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adamw" or "lars"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9  # of "sgd" and "lars"
    config.optimizer.betas = (0.9, 0.999)  # of "adamw"
    config.optimizer.nesterov = False
    config.optimizer.weight_decay = 1e-4
    # Whether biases, norms, position embeddings and class tokens decay as kernels do.
    config.optimizer.decay_vectors = True
    # Greatest norm of the whole gradient; None: as it comes.
    config.optimizer.clip_norm = config_dict.placeholder(float)
    config.optimizer.schedule = "cosine"  # "cosine", "step" or "constant"
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.decay_epochs = (30.0, 60.0)  # of "step"
    config.optimizer.decay_rate = 0.1  # of "step"

    config.data = ConfigDict()
    config.data.source = "folder"  # or "tfds"
    config.data.name = config_dict.placeholder(str)  # of the TFDS data set
    # Root of the folder, or TFDS data directory (None: TFDS's default).
    config.data.path = config_dict.placeholder(str)
    config.data.train_split = "train"  # "": the folders of the path are the classes
    config.data.test_split = "test"  # of a folder also "val", "valid", "validation"
    # Of folders <path>/<class>/<image>, which have no splits: the part of every class
    # that is the test split, and what it is drawn with (whatever config.seed is).
    config.data.test_fraction = 0.2
    config.data.split_seed = 0
    config.data.examples_per_class = 0  # of the training split; 0: all
    config.data.holdout = 0  # training images kept aside, for config.select = "best"
    config.data.on_error = "raise"  # or "skip" unreadable images, at most 1 %
    # An image file that declares more pixels is refused before it takes memory.
    config.data.max_pixels = 100_000_000
    # Whether all images lie on the device, from where batches are gathered. None: if
    # they fit into 2 GiB and image_size is None.
    config.data.on_device = config_dict.placeholder(bool)
    config.data.threads = config_dict.placeholder(int)  # that decode; None: all cores
    config.data.workers = 0  # processes of so many threads each; 0: only threads

    # On the host. With a size, training takes random-resized crops (Szegedy et al.
    # 2015) and evaluation the centre after a resize of the shorter side; None: images
    # are used as they are and must be of one size.
    config.data.image_size = config_dict.placeholder(int)
    config.data.resize_size = config_dict.placeholder(int)  # None: 256/224 of the size
    config.data.crop_scale = (0.08, 1.0)  # range of a crop's share of the area
    config.data.crop_ratio = (3 / 4, 4 / 3)  # range of its width over its height
    config.data.interpolation = "bilinear"  # or "bicubic"; both with antialiasing
    # Strengths of brightness, contrast, saturation and hue.
    config.data.color_jitter = (0.0, 0.0, 0.0, 0.0)
    config.data.rand_augment_layers = 0
    config.data.rand_augment_magnitude = 9

    # On the device, inside the step.
    config.data.mean = (0.5,)  # per channel or one for all, of pixels in [0, 1]
    config.data.std = (0.25,)
    config.data.crop_padding = 0  # pixels around a random crop of the image's size
    config.data.flip = False  # left and right, half of the time
    config.data.cutout = 0  # side of a square that is blanked, in pixels
    config.data.mixup_alpha = 0.0  # 0: none; with both, each image takes one of them
    config.data.cutmix_alpha = 0.0

    # Random images instead of the data set, for dry runs and benchmarks.
    config.data.synthetic = False
    config.data.synthetic_shape = (32, 32, 3)
    config.data.synthetic_classes = 10
    config.data.synthetic_examples = 512  # of each split
    return config.lock()
