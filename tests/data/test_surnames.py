"""The names of ten languages, and their letters as numbers."""

import importlib.util

import numpy as np
import pytest

from minitorch_flux.data import embed, encode_names, names
from minitorch_flux.data.embedded import read_embedded


def test_the_names_and_their_split():
    data = names()
    assert len(data.classes) == 10
    assert len(data.train.names) + len(data.test.names) == 7526
    assert not set(data.train.names) & set(data.test.names)
    assert len(set(data.train.names + data.test.names)) == 7526  # no name is of two languages
    for split in (data.train, data.test):
        assert len(split.names) == len(split.labels)
        assert split.labels.dtype == np.int64
        assert sorted(set(split.labels.tolist())) == list(range(10))
        assert all(name.isascii() and name.isalpha() and name.islower() for name in split.names)
    for label in range(10):
        train, test = ((split.labels == label).sum() for split in (data.train, data.test))
        assert test == (train + test) // 5
    label_of = dict(zip(data.train.names + data.test.names, np.concatenate([data.train.labels, data.test.labels]), strict=True))
    assert [data.classes[label_of[name]] for name in ("abatantuono", "aaltonen", "achleitner", "abellan")] == [
        "Italian", "Finnish", "German", "Spanish"]
    assert repr(data) == "NameDataset(6024 training and 1502 test names, 10 languages)"


def test_letters_as_numbers():
    letters, lengths = encode_names(["abz", "c"])
    np.testing.assert_array_equal(letters, [[1, 3], [2, 0], [26, 0]])
    np.testing.assert_array_equal(lengths, [3, 1])
    assert encode_names([])[0].shape == (0, 0)
    with pytest.raises(ValueError, match="'o-hara' has the character '-', which is not one of a to z"):
        encode_names(["abc", "o-hara"])


@pytest.mark.skipif(importlib.util.find_spec("faker") is None, reason="faker, the source of the names, is not installed")
def test_the_file_can_be_made_again():
    import faker

    if faker.VERSION != "40.54.0":
        pytest.skip(f"faker {faker.VERSION} has other lists than 40.54.0")
    assert embed.names().encode() == read_embedded("names.txt")
