"""The names of the metrics that training records: split/quantity. Defined once."""

TRAIN_LOSS, TRAIN_ACCURACY = "train/loss", "train/accuracy"  # a value a step
EPOCH_LOSS, EPOCH_ACCURACY = "train/epoch_loss", "train/epoch_accuracy"  # a value an epoch, and so the next two
VALIDATION_LOSS, VALIDATION_ACCURACY = "validation/loss", "validation/accuracy"
TEST_LOSS, TEST_ACCURACY = "test/loss", "test/accuracy"  # once, at the end
