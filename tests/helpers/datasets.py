"""Data sets on disk: IDX files, and MNIST as TFDS prepares it, without TensorFlow, which TFDS itself needs for that."""

import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from mnist_jax.data import splits

VERSION = "3.0.1"


def write(data_dir: Path, arrays: dict[str, tuple[np.ndarray, np.ndarray]]) -> Path:
    """Write split -> (uint8[N, 28, 28, 1], int[N]) as TFDS's mnist; return the folder of the version."""
    folder = data_dir / "mnist" / VERSION
    folder.mkdir(parents=True)
    infos = []
    for split, (images, labels) in arrays.items():
        rows = [_example(image, int(label)) for image, label in zip(images, labels, strict=True)]
        writer = ArrayRecordWriter(str(folder / f"mnist-{split}.array_record-00000-of-00001"), "group_size:1")
        for row in rows:
            writer.write(row)
        writer.close()
        infos.append({"name": split, "shardLengths": [str(len(rows))], "numBytes": str(sum(map(len, rows))),
                       "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"})
    features = {"image": _feature("image_feature.Image", image={"shape": {"dimensions": ["28", "28", "1"]}, "dtype": "uint8"}),
                "label": _feature("class_label_feature.ClassLabel", classLabel={"numClasses": "10"})}
    together = _feature("features_dict.FeaturesDict", featuresDict={"features": features})
    (folder / "features.json").write_text(json.dumps(together))
    (folder / "dataset_info.json").write_text(json.dumps({"name": "mnist", "version": VERSION, "fileFormat": "array_record",
                                                          "splits": infos}))
    return folder


def _example(image: np.ndarray, label: int) -> bytes:
    example, png = tf_example_pb2.Example(), io.BytesIO()
    Image.fromarray(image[..., 0]).save(png, "png")
    example.features.feature["image"].bytes_list.value.append(png.getvalue())
    example.features.feature["label"].int64_list.value.append(label)
    return bytes(example.SerializeToString())


def _feature(kind: str, **of: Any) -> dict[str, Any]:
    return {"pythonClassName": f"tensorflow_datasets.core.features.{kind}", **of}


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write uint8 values as an IDX file, gzipped if the name ends so."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def load(folder: Path | str, name: str = "mnist", validation_examples: int = 100, split_seed: int = 0) -> splits.Splits:
    """Load a data set with 100 examples held out."""
    return splits.load_data(name, str(folder), validation_examples, split_seed)


def digests(loaded: splits.Splits) -> list[str]:
    """Return the digests of all three splits."""
    return [split.digest for split in (loaded.train, loaded.validation, loaded.test)]
