"""The benchmarks compare equal arithmetic and fail where a bound is exceeded."""

import importlib
from functools import partial

import jax
import numpy as np
import pytest

from benchmarks import accelerator, check, inference, many, training, workloads
from benchmarks.inference_peers import fnn as verbs
from benchmarks.inference_peers import hand as hand_verbs
from benchmarks.peers import fnn as fnn_peer
from benchmarks.peers import hand, hand_scan
from benchmarks.workloads import RESNET, WORKLOADS
from fnn import config

SLOW = ("cnn", "lstm", "gpt")
NETWORKS = ["mlp", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)]
NETWORKS += [pytest.param("resnet", marks=pytest.mark.thorough)]


def renamed(params, **names):
    return {new: params[old] for new, old in names.items()}


def numbered(params, name):
    """The weights of all layers by this name, in order: `dense`, `dense_1`, ..."""
    found = sorted(
        (n for n in params if n.rstrip("0123456789_") == name), key=lambda n: (len(n), n)
    )
    return [params[n] for n in found]


def gpt_weights(p):
    norms = [{"scale": n["gamma"], "shift": n["beta"]} for n in numbered(p, "layer_normalization")]
    *denses, head = numbered(p, "dense")
    blocks = []
    for index, attention in enumerate(numbered(p, "multi_head_attention")):
        qkv = [attention[name] for name in ("query", "key", "value")]
        output = attention["attention_output"]
        blocks.append(
            {
                "norm1": norms[2 * index],
                "norm2": norms[2 * index + 1],
                "qkv": {
                    "kernel": np.concatenate([p["kernel"].reshape(128, 128) for p in qkv], 1),
                    "bias": np.concatenate([p["bias"].reshape(128) for p in qkv]),
                },
                "out": {"kernel": output["kernel"].reshape(128, 128), "bias": output["bias"]},
                "up": denses[2 * index],
                "down": denses[2 * index + 1],
            }
        )
    tokens, positions = p["embedding"]["embeddings"], p["positions"]["embeddings"]
    rest = {"norm": norms[-1], "head": head}
    return {"tokens": tokens, "positions": positions, "blocks": blocks, **rest}


def hand_weights(workload, p, s):
    """The weights of a model of fnn as the hand-written network takes them."""
    if workload == "mlp":
        return renamed(p, first="dense", second="dense_1"), {}
    if workload == "cnn":
        return renamed(p, conv1="conv2d", conv2="conv2d_1", hidden="dense", head="dense_1"), {}
    if workload == "lstm":
        gates = renamed(p["lstm"], kernel="kernel", bias="bias")
        recurrent = p["lstm"]["recurrent_kernel"]
        return {"gates": gates, "recurrent": recurrent, "head": p["dense"]}, {}
    if workload == "gpt":
        return gpt_weights(p), {}
    names = [name.removesuffix("_bn") for name in s if name.endswith("_bn")]
    params = {name: {**p[f"{name}_conv"], **p[f"{name}_bn"]} for name in names}
    statistics = {"mean": "moving_mean", "variance": "moving_variance"}
    state = {name: renamed(s[f"{name}_bn"], **statistics) for name in names}
    return {**params, "head": p["predictions"]}, state


def perturbed(tree):
    """Biases, scales and statistics that differ from how they start."""
    rng = np.random.default_rng(1)
    noise = lambda a: np.abs(0.05 * rng.standard_normal(a.shape, "float32"))
    return jax.tree.map(lambda a: a + noise(a) if a.ndim == 1 else a, tree)


def of_one_block(monkeypatch):
    """The network `gpt` of both: one block computes what four compute."""
    for peer in (hand, fnn_peer):
        monkeypatch.setitem(peer.NETWORKS, "gpt", partial(peer.gpt, 1))


@pytest.fixture
def _as_users_run(request):
    """What is written by hand adds biases to batches, as JAX does by default."""
    with jax.numpy_rank_promotion("allow"):
        yield


@pytest.mark.parametrize("workload", NETWORKS)
@pytest.mark.usefixtures("_as_users_run")
def test_by_hand_and_fnn_compute_the_same(workload, monkeypatch):
    of_one_block(monkeypatch)
    monkeypatch.setitem(RESNET, "size", 32)
    x, y = WORKLOADS[workload].examples(5)
    model, written = verbs.network(workload), hand.NETWORKS[workload]()
    model(x)
    state = model.train_state
    model.train_state = state.replace(params=perturbed(state.params), state=perturbed(state.state))
    weights = hand_weights(workload, model.params, model.state)
    expected = jax.jit(lambda w, x: written.forward(*w, x, False)[0])(weights, x)
    predicted = model.predict(x, batch_size=2, verbose=0)
    np.testing.assert_allclose(predicted, written.probabilities(expected), rtol=2e-4, atol=1e-6)
    loss, accuracy = model.evaluate(x, y, batch_size=2, verbose=0)
    assert loss == pytest.approx(float(written.losses(expected, y).mean()), rel=1e-4)
    right = (expected > 0) == (y > 0) if written.binary else expected.argmax(-1) == y
    assert accuracy == pytest.approx(float(right.mean()))


