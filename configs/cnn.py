"""A convolutional network on MNIST.

    python run.py --config=configs/cnn.py --tracker=neptune,comet    MNIST, 10 epochs
    python run.py --config=configs/cnn.py:digits                     scikit-learn's digits, embedded: no network needed
    python run.py --config=configs/cnn.py:fast                       MNIST to over 99% in one epoch, seconds
    python run.py --config=configs/cnn.py:best                       MNIST, 20 epochs of randomly warped images

On two CPU cores: MNIST 99.4% in about 2.5 minutes, digits 99% in about 20 seconds.
"""

from ml_collections import ConfigDict


def get_config(which: str = "mnist") -> ConfigDict:
    """Return the config for a data set, mnist, fashion_mnist, kmnist or digits; or of a recipe for MNIST, fast or best."""
    dataset = "mnist" if which in ("fast", "best") else which
    config = ConfigDict()
    config.name = f"cnn-{which}"
    config.seed = 0
    config.epochs = 10
    config.batch_size = 128
    config.precision = "float32"  # float32 | bfloat16 | highest (float32 without TF32 on GPU)
    config.label_smoothing = 0.0

    config.model = ConfigDict()
    config.model.name = "cnn"
    config.model.features = (32, 64)
    config.model.hidden = 256
    config.model.features_dropout = 0.25
    config.model.hidden_dropout = 0.5

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # adamw | sgd
    config.optimizer.learning_rate = 2e-3  # the peak
    config.optimizer.schedule = "one_cycle"  # one_cycle | constant
    config.optimizer.momentum = 0.9  # AdamW's first decay rate, SGD's momentum
    config.optimizer.weight_decay = 1e-4

    config.augmentation = ConfigDict()  # limits of the random warps of training images; all 0: none
    config.augmentation.shift = 0.0  # pixels
    config.augmentation.rotation = 0.0  # degrees
    config.augmentation.scale = 0.0  # share of the size
    config.augmentation.elastic = 0.0  # pixels

    config.dataset = ConfigDict()
    config.dataset.name = dataset
    config.dataset.data_dir = ""  # "": TFDS_DATA_DIR, ~/tensorflow_datasets, then download; or a TFDS or IDX folder
    config.dataset.validation_examples = 5_000
    config.dataset.split_seed = 0
    config.dataset.keep = False  # record the data itself as an artifact, which is synced to the trackers

    config.checkpoint = ConfigDict()
    config.checkpoint.every_s = 30.0  # seconds between two checkpoints, at least; 0: after every chunk
    config.checkpoint.keep = 2  # the newest ones

    if dataset == "digits":
        config.epochs = 40
        config.batch_size = 32
        config.dataset.validation_examples = 180
    if which in ("fast", "best"):  # tuned on held-out images; here all 60,000 are trained on
        config.dataset.validation_examples = 0
        config.label_smoothing = 0.1
        config.model.features_dropout = config.model.hidden_dropout = 0.0
    if which == "fast":
        config.epochs = 1
        config.batch_size = 64
        config.optimizer.learning_rate = 8e-3
    if which == "best":
        config.epochs = 20
        config.optimizer.learning_rate = 6e-3
        config.augmentation.update(shift=2.0, rotation=12.0, scale=0.12, elastic=0.5)
    return config
