"""A trained GRU that says how English words are pronounced, as a model of this library; the words of the package's own code.

The package g2p-en (Apache-2.0) keeps its weights in an .npz file and runs them by a few lines of NumPy, which are taken from
its source here: importing it would ask for more packages and for files from the net.
"""

import ast
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import minitorch_flux as flux

from .trained_files import trained_file

FILE = "g2p_en", "checkpoint20.npz", "b8af35e4596d8dd5"
WORDS = ["activation", "tensor", "gradient", "minitorch", "flux", "backpropagation", "zebra", "quixotic", "rhythm", "a", "x",
         "kernel", "convolution", "unbelievable", "photosynthesis", "naïve", "o'clock", ""]  # fmt: skip
BEGIN, END, LONGEST = 2, 3, 20


class Speaker(flux.Module):
    """Letters (T, N) with the lengths of the words (N,) to the numbers of phonemes, a list for each word."""

    def __init__(self, letters=29, phonemes=74, width=256):
        self.letters = flux.Embedding(letters, width)
        self.encoder = flux.GRU(width, width, hidden_bias=True)
        self.phonemes = flux.Embedding(phonemes, width)
        self.decoder = flux.GRUCell(width, width, hidden_bias=True)
        self.scores = flux.Dense(width, phonemes)

    def __call__(self, letters, lengths):
        self.encoder(self.letters(letters), lengths=lengths)
        h, last = self.encoder.state, np.full(len(lengths), BEGIN)
        said = [[] for _ in lengths]
        for _ in range(LONGEST):
            h, y = self.decoder(h, self.phonemes(last))
            last = self.scores(y).numpy().argmax(1)
            for word, phoneme in zip(said, last, strict=True):
                if not (word and word[-1] == END):
                    word.append(int(phoneme))
        return [word[:-1] if word[-1] == END else word for word in said]


NAMES = {
    "enc_emb": "letters.weight", "dec_emb": "phonemes.weight", "fc_w": "scores.weight", "fc_b": "scores.bias",
    **{f"enc_{a}": f"encoder.{b}_l0" for a, b in
       (("w_ih", "weight_ih"), ("w_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh"))},
    **{f"dec_{a}": f"decoder.{b}" for a, b in
       (("w_ih", "weight_ih"), ("w_hh", "weight_hh"), ("b_ih", "bias_ih"), ("b_hh", "bias_hh"))},
}  # fmt: skip


@pytest.fixture(scope="module")
def path():
    return trained_file(*FILE)


@pytest.fixture(scope="module")
def package(path):
    """The package's class, from its source."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its source has a wrong escape
        tree = ast.parse((path.parent / "g2p.py").read_text())
    body = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    names = {"np": np, "os": __import__("os"), "dirname": str(path.parent), "cmudict": SimpleNamespace(dict=dict),
             "construct_homograph_dictionary": dict}
    exec(compile(ast.Module(body, []), str(path.parent / "g2p.py"), "exec"), names)
    return names["G2p"]()


@pytest.fixture(scope="module")
def model(path):
    m = Speaker()
    report = flux.load_torch(m, path, rename=NAMES)
    assert (report.how, len(report.used)) == ("names", 12)
    assert not [*report.missing, *report.unused, *report.reshaped, *report.misshapen]
    return m


def encoded(words, package):
    """Letters (T, N), padded behind each word's end, and the lengths."""
    numbers = [[package.g2idx.get(c, package.g2idx["<unk>"]) for c in word] + [package.g2idx["</s>"]] for word in words]
    lengths = np.array([len(n) for n in numbers])
    letters = np.zeros((lengths.max(), len(words)), int)
    for i, n in enumerate(numbers):
        letters[: len(n), i] = n
    return letters, lengths


def test_words_are_said_as_the_package_says_them(model, package):
    said = [[package.idx2p[i] for i in word] for word in model(*encoded(WORDS, package))]
    assert said == [package.predict(word) for word in WORDS]
    assert " ".join(said[0]) == "AE2 K T IH0 V EY1 SH AH0 N"
    assert " ".join(said[1]) == "T EH1 N S ER0"


