"""load_torch: weights of PyTorch find their places, a report says where, and what does not fit changes nothing."""

import warnings

import numpy as np
import pytest

import minitorch_flux as flux
from minitorch_flux import LoadReport, load_torch
from minitorch_flux.nn.state_dicts import StateError

torch = pytest.importorskip("torch")
nn = torch.nn


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def trained(model):
    """A module of PyTorch none of whose numbers is 0 or 1."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for t in model.state_dict().values():
            if t.is_floating_point():
                t.copy_(torch.rand(t.shape, generator=generator) * 0.5 + 0.2)
    return model.eval()


def agrees(ours, theirs, x):
    wanted = theirs(torch.tensor(x)).detach().numpy()
    np.testing.assert_allclose(ours(x).numpy(), wanted, rtol=1e-4, atol=1e-5)


def unchanged(model, before):
    for key, a in model.state_dict().items():
        np.testing.assert_array_equal(a, before[key])


def theirs_and_ours():
    """The same network twice: PyTorch counts its activations, we don't."""
    theirs = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1, bias=False),
                           nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    ours = flux.Chain(flux.Conv((3, 3), 2, 4, pad=1), flux.BatchNorm(4, flux.relu), flux.Conv((1, 1), 4, 4, bias=False),
                      flux.BatchNorm(4, flux.relu), flux.flatten, flux.Dense(64, 3))
    return trained(theirs), ours


X = normal(2, 2, 4, 4)


# -- what can be given -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".pt", ".pth", ".bin", ".ckpt", ".legacy", ".safetensors", ".npz"])
def test_every_kind_of_file(ending, tmp_path):
    theirs, ours = theirs_and_ours()
    path = tmp_path / f"m{ending}"
    if ending == ".safetensors":
        pytest.importorskip("safetensors.torch").save_file(theirs.state_dict(), path)
        report = load_torch(ours, path)
    elif ending == ".npz":
        np.savez(path, **{k: t.numpy() for k, t in theirs.state_dict().items()})
        report = load_torch(ours, path)
    else:
        torch.save(theirs.state_dict(), path, _use_new_zipfile_serialization=ending != ".legacy")
        report = load_torch(ours, str(path))
    agrees(ours, theirs, X)
    assert isinstance(report, LoadReport)
    assert not report.unused
    assert not report.missing


def test_safetensors_have_no_order_but_numbers(tmp_path):
    save_file = pytest.importorskip("safetensors.torch").save_file
    theirs = trained(nn.Sequential(*[m for _ in range(11) for m in (nn.Linear(3, 3), nn.Tanh())]))
    ours = flux.Chain(*[flux.Dense(3, 3, flux.tanh) for _ in range(11)])
    save_file(theirs.state_dict(), tmp_path / "m.safetensors")
    assert load_torch(ours, tmp_path / "m.safetensors").how == "order"  # 2 before 10
    agrees(ours, theirs, normal(5, 3))
    named = nn.ModuleDict({"query": nn.Linear(3, 3), "key": nn.Linear(3, 3)})
    ours = flux.Chain(flux.Dense(3, 3), flux.Dense(3, 3))
    load_torch(ours, named)
    save_file(named.state_dict(), tmp_path / "m.safetensors")
    for keywords in ({}, {"partial": True}):
        with pytest.raises(StateError, match=r"neither names nor order agree: .* a module or a \.pt file if this|nothing in"):
            load_torch(ours, tmp_path / "m.safetensors", **keywords)
    load_torch(ours, tmp_path / "m.safetensors", rename=lambda k: k.replace("query", "0").replace("key", "1"))
    np.testing.assert_array_equal(ours[0].weight.data, named["query"].weight.detach().numpy())


