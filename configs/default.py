"""Every configuration key, its meaning and its default; the other configs change few.

This is not an experiment: it names no data set. `main.py --help` prints these comments.
`clonalnet_jax/training/checks.py` states which values each key may have.
"""

from ml_collections import ConfigDict, config_dict


def get_config() -> ConfigDict:
    """Returns the defaults, locked: an unknown key is an error with a suggestion."""
    config = ConfigDict()
    # The seed of everything random: initialisation, order of the images, augmentation.
    config.seed = 0
    # The number of images in one step, over all devices together.
    config.batch_size = 128
    # The length of every run, in passes over the training images. It may be a fraction.
    config.epochs = 30.0
    # The length of every run in steps, in place of epochs. None: epochs decide.
    config.steps = config_dict.placeholder(int)
    # The methods to train after the baseline, all from the same random initialisation:
    # "clone", "cross_entropy" (plain retraining), "label_smoothing", "distillation",
    # "dkd" (decoupled distillation, CVPR 2022), "logit_standardisation" (CVPR 2024),
    # "dist" (NeurIPS 2022), "born_again" (ICML 2018), "teacher_free" (CVPR 2020),
    # "clone_without_difference", "clone_without_attention", "clone_without_negentropy".
    # Or a loss of your own by its import path, such as "my_losses:margin", a function
    # (logits, baseline_logits, labels) -> loss; see docs/networks.md.
    config.methods = ("clone",)
    # Methods with settings of their own, for config.methods to name: lines such as
    # "softer = distillation distillation.temperature=8 distillation.weight=0.5".
    config.variants = ()
    # The type that networks compute in: "float32", or "bfloat16", which is faster on a
    # TPU or GPU. Parameters are float32 in either case.
    config.compute_dtype = "float32"
    # The type that gradients of a network in bfloat16 have, and in which devices add
    # them up: "float32", or "bfloat16", which sends half the bytes and rounds every sum
    # to 8 bits. It concerns the networks of this package; one of your own decides for
    # itself.
    config.gradient_dtype = "float32"
    # The decay of a moving average of the network's variables, such as 0.999. The
    # average is then what is evaluated, saved and exported. 0: no average.
    config.ema_decay = 0.0
    # The number of parts that a batch is computed in, one after the other, to save
    # memory. Batch norm sees one part at a time.
    config.accumulate_steps = 1
    # The number of steps in one program, so that a TPU or GPU waits less for its host.
    # On a CPU every step is a program of its own, whatever this says.
    config.steps_per_call = 1
    config.partition = ConfigDict()
    # Whether parameters and optimiser state are split over the devices (FSDP, ZeRO
    # stage 3), to save memory. False: every device has a copy.
    config.partition.fsdp = False
    # The number of devices that the classes are split over, within each process. It is
    # meant for very many classes. 1: they are not split.
    config.partition.model = 1
    # The minutes without a finished step after which the program prints the stacks of
    # all threads and exits, for a scheduler to start it again. 0: never.
    config.watchdog_minutes = 30.0
    # The number of steps that jax.profiler traces into <workdir>/<run>/profile, in
    # every run, after its first ten. 0: none.
    config.profile_steps = 0
    # Whether the operation that first makes a NaN is looked for and named. It is slow.
    config.debug_nans = False
    # Whether a GPU gives the same bits in every run. It is slower. A CPU always does.
    config.deterministic = False
    # The number of steps between two lines of the log, metrics.jsonl. Where the output
    # is no terminal, they are printed, too, but not more often than every five seconds.
    config.log_every_steps = 50
    # The number of epochs between two checkpoints, each with an evaluation. The end of
    # a run is always saved.
    config.checkpoint_every_epochs = 1.0
    # Whether every network is given one temperature, fitted on the images of
    # config.data.holdout and folded into its classifier, so that its probabilities can
    # be trusted. Its answers stay the same. Without such images nothing is done.
    config.calibrate = True
    # The checkpoint that is reported: "last", or "best", the one that is best on the
    # images of config.data.holdout.
    config.select = "last"

    # The network that the clone is to improve on.
    config.baseline = ConfigDict()
    # The name of a network; `python -m clonalnet_jax.models` lists them. Or the import
    # path of your own, such as "my_nets:SmallNet"; see docs/networks.md.
    config.baseline.model = "resnet20"
    # Options of that network, such as --config.baseline.options.width=16.
    config.baseline.options = ConfigDict()
    # The directory of a finished run, such as runs/digits/baseline, to take the
    # baseline from. None: it is trained first, unless weights are given.
    config.baseline.checkpoint = config_dict.placeholder(str)
    # The weights to take the baseline from: a .pth, .safetensors, msgpack or .npz file,
    # a checkpoint of Orbax, a folder of the Hugging Face hub,
    # "hf:<organisation>/<repository>", "timm:<name>" or "torchvision:<name>". Their
    # classes must be the data's, in the same order. None: no such weights.
    config.baseline.weights = config_dict.placeholder(str)
    # Where the network lies in that file, such as "state_dict_ema" for an average of
    # it: a key, keys joined by "/", or how its names begin. "": the usual places, the
    # network itself before its averages.
    config.baseline.weights_key = ""
    # Whether the classifier of baseline.weights is replaced by a new one, for other
    # classes. The baseline is then trained first, from these weights.
    config.baseline.replace_head = False
    # Whether batch norm is folded into the convolutions of the frozen baseline that
    # answers while a clone is trained. It saves time and changes only the rounding.
    config.baseline.fold_batch_norm = True
    # The type that the frozen baseline computes in: "float32" or "bfloat16". None: that
    # of config.compute_dtype.
    config.baseline.compute_dtype = config_dict.placeholder(str)
    # Whether the baseline's answers are computed once, kept in files, and read by every
    # "clone" method. "none": they are computed in every step. "views": there is one for
    # each augmented image of the run, which pays off from the second method on.
    # "images": there is one for each image without augmentation, which pays off within
    # a run, but is not what the authors do.
    config.baseline.cache = "none"
    # The directory where the cache keeps its files, which several workdirs may share.
    # None: the folder baseline_cache of the workdir.
    config.baseline.cache_dir = config_dict.placeholder(str)
    # The number of probabilities that the cache keeps of each answer, the greatest.
    config.baseline.cache_top_k = 16
    # The least top-1 accuracy of the baseline on the test split, in percent. Below it
    # no clone is trained. None: what always naming the commonest class may reach by
    # luck.
    config.baseline.min_top1 = config_dict.placeholder(float)

    # The network that every method of config.methods trains.
    config.clone = ConfigDict()
    # The name of a network, usually the baseline's or a smaller one.
    config.clone.model = "resnet20"
    # Options of that network, such as --config.clone.options.width=16.
    config.clone.options = ConfigDict()

    # The focusing-picking loss. The defaults are the authors'.
    config.loss = ConfigDict()
    # What the baseline's logits are divided by before the confusing categories are
    # picked. A higher temperature picks more of them.
    config.loss.temperature = 2.0
    # The share of every label that is spread over all classes, 0 to 1. The method
    # "label_smoothing" uses it, too.
    config.loss.label_smoothing = 0.1
    # The weight of the attention term, which focuses on the confusing categories.
    config.loss.attention_weight = 1.0
    # The weight of the negentropy term, the sum of p log p over the clone's answer.
    config.loss.negentropy_weight = 1.0

    # "distillation": (1 - weight) CE + weight T^2 KL, with T the temperature.
    config.distillation = ConfigDict()
    # What the logits of both networks are divided by in the KL divergence.
    config.distillation.temperature = 4.0
    # The share of the KL divergence in the loss, 0 to 1.
    config.distillation.weight = 0.9

    # "dkd": cross_entropy_weight CE + T^2 (target_weight KL of the label against the
    # rest + non_target_weight KL among the rest). The defaults are its authors' for
    # CIFAR-100.
    config.dkd = ConfigDict()
    # What the logits of both networks are divided by in the KL divergences.
    config.dkd.temperature = 4.0
    # The weight of the cross-entropy with the labels.
    config.dkd.cross_entropy_weight = 1.0
    # The weight of the divergence in how probable the label is.
    config.dkd.target_weight = 1.0
    # The weight of the divergence among all other classes.
    config.dkd.non_target_weight = 8.0
    # The number of epochs in which the weight of both divergences rises from 0. 0: they
    # have it from the start.
    config.dkd.warmup_epochs = 20.0

    # "logit_standardisation": cross_entropy_weight CE + weight T^2 KL of standardised
    # logits. The defaults are its authors'.
    config.logit_standardisation = ConfigDict()
    # What the standardised logits of both networks are divided by.
    config.logit_standardisation.temperature = 2.0
    # The weight of the cross-entropy with the labels.
    config.logit_standardisation.cross_entropy_weight = 0.1
    # The weight of the KL divergence.
    config.logit_standardisation.weight = 9.0

    # "dist": cross_entropy_weight CE + T^2 (inter_weight (1 - correlation of the
    # probabilities of an example) + intra_weight (1 - correlation of those of a class
    # over the batch)). The defaults are its authors' for CIFAR-100.
    config.dist = ConfigDict()
    # What the logits of both networks are divided by.
    config.dist.temperature = 4.0
    # The weight of the cross-entropy with the labels.
    config.dist.cross_entropy_weight = 1.0
    # The weight of the correlation within each example.
    config.dist.inter_weight = 2.0
    # The weight of the correlation within each class.
    config.dist.intra_weight = 2.0

    # "born_again": cross_entropy_weight CE + KL, at temperature 1.
    config.born_again = ConfigDict()
    # The weight of the cross-entropy with the labels. 0: the baseline's answers alone.
    config.born_again.cross_entropy_weight = 0.0

    # "teacher_free": (1 - weight) CE + weight KL from a teacher that is made up: it
    # gives the label correct_probability, the others the rest, and is softened by T.
    config.teacher_free = ConfigDict()
    # What the made-up probabilities are divided by before their softmax.
    config.teacher_free.temperature = 20.0
    # The share of the KL divergence in the loss, 0 to 1.
    config.teacher_free.weight = 0.1
    # What the made-up teacher gives the label, 0 to 1.
    config.teacher_free.correct_probability = 0.99

    # What --mode=compare trains.
    config.compare = ConfigDict()
    # The number of seeds: config.seed, config.seed + 1, and so on.
    config.compare.seeds = 5
    # The methods to compare. They stand in for config.methods.
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

    # What --mode=tune tries.
    config.tune = ConfigDict()
    # The methods whose settings are tried.
    config.tune.methods = ("distillation", "clone")
    # The values that are tried: a key of config.loss, of a method's own section or of
    # config.optimizer, and a list. A method is tried with every combination of the keys
    # that it reads.
    config.tune.space = (
        "loss.temperature=1,2,4",
        "loss.attention_weight=0.5,1",
        "loss.negentropy_weight=0.3,1",
        "distillation.temperature=1,2,4,8",
        "distillation.weight=0.5,0.7,0.9",
        "dkd.temperature=1,2,4",
        "dkd.non_target_weight=1,2,4,8",
        "logit_standardisation.temperature=1,2,4",
        "logit_standardisation.weight=1,3,6,9",
        "dist.temperature=1,2,4",
        "dist.inter_weight=1,2",
        "dist.intra_weight=1,2",
        "born_again.cross_entropy_weight=0,0.5,1",
        "teacher_free.weight=0.05,0.1,0.3,0.5",
        "teacher_free.temperature=10,20,40",
    )
    # The number of settings of each method, at most. A larger grid is sampled.
    config.tune.budget = 12
    # "grid", or "optuna", which proposes settings by what it has seen.
    config.tune.search = "grid"
    # The number of seeds: config.seed, config.seed + 1, and so on.
    config.tune.seeds = 1
    # The share of the training images that are held out to be tested on.
    config.tune.holdout = 0.2

    # What --mode=plan looks at.
    config.plan = ConfigDict()
    # The number of training images, to plan without the data set; images and classes
    # are then those of config.data.synthetic_shape and .synthetic_classes. None: the
    # data set is opened.
    config.plan.train_images = config_dict.placeholder(int)
    # The programs that are compiled: a step without a "baseline", one with it
    # ("clone"), one with its "cached" answers, and a batch of an "evaluation".
    config.plan.programs = ("baseline", "clone", "cached", "evaluation")
    # Whether the largest batch that fits is looked for, which takes several
    # compilations more.
    config.plan.find_batch = True

    # The optimiser, the same for all runs.
    config.optimizer = ConfigDict()
    # "sgd", "adamw" or "lars".
    config.optimizer.name = "sgd"
    # The highest learning rate: after the warm-up, before the schedule lowers it.
    config.optimizer.learning_rate = 0.1
    # The momentum of "sgd" and "lars".
    config.optimizer.momentum = 0.9
    # The decay rates of the two moving averages of "adamw".
    config.optimizer.betas = (0.9, 0.999)
    # Whether the momentum is Nesterov's.
    config.optimizer.nesterov = False
    # The factor of the weight decay.
    config.optimizer.weight_decay = 1e-4
    # Whether biases, norms, position embeddings and class tokens decay as kernels do.
    config.optimizer.decay_vectors = True
    # The greatest norm of the whole gradient; a longer one is shortened to it. None: no
    # limit.
    config.optimizer.clip_norm = config_dict.placeholder(float)
    # How the learning rate falls: "cosine" (to 0), "step" or "constant".
    config.optimizer.schedule = "cosine"
    # The number of epochs in which the learning rate first rises in a line. 0: none.
    config.optimizer.warmup_epochs = 0.0
    # With "step": the epochs after which the rate falls, counted from the start.
    config.optimizer.decay_epochs = (30.0, 60.0)
    # With "step": what the rate is multiplied by each time.
    config.optimizer.decay_rate = 0.1

    # The data set, and where it lies.
    config.data = ConfigDict()
    # "folder" (of class folders), "manifest" (a table of images, as CSV or Parquet),
    # "arrays" (NumPy's files), "shards" (tar archives, as WebDataset has them) or
    # "tfds" (a prepared data set).
    config.data.source = "folder"
    # With "tfds": the name of the data set.
    config.data.name = config_dict.placeholder(str)
    # The root of the folder; the manifest, or the folder of train.csv and test.csv; the
    # .npz file, or the folder of .npy files; the folder of the shards; or the directory
    # of the TFDS data sets. None: TFDS's own.
    config.data.path = config_dict.placeholder(str)
    # The file that names the classes in the order of the labels, for weights of another
    # order than the data's: a name a line, or JSON; see docs/data.md. None: the order
    # of their names.
    config.data.class_file = config_dict.placeholder(str)
    # The training split. An empty name says that a folder has no splits: the folders in
    # its root are the classes.
    config.data.train_split = "train"
    # The test split. In a folder, "test", "val", "valid" and "validation" stand for
    # each other.
    config.data.test_split = "test"
    # In a folder, manifest or arrays without splits: the share of every class that
    # becomes the test split.
    config.data.test_fraction = 0.2
    # The seed that draws test_fraction. It is not config.seed, so that all runs are
    # tested on the same images.
    config.data.split_seed = 0
    # The number of training images that are used of each class, the first ones. 0: all.
    config.data.examples_per_class = 0
    # The training images that are kept aside, for config.calibrate and
    # config.select = "best": their number or, below 1, their share. 0: none.
    config.data.holdout = 0.0
    # The images that all figures are measured on: "test", or "holdout", those of
    # config.data.holdout, so that settings can be tried without a look at the test
    # split. --mode=tune does that.
    config.data.test_on = "test"
    # What follows an image that cannot be read: "raise" ends the run; "skip" goes on,
    # as long as at most 1 % are skipped.
    config.data.on_error = "raise"
    # The greatest number of pixels that an image file may declare. A larger one is
    # refused before it takes memory.
    config.data.max_pixels = 100_000_000
    # Whether all images lie decoded on the device. None: if they fit into 2 GiB and
    # image_size is None.
    config.data.on_device = config_dict.placeholder(bool)
    # The number of threads that decode images. None: one for every core.
    config.data.threads = config_dict.placeholder(int)
    # The number of processes that decode images, each with data.threads threads. 0: the
    # program itself decodes.
    config.data.workers = 0

    # What the host does with every image.

    # The side of the images in pixels, cut from larger ones: random-resized crops in
    # training (Szegedy et al. 2015), the centre in evaluation. None: images are used as
    # they are, and must all have one size.
    config.data.image_size = config_dict.placeholder(int)
    # The pixels that the shorter side is resized to in evaluation, before the centre is
    # cut out. None: 256/224 of image_size.
    config.data.resize_size = config_dict.placeholder(int)
    # The least and the greatest share of an image's area that a random crop has.
    config.data.crop_scale = (0.08, 1.0)
    # The least and the greatest ratio of a random crop's width to its height.
    config.data.crop_ratio = (3 / 4, 4 / 3)
    # How images are resized: "bilinear" or "bicubic", both with antialiasing.
    config.data.interpolation = "bilinear"
    # The strengths of random changes in brightness, contrast, saturation and hue, as
    # torchvision's ColorJitter defines them. 0: none.
    config.data.color_jitter = (0.0, 0.0, 0.0, 0.0)
    # The number of RandAugment operations that each training image goes through. 0:
    # none.
    config.data.rand_augment_layers = 0
    # The strength of the RandAugment operations, 0 to 30.
    config.data.rand_augment_magnitude = 9

    # Whether image_size, resize_size, interpolation, mean and std are taken from where
    # the author of config.baseline.weights has written them: timm's config.json, a
    # preprocessor_config.json, or torchvision's recipes. Values that the config names,
    # too, must be the same.
    config.data.like_weights = False

    # What the device does with every batch, inside the step.

    # The mean that is subtracted from the pixels, which lie in [0, 1]: one value for
    # each channel, or one for all.
    config.data.mean = (0.5,)
    # The standard deviation that the pixels, less their mean, are divided by: one value
    # for each channel, or one for all.
    config.data.std = (0.25,)
    # The number of pixels by which a training image is padded on each side, before a
    # random crop of its own size is cut out. 0: none.
    config.data.crop_padding = 0
    # Whether training images are mirrored, left to right, half of the time.
    config.data.flip = False
    # The side, in pixels, of a square of every training image that is blanked. 0: none.
    config.data.cutout = 0
    # The alpha of mixup: larger values mix two images more evenly. 0: none. With both
    # mixup and cutmix, each image takes one of them.
    config.data.mixup_alpha = 0.0
    # The alpha of cutmix, which pastes a box of another image. 0: none.
    config.data.cutmix_alpha = 0.0

    # Whether random images stand in for the data set, for dry runs and benchmarks.
    config.data.synthetic = False
    # The height, width and channels of the random images.
    config.data.synthetic_shape = (32, 32, 3)
    # The number of their classes.
    config.data.synthetic_classes = 10
    # The number of them in each split.
    config.data.synthetic_examples = 512
    return config.lock()