def test_the_states_are_the_packages(model, package):
    """Each letter's state, by the formula in NumPy."""
    letters, _ = encoded(["backpropagation"], package)
    weights = (package.enc_w_ih, package.enc_w_hh, package.enc_b_ih, package.enc_b_hh)
    theirs = package.gru(package.encode("backpropagation"), len(letters), *weights)
    ours = model.encoder(model.letters(letters)).numpy().transpose(1, 0, 2)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_the_states_are_pytorchs(model, path, package):
    torch = pytest.importorskip("torch")
    gru = torch.nn.GRU(256, 256)
    arrays = np.load(path)
    gru.load_state_dict({NAMES[f"enc_{k}"].removeprefix("encoder."): torch.tensor(arrays[f"enc_{k}"])
                         for k in ("w_ih", "w_hh", "b_ih", "b_hh")})
    letters, lengths = encoded(WORDS, package)
    packed = torch.nn.utils.rnn.pack_padded_sequence(torch.tensor(arrays["enc_emb"])[letters], torch.tensor(lengths),
                                                     enforce_sorted=False)
    with torch.no_grad():
        theirs = gru(packed)[1][0].numpy()
    model.encoder(model.letters(letters), lengths=lengths)
    np.testing.assert_allclose(model.encoder.state.numpy(), theirs, rtol=0, atol=1e-5)


def test_each_call_starts_anew(model, package):
    words = encoded(["tensor", "zebra"], package)
    assert model(*words) == model(*words)


def as_onnx(arrays):
    """The trained encoder as an ONNX GRU: gates z, r, h there, r, z, n here."""
    make = pytest.importorskip("onnx").helper
    numpy_helper, proto = pytest.importorskip("onnx").numpy_helper, pytest.importorskip("onnx").TensorProto

    def gates(name):
        r, z, n = np.split(arrays[name], 3)
        return np.concatenate([z, r, n])

    stored = {"table": arrays["enc_emb"], "W": gates("enc_w_ih")[None], "R": gates("enc_w_hh")[None],
              "B": np.concatenate([gates("enc_b_ih"), gates("enc_b_hh")])[None]}
    nodes = [make.make_node("Gather", ["table", "letters"], ["x"]),
             make.make_node("GRU", ["x", "W", "R", "B", "lengths"], ["", "state"], hidden_size=256, linear_before_reset=1)]
    inputs = [make.make_tensor_value_info("letters", proto.INT64, ["T", "N"]),
              make.make_tensor_value_info("lengths", proto.INT32, ["N"])]
    outputs = [make.make_tensor_value_info("state", proto.FLOAT, [1, "N", 256])]
    graph = make.make_graph(nodes, "encoder", inputs, outputs, [numpy_helper.from_array(a, k) for k, a in stored.items()])
    return make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)


def test_the_trained_gru_through_onnx(path, model, package):
    """Words of all lengths in one batch, twice: an imported recurrent layer starts each call from its initial state."""
    onnxruntime = pytest.importorskip("onnxruntime")
    file = as_onnx(np.load(path))
    imported = flux.onnx.load(file)
    letters, lengths = encoded(WORDS, package)
    inputs = {"letters": letters, "lengths": lengths.astype(np.int32)}
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    theirs = session.run(None, inputs)[0]
    for _ in range(2):
        np.testing.assert_allclose(imported(**inputs).numpy(), theirs, rtol=0, atol=1e-5)
    model.encoder(model.letters(letters), lengths=lengths)
    np.testing.assert_allclose(model.encoder.state.numpy(), theirs[0], rtol=0, atol=1e-5)
    few = {"letters": letters[:8, :3], "lengths": np.array([8, 3, 5], np.int32)}  # another batch size right after
    np.testing.assert_allclose(imported(**few).numpy(), session.run(None, few)[0], rtol=0, atol=1e-5)