def test_dicts_and_modules(tmp_path):
    theirs, ours = theirs_and_ours()
    state = theirs.state_dict()
    plain = {k: t.numpy() for k, t in state.items()}
    half = {k: t.bfloat16() if t.is_floating_point() else t for k, t in state.items()}
    for source in (state, plain, theirs, {k: flux.Tensor(a) for k, a in plain.items()}, half):
        ours = theirs_and_ours()[1]
        load_torch(ours, source)
        if source is not half:
            agrees(ours, theirs, X)
    np.testing.assert_array_equal(ours[0].weight.data, state["0.weight"].bfloat16().float().numpy())
    for source in (5, [1], None):
        with pytest.raises(TypeError, match=r"the source is a file, a state dict or a module of PyTorch, got a \w+"):
            load_torch(ours, source)
    with pytest.raises(FileNotFoundError):
        load_torch(ours, tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["state_dict", "model", "ema"])
def test_a_state_dict_inside_of_a_larger_file(name, tmp_path):
    theirs, ours = theirs_and_ours()
    opt = torch.optim.Adam(theirs.parameters())
    theirs(torch.tensor(X)).sum().backward()
    opt.step()
    states = {name: theirs.state_dict(), "optimiser": opt.state_dict()}
    torch.save({"epoch": torch.tensor(3), **states, "lr": 0.1}, tmp_path / "x.pt")
    assert load_torch(ours, tmp_path / "x.pt").key == name
    agrees(ours, theirs, X)


def test_several_state_dicts_need_a_key():
    theirs, ours = theirs_and_ours()
    state = theirs.state_dict()
    other = {k: torch.zeros_like(t) for k, t in state.items()}
    load_torch(ours, {"ema": other, "state_dict": state})  # the usual name
    agrees(ours, theirs, X)
    source = {"step": 5, "nets": {"teacher": other, "student": state}}
    with pytest.raises(StateError, match=r"has several \(nets\.teacher, nets\.student\); say which with key=\.\.\."):
        load_torch(ours, source)
    load_torch(ours, source, key="nets.student")
    agrees(ours, theirs, X)
    with pytest.raises(StateError, match=r"key='nets\.x': there is no 'x', only teacher, student"):
        load_torch(ours, source, key="nets.x")
    with pytest.raises(StateError, match=r"of state dicts, the source has none \(only epoch\)"):
        load_torch(ours, {"epoch": 3})
    with pytest.raises(StateError, match="a dict of arrays by name, the source has a int"):
        load_torch(ours, source, key="step")
    with pytest.raises(StateError, match=r"of state dicts, the source has none \(only 3\)"):
        load_torch(ours, {"a": {3: np.ones(1)}}, key="a")
    assert load_torch(ours, source, key="nets.student").key == "nets.student"
    assert str(load_torch(ours, {"x": {"nets": state}})).startswith("loaded 13 arrays from x.nets by order")


# -- by names ----------------------------------------------------------------------------------------------------------


def test_the_same_names():
    theirs, ours = trained(nn.Linear(3, 2)), flux.Dense(3, 2)
    report = load_torch(ours, theirs)
    agrees(ours, theirs, normal(5, 3))
    assert (report.how, report.used) == ("names", {"weight": ("weight",), "bias": ("bias",)})
    assert str(report) == "loaded 2 arrays by names"


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.", "module._orig_mod.", "a.b.c."])
def test_prefixes(prefix):
    theirs = trained(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)))
    ours = flux.Chain(flux.Dense(3, 4), flux.Dense(4, 2))
    report = load_torch(ours, {prefix + k: t for k, t in theirs.state_dict().items()})
    agrees(ours, theirs, normal(5, 3))
    assert report.used["0.weight"] == (f"{prefix}0.weight",)
    one = flux.Dense(4, 2)
    report = load_torch(one, {prefix + k: t for k, t in theirs[1].state_dict().items()})
    assert report.used["weight"] == (f"{prefix}weight",)


def test_a_part_of_a_larger_model():
    theirs = trained(nn.ModuleDict({"encoder": nn.Linear(3, 2), "decoder": nn.Linear(2, 3)}))
    ours = {"encoder": flux.Dense(3, 2)}
    with pytest.raises(StateError, match=r"decoder\.weight: unused"):
        load_torch(ours, theirs)
    report = load_torch(ours, theirs, strict=False)
    np.testing.assert_array_equal(ours["encoder"].weight.data, theirs["encoder"].weight.detach().numpy())
    assert report.unused == ["decoder.weight", "decoder.bias"]
    assert str(report) == "loaded 2 arrays by names\nunused: decoder.weight, decoder.bias"