@pytest.mark.slow
@pytest.mark.usefixtures("_as_users_run")
def test_the_forms_by_hand_agree():
    x, _ = WORKLOADS["cnn"].examples(3)
    one, other = hand.cnn(), hand_scan.NETWORKS["cnn"]()
    weights = one.init(jax.random.key(0))
    expected = one.forward(*weights, x, False)[0]
    for network in (one, other):
        found = network.forward(*weights, x, True)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workload", ["mlp", "cnn"])
@pytest.mark.usefixtures("_as_users_run")
def test_verbs_by_hand_take_every_example(workload):
    x, y = WORKLOADS[workload].examples(5)
    network = hand_verbs.network(workload)
    whole = np.asarray(network.outputs(x))
    found = hand_verbs.VERBS["predict"](network, x, y, 2)()
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    right = (whole > 0.5) == (y > 0) if workload == "mlp" else whole.argmax(-1) == y
    assert hand_verbs.VERBS["evaluate"](network, x, y, 2)()[1] == pytest.approx(right.mean())


@pytest.mark.parametrize("case", ["cnn/predict257", "vgg/fit"])
def test_the_check_names_what_it_knows(case, capsys):
    with pytest.raises(SystemExit):
        check.main(["--only", case])
    assert "expected WORKLOAD/VERB of mlp/predict_one, " in capsys.readouterr().err


def test_every_case_has_a_bound_and_sizes_that_the_peers_know():
    for name in check.NAMES:
        assert len(check.peers_of(name)) > 1, name
    assert set(inference.CASES) == set(WORKLOADS)
    patterns = {pattern for bound in check.BOUNDS for pattern in bound.cases}
    assert patterns == {p for p in patterns if inference.selected([p], check.NAMES)}
    for peer in inference.PEERS:
        assert importlib.util.find_spec(f"benchmarks.inference_peers.{peer}")
    for peer in training.PEERS:
        assert importlib.util.find_spec(f"benchmarks.peers.{peer}")


def rounds(*cpu):
    return {"rounds": [{"cpu": c, "wall": 2 * c} for c in cpu]}


def test_a_bound_is_met_or_exceeded_by_the_median_against_the_fastest(monkeypatch, capsys):
    slow = {"hand": rounds(1.0, 2.0, 4.0), "fnn": rounds(1.1, 2.2, 40.0), "keras": rounds(9, 9, 9)}
    assert [met for met, _ in check.verdicts("cnn/evaluate", slow)] == [False, False, True, True]
    scan = {"hand_scan": rounds(2, 2, 2), "flax": rounds(1, 1, 1), "fnn": rounds(1.5, 1.5, 1.5)}
    for met, text in check.verdicts("gpt/fit", scan):
        assert not met
        assert "to flax" in text
        assert "EXCEEDED" in text
    [(met, text)] = check.verdicts("cnn/fit", scan)  # a bound of wall time alone
    assert met
    assert "wall to hand_scan" in text
    assert check.peers_of("gpt/fit") == ["hand_scan", "fnn", "keras", "flax"]

    for fnn, status in ((1.0, 0), (1.1, 1)):
        result = {"hand": rounds(1.0), "fnn": rounds(fnn)}
        monkeypatch.setattr(check, "measure", lambda *_, result=result: [("evaluate", result)])
        assert check.main(["--only", "cnn/evaluate"]) == status
        assert f"{2 - 2 * status} of 2 bounds met" in capsys.readouterr().out


def test_what_a_method_in_python_takes_is_left_out_and_said():
    """Of `call` and `predict_on_batch` to hand-written JAX, and of nothing else."""
    hand, spare = 50e-6, check.OVERHEAD["cpu"] / 1e3  # seconds; of wall time `rounds` has twice
    for case, extra, expected in (
        ("mlp/call", spare, True),
        ("mlp/predict_on_batch", spare + 0.02 * hand, True),
        ("mlp/call", spare + 0.04 * hand, False),
        ("mlp/apply", 0.04 * hand, False),
    ):
        result = {"hand": rounds(hand), "fnn": rounds(hand + extra)}
        met, text = next(iter(check.verdicts(case, result)))
        assert met is expected, text
        assert ("left out" in text) == (case != "mlp/apply")


def test_a_peer_that_failed_exceeds_its_bounds():
    [(met, text)] = check.verdicts("cnn/call", {"hand": rounds(1.0), "fnn": {"skip": "it failed"}})
    assert not met
    assert "it failed" in text
    found = [*check.verdicts("cnn/call", {"hand": {"skip": "it failed"}, "fnn": rounds(1.0)})]
    assert [met for met, _ in found] == [False, False]
    assert "none was measured" in found[0][1]


