"""Runs inside a model file, with jax, flatbuffers and numpy only: python FILE.model.zip images.npy [--logits=out.npy]

    images.npy    uint8[N, 28, 28, 1], 0 is background

A model file is a plain zip; copy load() below to read it in a program.
"""

import io
import json
import sys
import zipfile


def load(path):
    """Return (facts, logits), where logits maps uint8[N, 28, 28, 1] to float32[N, 10]."""
    import jax
    import numpy as np

    with zipfile.ZipFile(path) as archive:
        facts = json.loads(archive.read("model.json"))
        parameters = {name[len("parameters/"):-len(".npy")]: np.load(io.BytesIO(archive.read(name)))
                      for name in archive.namelist() if name.startswith("parameters/")}
        program = archive.read("predict.stablehlo")
    try:
        from jax import export

        exported = export.deserialize(bytearray(program))
    except Exception as error:  # jax raises several kinds for a newer format
        if "flatbuffers" in str(error):
            sys.exit(f"{path}: expected the package flatbuffers, found that it is not installed; run: pip install flatbuffers")
        sys.exit(f"{path}: expected a program that jax {jax.__version__} can read, found one of jax {facts['jax']}; "
                 f"run: pip install 'jax>={facts['jax']}'")
    return facts, lambda images: np.asarray(exported.call(parameters, images))


def main():
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith("--logits=")]
    if len(arguments) != 1:
        sys.exit(f"usage: python {sys.argv[0]} images.npy [--logits=out.npy]    images: uint8[N, 28, 28, 1], 0 is background")
    import numpy as np

    _, logits = load(sys.argv[0])
    result = logits(np.load(arguments[0]))
    for argument in sys.argv[1:]:
        if argument.startswith("--logits="):
            np.save(argument.partition("=")[2], result)
    for row in result:
        print(row.argmax())


if __name__ == "__main__":
    main()