def test_counters_and_extra_states_are_ignored():
    ours, theirs = flux.BatchNorm(3), trained(nn.BatchNorm1d(3))
    report = load_torch(ours, {**theirs.state_dict(), "_extra_state": {"x": 1}})
    assert report.ignored == ["num_batches_tracked", "_extra_state"]
    assert not report.unused


def test_averaged_models_count_their_averages():
    theirs = torch.optim.swa_utils.AveragedModel(trained(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))))
    ours = flux.Chain(flux.Dense(3, 4, flux.relu), flux.Dense(4, 2))
    report = load_torch(ours, theirs)
    agrees(ours, theirs, normal(5, 3))
    assert (report.how, report.ignored) == ("order", ["n_averaged"])


def test_what_is_no_array_is_unused():
    for ours in (flux.Dense(1, 1), flux.Dense(None, 1)):
        state = {**flux.Dense(1, 1).state_dict(), "version": 3}
        with pytest.raises(StateError, match=r"version: unused \(int is no array\)"):
            load_torch(ours, state)
        assert load_torch(ours, state, strict=False).unused == ["version"]


def test_tensors_without_numbers_are_named():
    with pytest.raises(StateError, match=r"weight: missing(.|\n)*weight: unused \(Tensor is no array \(.*meta"):
        load_torch(flux.Dense(3, 2), nn.Linear(3, 2, device="meta"))


def test_views_that_negate_and_small_floats():
    ours, numbers = flux.Dense(3, 2), normal(2, 3)
    negative = torch.complex(torch.zeros(2, 3), torch.tensor(numbers)).conj().imag  # a view with the bit "negative"
    assert negative.is_neg()
    load_torch(ours, {"weight": negative, "bias": torch.zeros(2)})
    np.testing.assert_array_equal(ours.weight.data, -numbers)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        load_torch(ours, {"weight": torch.tensor(numbers).to(dtype), "bias": torch.zeros(2)})
        np.testing.assert_array_equal(ours.weight.data, torch.tensor(numbers).to(dtype).float().numpy())


# -- checkpoints of training programs ----------------------------------------------------------------------------------


def trained_for_a_while():
    """A model, its optimiser, its schedule and its scaler, as a training program has them."""
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    opt = torch.optim.Adam(model.parameters())
    model(torch.ones(4, 3)).sum().backward()
    opt.step()
    model.eval()
    return model, opt, torch.optim.lr_scheduler.MultiStepLR(opt, [3, 5]), torch.amp.GradScaler("cpu")


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
def test_a_checkpoint_of_a_training_program(new, tmp_path):
    model, opt, schedule, scaler = trained_for_a_while()
    torch.save({"epoch": 3, "arch": "mlp", "model": model.state_dict(), "best_acc1": np.float64(71.5),
                "optimizer": opt.state_dict(), "lr_scheduler": schedule.state_dict(), "scaler": scaler.state_dict(),
                "rng": torch.get_rng_state()}, tmp_path / "x.pth", _use_new_zipfile_serialization=new)  # fmt: skip
    ours = flux.Chain(flux.Dense(3, 4), flux.BatchNorm(4, flux.relu), flux.Dense(4, 2))
    report = load_torch(ours, tmp_path / "x.pth")
    assert (report.key, report.how, len(report.ignored)) == ("model", "order", 1)
    agrees(ours, model, normal(5, 3))
    found = flux.read_torch(tmp_path / "x.pth")
    assert (found["best_acc1"], found["lr_scheduler"]["milestones"]) == (71.5, {3: 1, 5: 1})