def test_results_of_two_shapes_are_refused():
    class Answers:
        skip = None

        def __init__(self, peer, shape):
            self.peer, self.shape = peer, shape

        def ask(self, command):
            if self.shape is None and command != "call 0":
                return {"skip": "it failed"}
            return {"wall": 1.0, "cpu": 1.0, "shape": self.shape or [2]}

    with pytest.raises(SystemExit, match="one shape"):
        inference._take_turns("cnn/call", [Answers("hand", [2]), Answers("fnn", [3])], 1, "call 0")
    peers = [Answers("hand", [2]), Answers("fnn", None)]
    found = inference._take_turns("cnn/call", peers, 3, "call 1")
    assert len(found["hand"]["rounds"]) == 3
    assert found["fnn"] == {"skip": "it failed"}


@pytest.mark.slow
@pytest.mark.usefixtures("_as_users_run")
def test_inference_writes_its_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    options = ["--quick", "--peers", "hand", "fnn", "--folder", str(tmp_path)]
    cases, start = {"mlp": inference.CASES["mlp"]}, inference.start
    in_a_process_if_fnn = lambda peer, workload, _: start(peer, workload, peer != "fnn")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "start", lambda peer, workload, _: inference.Local(peer, workload))
        inference.main(["--only", "mlp/call", *options])
    assert not list(tmp_path.iterdir())  # a part is printed, not written
    assert "mlp/call" in capsys.readouterr().out
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "NAMES", [f"mlp/{case}" for case in cases["mlp"]])
        patch.setattr(inference, "start", in_a_process_if_fnn)  # both are started alike
        inference.main(options)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("<!-- inference: begin -->\n### Inference, mlp: 10-16-1\n")
    assert "| `predict` | 10000 | 256 |" in text


# -- accelerator and many --------------------------------------------------------------------------


@pytest.fixture
def sizes(monkeypatch):
    """The sizes of the workloads, which a case changes, as they were afterwards."""
    for group in (workloads.GPT, workloads.LSTM, workloads.RESNET):
        for name, value in group.items():
            monkeypatch.setitem(group, name, value)


CASES = [
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "lstm", "gpt", "predict")),
    pytest.param("resnet", marks=pytest.mark.thorough),
]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.usefixtures("sizes", "_as_users_run")
def test_the_accelerator_benchmark_runs_on_cpu(name, monkeypatch):
    """As `--small`: a few steps of each peer, everything tiny."""
    of_one_block(monkeypatch)
    found = {peer: accelerator.measured(peer, name, small=True) for peer in ("hand", "fnn")}
    for one in found.values():
        assert 0 < one["step"] < one["first"]
    assert found["hand"]["operations"] == found["fnn"]["operations"]
    text = accelerator.table({name: found}, "NVIDIA H200", {"date": "d", "versions": "v"})
    assert text.count("\n") == 7
    assert "| **fnn** | " in text
    assert " % |" in text
    assert config.dtype_policy().name == "float32"


@pytest.mark.usefixtures("sizes", "_as_users_run")
def test_operations_and_peaks_of_the_accelerator_benchmark():
    """Multiplications and additions, counted by hand; those of ResNet-50 as published."""
    products = 26 * 26 * 32 * 9 + 11 * 11 * 64 * 9 * 32 + 1600 * 128 + 128 * 10
    case = accelerator.CASES["cnn"]
    size = accelerator.sized(case, small=True)
    assert accelerator.operations_of(case, size) == 3 * 2 * size.batch * products
    case = accelerator.CASES["resnet"]
    size = accelerator.sized(case, small=False)
    each = accelerator.operations_of(case, size) / size.batch / 6
    assert each == pytest.approx(3.86e9, rel=0.02)  # multiplications (He et al. 2015, table 1)
    kinds = {"NVIDIA A100-SXM4-40GB": 312, "TPU v5 lite": 197, "TPU v5p": 459, "TPU v6 lite": 918}
    for kind, teraflops in kinds.items():
        assert accelerator.peak(kind, half=True) == 1e12 * teraflops
    assert accelerator.peak("cpu", half=True) is None


def test_an_accelerator_benchmark_without_time_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(accelerator, "device_kind", lambda: "cpu")
    accelerator.main(["--small", "--minutes", "0", "--folder", str(tmp_path)])
    text = (tmp_path / "README.md").read_text()
    assert text.count("not measured: no time was left") == 20
    accelerator.main(["--only", "cnn", "--minutes", "0", "--folder", str(tmp_path / "part")])
    assert not (tmp_path / "part").exists()
    assert "| **fnn** | not measured" in capsys.readouterr().out


@pytest.mark.thorough
def test_an_accelerator_benchmark_in_processes(capsys):
    accelerator.main(["--small", "--only", "predict", "--peers", "hand", "fnn", "flax"])
    text = capsys.readouterr().out
    assert "| **fnn** | not measured" not in text
    assert "| Flax NNX | not measured: " in text


@pytest.mark.slow
def test_many_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setattr(many, "NETWORKS", {"mlp": many.NETWORKS["mlp, 64 units"]})
    many.main(["--quick", "--members", "2", "--folder", str(tmp_path)])
    assert "| mlp | 2 | " in (tmp_path / "README.md").read_text()
