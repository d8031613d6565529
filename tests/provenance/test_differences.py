"""What differs between two environments is a change; what one of them does not know is none."""

from mnist_jax import events
from mnist_jax.provenance import differences


def test_devices_that_were_not_known_are_no_change():
    known = events.Environment({"python": "3.12", "device": "cpu", "devices": 1, "packages/jax": "0.8"})
    unknown = events.Environment({"python": "3.12"})
    assert list(differences.between(known, unknown)) == ["packages/jax changed from 0.8 to None"]
    assert list(differences.between(unknown, known)) == ["packages/jax changed from None to 0.8"]
    other = events.Environment({**known.facts, "devices": 4})
    assert list(differences.between(known, other)) == ["devices changed from 1 to 4"]