def test_a_checkpoint_of_lightning(tmp_path):
    model, opt, schedule, _ = trained_for_a_while()
    state = {f"model.{k}": t for k, t in model.state_dict().items()} | {"loss.weight": torch.ones(2)}
    torch.save({"epoch": 1, "global_step": 5, "pytorch-lightning_version": "2.5.0", "state_dict": state,
                "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
                "callbacks": {"ModelCheckpoint{'monitor': 'val'}": {"best_model_score": torch.tensor(0.5), "kth": {}}},
                "optimizer_states": [opt.state_dict()], "lr_schedulers": [schedule.state_dict()],
                "hyper_parameters": {"lr": 0.1, "sizes": [3, 4, 2]}}, tmp_path / "last.ckpt")
    ours = flux.Chain(flux.Dense(3, 4), flux.BatchNorm(4, flux.relu), flux.Dense(4, 2))
    with pytest.raises(StateError, match=r"loss\.weight: unused"):
        load_torch(ours, tmp_path / "last.ckpt")
    report = load_torch(ours, tmp_path / "last.ckpt", strict=False)
    assert (report.key, report.unused) == ("state_dict", ["loss.weight"])
    agrees(ours, model, normal(5, 3))
    load_torch(ours, tmp_path / "last.ckpt", rename=lambda key: {"0": "0.", "1": "1.", "3": "2."}[key[6]] + key[8:]
               if key.startswith("model.") and not key.endswith("tracked") else None)


def test_what_pytorch_reads_of_ours_its_layers_take(tmp_path):
    """Both ways through PyTorch's own functions, without the counters that its BatchNorm keeps."""
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    ours = flux.Chain(flux.Dense(3, 4), flux.BatchNorm(4), flux.Dense(4, 2))
    flux.save_torch(ours, tmp_path / "x.pt")
    flux.save(tmp_path / "x.safetensors", ours)
    states = torch.load(tmp_path / "x.pt", weights_only=True), safetensors.load_file(tmp_path / "x.safetensors")
    for state in states:
        assert theirs.load_state_dict(state, strict=True)
        agrees(ours, theirs.eval(), normal(5, 3))


@pytest.mark.parametrize("axis", [0, 1])
def test_weight_norms_of_both_kinds(axis):
    x = normal(5, 3)
    new = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2), dim=axis)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        old = nn.utils.weight_norm(nn.Linear(3, 2), dim=axis)
    for theirs in (new, old):
        ours = flux.Chain(flux.WeightNorm(flux.Dense(3, 2), axis=axis), flux.Dense(2, 2))
        whole = trained(nn.Sequential(theirs, nn.Linear(2, 2)))
        load_torch(ours, whole)
        agrees(ours, whole, x)
    with pytest.raises(StateError, match=r"weight_g: unused \(a WeightNorm of the layer has it\)"):
        load_torch(flux.Dense(3, 2), new)


# -- recurrent layers and attention ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["RNN", "LSTM"])
@pytest.mark.parametrize("keywords", [{}, {"num_layers": 2}, {"num_layers": 2, "bidirectional": True}])
def test_two_biases_become_one_where_that_is_the_same(kind, keywords):
    theirs = trained(getattr(nn, kind)(3, 4, **keywords))
    ours = getattr(flux, kind)(3, 4, **keywords)
    report = load_torch(ours, theirs)
    x = normal(5, 2, 3)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x))[0].detach().numpy(), rtol=1e-4, atol=1e-5)
    assert report.used["bias_ih_l0"] == ("bias_ih_l0", "bias_hh_l0")
    assert "added: bias_ih_l0 = bias_ih_l0 + bias_hh_l0" in str(report)
    two = getattr(flux, kind)(3, 4, hidden_bias=True, **keywords)
    assert load_torch(two, theirs).used["bias_ih_l0"] == ("bias_ih_l0",)
    deep = flux.Chain(getattr(flux, kind)(3, 4), flux.Dense(4, 2))
    part = trained(nn.ModuleDict({"rnn": getattr(nn, kind)(3, 4), "head": nn.Linear(4, 2)}))
    assert load_torch(deep, part).how == "order"
    weights = part["rnn"]
    np.testing.assert_allclose(deep[0].bias_ih_l0.data, (weights.bias_ih_l0 + weights.bias_hh_l0).detach().numpy(), rtol=1e-6)


