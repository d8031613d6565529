"""A multilayer perceptron on MNIST.

    python run.py --config=configs/mlp.py --tracker=neptune,comet    MNIST, 10 epochs
    python run.py --config=configs/mlp.py:digits                     scikit-learn's digits, embedded: no network needed
    python run.py --config=configs/mlp.py:fast                       MNIST in one epoch, about 2 seconds
    python run.py --config=configs/mlp.py:best                       MNIST, a wider network, 40 epochs of randomly warped images

On two CPU cores: MNIST 98.6% in about 15 seconds of training, digits 97% in about 5.
"""

from ml_collections import ConfigDict


def get_config(which: str = "mnist") -> ConfigDict:
    """Return the config for a data set, mnist, fashion_mnist, kmnist or digits; or of a recipe for MNIST, fast or best."""
    dataset = "mnist" if which in ("fast", "best") else which
    config = ConfigDict()
    config.name = f"mlp-{which}"
    config.seed = 0
    config.epochs = 10
    config.batch_size = 128
    config.precision = "float32"  # float32 | bfloat16 | highest (float32 without TF32 on GPU)
    config.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.name = "mlp"
    config.model.hidden = (512, 512)
    config.model.hidden_dropout = 0.2

    config.optimizer = ConfigDict()
    config.optimizer.name = "adamw"  # adamw | sgd
    config.optimizer.learning_rate = 2e-3  # the peak
    config.optimizer.schedule = "one_cycle"  # one_cycle | constant
    config.optimizer.momentum = 0.9  # AdamW's first decay rate, SGD's momentum
    config.optimizer.weight_decay = 1e-2

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
        config.model.hidden_dropout = 0.0
    if which == "fast":
        config.epochs = 1
        config.batch_size = 32
    if which == "best":
        config.epochs = 40
        config.model.hidden = (1024, 512)
        config.augmentation.update(shift=2.0, rotation=12.0, scale=0.12, elastic=1.0)
    return config