def test_a_gru_needs_both_biases():
    theirs = trained(nn.GRU(3, 4))
    ours = flux.GRU(3, 4)
    before = ours.state_dict()
    with pytest.raises(StateError, match=r"bias_hh_l0: unused \(a GRU with hidden_bias=True has it\)"):
        load_torch(ours, theirs)
    unchanged(ours, before)
    ours = flux.GRU(3, 4, hidden_bias=True)
    load_torch(ours, theirs)
    x = normal(5, 2, 3)
    np.testing.assert_allclose(ours(x).numpy(), theirs(torch.tensor(x))[0].detach().numpy(), rtol=1e-4, atol=1e-5)


def test_attention():
    theirs = trained(nn.MultiheadAttention(8, 2, batch_first=True))
    ours = flux.MultiHeadAttention(8, nheads=2)
    load_torch(ours, theirs)
    x = normal(2, 5, 8)
    t = torch.tensor(x)
    np.testing.assert_allclose(ours(x).numpy(), theirs(t, t, t)[0].detach().numpy(), rtol=1e-4, atol=1e-5)


# -- by structure ------------------------------------------------------------------------------------------------------


def test_order_where_numbers_differ():
    theirs, ours = theirs_and_ours()
    report = load_torch(ours, theirs)
    agrees(ours, theirs, X)
    assert report.how == "order"
    assert report.used["3.running_var"] == ("4.running_var",)
    assert len(report.ignored) == 2


def test_numbers_that_agree_by_accident():
    """Keys 0, 2, 4 in PyTorch, 0, 1, 2 here: the 2 in both are different layers of the same shape."""
    theirs = trained(nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3)))
    with torch.no_grad():
        theirs[4].weight.mul_(-1)
    ours = flux.Chain(flux.Dense(3, 3, flux.tanh), flux.Dense(3, 3, flux.tanh), flux.Dense(3, 3))
    assert load_torch(ours, theirs).how == "order"
    agrees(ours, theirs, normal(5, 3))


def test_axes_of_size_one_are_reshaped():
    theirs = trained(nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)))
    ours = flux.Chain(flux.Dense(3, 4), flux.Dense(4, 4))
    report = load_torch(ours, theirs)
    x = normal(5, 3)
    wanted = theirs(torch.tensor(x)[:, :, None, None])[:, :, 0, 0].detach().numpy()
    np.testing.assert_allclose(ours(x).numpy(), wanted, rtol=1e-5)
    assert report.reshaped == {"0.weight": ((4, 3, 1, 1), (4, 3)), "1.weight": ((4, 4, 1, 1), (4, 4))}
    assert "reshaped: 0.weight (4, 3, 1, 1) -> (4, 3)" in str(report)


def test_layers_that_are_cut_differently():
    state = {"gamma": normal(4), "proj.weight": normal(3, 4), "proj.bias": normal(3), "out.gamma": normal(3)}
    ours = flux.Chain(flux.Scale(4, bias=False), flux.Dense(4, 3), flux.Scale(3, bias=False))
    report = load_torch(ours, state)
    assert report.how == "order"
    np.testing.assert_array_equal(ours[2].weight.data, state["out.gamma"])
    swapped = {"a.bias": normal(4), "a.weight": normal(4, seed=1), "b.running_var": normal(4)}
    with pytest.raises(StateError):
        load_torch(flux.Chain(flux.Scale(4), flux.Scale(4, bias=False)), swapped)  # a bias is no weight


class Block(nn.Module):
    """A residual block whose shortcut is registered first, or last."""

    def __init__(self, n, m, first):
        super().__init__()
        if first:
            self.down, self.down_norm = nn.Conv2d(n, m, 1, bias=False), nn.BatchNorm2d(m)
        self.conv, self.norm = nn.Conv2d(n, m, 3, padding=1, bias=False), nn.BatchNorm2d(m)
        self.conv2, self.norm2 = nn.Conv2d(m, m, 3, padding=1, bias=False), nn.BatchNorm2d(m)
        if not first:
            self.down, self.down_norm = nn.Conv2d(n, m, 1, bias=False), nn.BatchNorm2d(m)

    def forward(self, x):
        y = self.norm2(self.conv2(torch.relu(self.norm(self.conv(x)))))
        return torch.relu(y + self.down_norm(self.down(x)))


def our_block(n, m):
    branch = flux.Chain(flux.Conv((3, 3), n, m, pad=1, bias=False), flux.BatchNorm(m, flux.relu),
                        flux.Conv((3, 3), m, m, pad=1, bias=False), flux.BatchNorm(m))
    shortcut = flux.Chain(flux.Conv((1, 1), n, m, bias=False), flux.BatchNorm(m))
    return flux.Chain(flux.Parallel(flux.add, branch, shortcut), flux.relu)


@pytest.mark.parametrize("first", [False, True])
def test_layers_that_were_registered_at_another_place(first):
    theirs = trained(nn.Sequential(Block(2, 4, first), Block(4, 8, first)))
    ours = flux.Chain(our_block(2, 4), our_block(4, 8))
    report = load_torch(ours, theirs)
    assert report.how == ("order, with moved layers" if first else "order")
    agrees(ours, theirs, X)


def test_moved_layers_that_could_be_others_are_refused():
    theirs = trained(nn.Sequential(Block(4, 4, True), Block(4, 4, True), nn.Conv2d(4, 4, 3, bias=False)))
    a, b, c = our_block(4, 4), our_block(4, 4), flux.Conv((3, 3), 4, 4, bias=False)
    ours = flux.Chain(c, a, b)
    before = ours.state_dict()
    with pytest.raises(StateError, match=r"order agree: layer 0 of the model is .*, of the file .*; give rename="):
        load_torch(ours, theirs)
    unchanged(ours, before)


def test_a_head_of_another_size():
    theirs, _ = theirs_and_ours()
    ours = theirs_and_ours()[1][:-1]
    ours = flux.Chain(*ours, flux.Dense(64, 10))
    before = ours.state_dict()
    for keywords in ({}, {"strict": False}):
        with pytest.raises(StateError):
            load_torch(ours, theirs, **keywords) if not keywords else load_torch(ours[-1], theirs[-1], **keywords)
        unchanged(ours, before)
    report = load_torch(ours, theirs, partial=True)
    assert report.how == "order"
    assert report.missing == ["5.weight", "5.bias"]
    assert report.unused == ["7.weight", "7.bias"]
    np.testing.assert_array_equal(ours[0].weight.data, theirs[0].weight.detach().numpy())
    np.testing.assert_array_equal(ours[-1].weight.data, before["5.weight"])
    same = flux.Chain(flux.Dense(3, 4), flux.Dense(4, 10))
    report = load_torch(same, nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), partial=True)
    assert (report.how, report.misshapen) == ("names", {"1.weight": ((2, 4), (10, 4)), "1.bias": ((2,), (10,))})
    assert "misshapen: 1.weight (2, 4) -> (10, 4), 1.bias (2,) -> (10,)" in str(report)


def test_renaming_by_hand():
    theirs, ours = theirs_and_ours()
    state = dict(reversed(theirs.state_dict().items()))  # no order that could help
    numbers = {"4": "3", "3": "2", "7": "5"}
    report = load_torch(ours, state, rename=lambda key: ".".join([numbers.get(key[0], key[0]), key[2:]]))
    agrees(ours, theirs, X)
    assert report.how == "names"
    two = flux.Chain(flux.Dense(1, 1), flux.Dense(1, 1))
    load_torch(two, {"a": normal(1, 1), "0.bias": normal(1), "b": normal(1, 1, seed=1), "1.bias": normal(1), "junk": normal(5)},
               rename={"a": "0.weight", "b": "1.weight", "junk": None})
    assert two[0].weight.data[0, 0] == normal(1, 1)[0, 0]
    with pytest.raises(StateError, match=r"rename gives the name 'x' to two arrays, 'bias' is the second"):
        load_torch(flux.Dense(1, 1), nn.Linear(1, 1), rename=lambda key: "x")


# -- whole or not at all -----------------------------------------------------------------------------------------------


def test_what_does_not_fit_changes_nothing():
    theirs = trained(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    ours = flux.Chain(flux.Dense(3, 4), flux.BatchNorm(4))
    before = ours.state_dict()
    state = {k: t.numpy() for k, t in theirs.state_dict().items()}
    for change, match in [
        ({"1.running_var": None}, r"1\.running_var: missing"), ({"more": normal(2)}, "more: unused"),
        ({"1.running_mean": normal(5)}, r"1\.running_mean: shape \(5,\)"),
        ({"0.weight": normal(3, 4)}, r"0\.weight: shape \(3, 4\), the model has \(4, 3\)"),
        ({"1.bias": normal(4).astype(complex)}, "1.bias: dtype complex128, the model has float32"),
        ({"1.bias": np.array(["a"] * 4)}, "1.bias: dtype <U1"),
    ]:
        wrong = {k: v for k, v in {**state, **change}.items() if v is not None}
        with pytest.raises(StateError, match=match):
            load_torch(ours, wrong)
        unchanged(ours, before)
    for keywords in ({"strict": False}, {"partial": True}):
        with pytest.raises(StateError, match=r"nothing in the state dict fits .*: layer 0 of the model is 0 \(weight \(4, 3\)"):
            load_torch(ours, {"x.weight": normal(9, 9)}, **keywords)
    with pytest.raises(StateError, match=r"shape"):
        load_torch(ours, {"0.weight": normal(9, 9), "0.bias": normal(4)}, strict=False)
    unchanged(ours, before)
    report = load_torch(ours, {"0.weight": normal(9, 9), "0.bias": normal(4)}, partial=True)
    assert list(report.used) == ["0.bias"]
    np.testing.assert_array_equal(ours[0].bias.data, normal(4))


def test_many_problems_are_counted():
    with pytest.raises(StateError, match="and 8 more"):
        load_torch(flux.Chain(*[flux.Dense(1, 1) for _ in range(10)]), {})
    many = {**flux.Dense(1, 1).state_dict(), **{f"x{i}": normal(1) for i in range(20)}}
    report = load_torch(flux.Dense(1, 1), many, strict=False)
    assert str(report).endswith("and 8 more")


def test_shared_parameters():
    dense = flux.Dense(3, 3)
    ours = flux.Parallel(flux.add, a=dense, b=dense)
    linear = nn.Linear(3, 3)
    theirs = nn.ModuleDict({"a": linear, "b": linear})
    assert load_torch(ours, theirs).missing == []
    np.testing.assert_array_equal(dense.weight.data, linear.weight.detach().numpy())
    assert load_torch(ours, nn.ModuleDict({"a": linear})).missing == []
    with pytest.raises(StateError, match=r"b\.weight: differs from a\.weight, but both are one shared parameter"):
        load_torch(ours, nn.ModuleDict({"a": linear, "b": nn.Linear(3, 3)}))


def test_sizes_left_open_are_those_of_the_file():
    theirs = trained(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)))
    for prefix in ("", "module."):
        ours = flux.Chain(flux.Dense(None, 4), flux.BatchNorm(None))
        report = load_torch(ours, {prefix + k: t for k, t in theirs.state_dict().items()})
        agrees(ours, theirs, normal(5, 3))
        assert report.used["0.weight"] == (f"{prefix}0.weight",)
        assert report.ignored == [f"{prefix}1.num_batches_tracked"]
    ours = flux.Chain(flux.Dense(None, 4), flux.BatchNorm(None))
    with pytest.raises(StateError, match=r"more: unexpected"):
        load_torch(ours, {**theirs.state_dict(), "more": normal(1)})
    assert load_torch(ours, {**theirs.state_dict(), "more": normal(1)}, strict=False).unused == ["more"]


def test_a_model_in_half_precision_converts():
    theirs, ours = trained(nn.Linear(3, 2)), flux.f64(flux.Dense(3, 2))
    load_torch(ours, theirs)
    assert ours.weight.dtype == np.float64
    agrees(flux.f32(ours), theirs, normal(5, 3))


def test_a_model_without_arrays():
    assert load_torch(flux.Chain(flux.relu), {}).used == {}
