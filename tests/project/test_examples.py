"""The examples do what they say; the benchmark runs."""

import json
import runpy

import jax
import numpy as np
import pytest

from benchmarks import training
from examples import (
    char_gpt,
    custom_optimizer,
    digit_sequences,
    distributed,
    gan,
    mnist,
    segmentation,
    sequence_to_sequence,
    speech_commands,
    tabular,
    text_classification,
    time_series,
    transfer_learning,
    vae,
)
from tests.generate.documents import ADVICE, shown
from tests.generate.examples import FILES as EXAMPLES
from tests.generate.examples import section

pytestmark = pytest.mark.slow


def test_an_optimizer_of_ones_own_learns_as_well_as_adam():
    errors = custom_optimizer.main()
    assert max(errors.values()) < 50  # the mean as a guess is off by 66


def test_sign_descent_is_what_optax_calls_so():
    import jax.numpy as jnp
    import optax

    ours = custom_optimizer.SignDescent(0.01, momentum=0.5)
    theirs = optax.chain(optax.ema(0.5, debias=False), optax.scale_by_sign(), optax.scale(-0.01))
    params = {"w": jnp.array([1.0, -2.0, 3.0])}
    states = [ours.init(params), theirs.init(params)]
    for grads in ([1.0, -1.0, 0.0], [-3.0, 0.5, 1.0], [0.1, 0.1, -2.0]):
        grads = {"w": jnp.array(grads)}
        results = [rule.update(grads, s) for rule, s in zip((ours, theirs), states, strict=True)]
        np.testing.assert_allclose(results[0][0]["w"], results[1][0]["w"])
        states = [state for _, state in results]


@pytest.mark.parametrize("real", [True, False], ids=["mnist", "digits"])
def test_the_demo_reads_digits(real, monkeypatch, tmp_path, capsys):
    from matplotlib.image import imread

    if real and not (mnist.SHARED / "mnist").is_dir():
        pytest.skip("the real MNIST files are not here")
    monkeypatch.setenv("FNN_DATA", str(mnist.SHARED if real else tmp_path))
    assert mnist.main(epochs=1 if real else 2, out=tmp_path / "demo.png") > 0.9
    picture = imread(tmp_path / "demo.png")
    assert picture.shape[0] > 1000
    assert picture[..., :3].std() > 0.05
    printed = capsys.readouterr().out
    assert "test accuracy" in printed
    assert float(printed.split("mean image: ")[1].split()[0]) > 0.8


def has_a_picture(path):
    from matplotlib.image import imread

    picture = imread(path)
    return min(picture.shape[:2]) > 400 and picture[..., :3].std() > 0.05


@pytest.fixture
def picture(tmp_path):
    """Where an example writes its picture; at the end it must be there, and not be empty."""
    path = tmp_path / "picture.png"
    yield path
    assert has_a_picture(path)


def once(monkeypatch, example):
    """What an example loads; its `main` is then given the same, which takes no time."""
    loaded = example.load()
    monkeypatch.setattr(example, "load", lambda: loaded)
    return loaded


def test_survivors_are_found_from_raw_columns(picture, monkeypatch):
    table, survived = once(monkeypatch, tabular)
    assert len(survived) == 1309
    assert survived.sum() == 500
    assert {len(column) for column in table.values()} == {1309}
    assert table["title"][:3].tolist() == ["Miss", "Master", "Miss"]
    scores = tabular.main(epochs=6, out=picture, folds=2)
    for accuracy, area in scores.values():
        assert accuracy > 0.75  # 0.62 have died
        assert area > 0.8


def test_modules_are_found_from_sentences(picture, capsys, monkeypatch):
    train, (tested, classes) = once(monkeypatch, text_classification)
    assert not set(train[0]) & set(tested)
    assert len(set(classes)) == len(text_classification.MODULES)
    some = np.random.default_rng(0).permutation(len(tested))[:320]  # read after each epoch
    part = train, (tested[some], classes[some])
    monkeypatch.setattr(text_classification, "load", lambda: part)
    ours, linear = text_classification.main(epochs=4, out=picture, limit=640, verbose=0)
    assert ours > 0.15  # the most frequent module has less
    assert linear > 0.4
    assert "640 sentences to train on" in capsys.readouterr().out


def test_a_gpt_writes_with_a_cache_what_it_writes_without(picture, capsys):
    assert not set(char_gpt.TRAIN.split()) & set(char_gpt.TEST.split())
    ours, baseline = char_gpt.main(epochs=2, out=picture, limit=160, verbose=0)
    assert ours < 5.5  # 7 bits if all characters were as likely
    assert 2 < baseline < 4
    printed = capsys.readouterr().out
    assert "100% equal" in printed
    assert printed.count(char_gpt.PROMPT) == 8


def test_counted_triples_are_those_of_a_loop():
    train, test = [1, 2, 3, 1, 2, 4], [1, 2, 3, 1]
    # 1, 2 is followed by 3 once and by 4 once; 2, 3 by 1. 0.05 is added to all 128 counts.
    seen = [1.05 / (2 + 6.4), 1.05 / (1 + 6.4)]
    expected = -np.log2(seen).mean()
    assert char_gpt.bits_by_counts(np.array(train), np.array(test)) == pytest.approx(expected)


def test_spoken_digits_are_named(picture):
    digits = speech_commands.main(epochs=4, out=picture, examples=160, verbose=0)
    assert min(digits) > 0.2  # 0.1 by chance


def test_sequences_of_digits_are_read(picture):
    waves, labels = speech_commands.sounds(20, digit_sequences.MOST, seed=0)
    assert waves.shape == (20, digit_sequences.MOST * speech_commands.SLOT)
    assert ((labels > 0)[:, :-1] >= (labels > 0)[:, 1:]).all()  # padding is at the end
    path = np.float32([[1, 2, 2, 1, 3, 0], [0, 0, 1, 1, 0, 1]])  # frames, as classes
    assert digit_sequences.read(np.eye(4)[path.astype(int)]).tolist() == [
        *([1, 2, 1, 3, 0, 0], [1, 1, 0, 0, 0, 0])
    ]
    scores = digit_sequences.main(epochs=1, out=picture, examples=64, verbose=0)
    assert all(0 <= score <= 1 for score in scores)


def test_a_chaotic_series_is_foreseen(picture):
    errors = time_series.main(epochs=3, out=picture, verbose=0)
    assert errors["network"] < errors["last value"]
    assert errors["linear"] < 0.5 * errors["last value"]


def test_the_gan_draws_a_ring(picture):
    (off, fewest), (baseline, _) = gan.main(epochs=60, out=picture, verbose=0)
    assert off < 0.1 < baseline  # a point in the middle is off by 1
    assert fewest > 50  # 167 if they were even


def test_the_vae_makes_digits(picture):
    (error, components), (bound, independent) = vae.main(epochs=30, out=picture, verbose=0)
    assert error < 0.05  # the mean image as a guess: 0.075
    assert components < 0.03
    assert bound < independent


def test_frozen_features_learn_from_few_images(picture, monkeypatch):
    many, rest, test = once(monkeypatch, transfer_learning)
    many, test = ([array[::3] for array in part] for part in (many, test))  # enough to beat chance
    part = many, rest, test
    monkeypatch.setattr(transfer_learning, "load", lambda: part)
    scores = transfer_learning.main(epochs=10, out=picture, draws=1, verbose=0)
    assert set(scores) == {"new head", "fine-tuned", "from scratch", "linear"}
    assert max(scores["new head"], scores["fine-tuned"]) > 0.3  # 0.2 by chance


def test_dates_are_rewritten(picture, monkeypatch):
    import datetime

    spell, forms = sequence_to_sequence.spell, sequence_to_sequence.FORMATS
    day = datetime.date(1998, 3, 3)
    assert spell(day, forms[0]) == "03.03.1998"
    assert [spell(day.replace(day=n), "{s}") for n in (1, 2, 3, 4, 11, 22)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "22nd")
    ]
    train, tested = parts = sequence_to_sequence.load(192, 32)
    assert not {iso for _, iso in train} & {iso for _, iso in tested}
    monkeypatch.setattr(sequence_to_sequence, "load", lambda count: parts)
    ours, nearest = sequence_to_sequence.main(epochs=2, out=picture, examples=192, verbose=0)
    assert ours > 0.2  # the dashes alone
    assert 0.5 < nearest < 1


def test_cells_are_segmented(picture):
    overlaps = segmentation.main(epochs=1, out=picture, examples=32, verbose=0)
    assert 0 < overlaps[0] < 1
    assert overlaps[1] > overlaps[2]  # pixels beat a mask that is all background


def test_a_distribution_changes_memory_and_not_the_losses(picture):
    losses, scores, held = distributed.main(epochs=1, out=picture, verbose=0)
    for name in ("DataParallel", "FSDP"):
        np.testing.assert_allclose(losses[name], losses["one device"], rtol=1e-3)
    assert min(scores.values()) > 0.8
    assert held["DataParallel"] == held["one device"]
    assert held["FSDP"] < 1.2 * held["one device"] / len(jax.devices())


def test_an_example_is_a_page_and_says_what_it_reaches():
    """At most 120 lines."""
    lines = {path.stem: len(path.read_text().splitlines()) for path in EXAMPLES}
    assert max(lines.values()) <= 120, lines
    assert shown("examples") == section(), ADVICE


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_does_nothing_on_import(path, capsys):
    assert "main" in runpy.run_path(str(path), run_name="imported")
    assert capsys.readouterr().out == ""


def test_the_benchmark_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
    (tmp_path / "README.md").write_text(
        "before\n<!-- training: begin -->\nold\n<!-- training: end -->\nafter\n"
    )
    options = ["--quick", "--workload=mlp", "--peers=hand,fnn", f"--folder={tmp_path}"]
    training.main(options)
    readme = (tmp_path / "README.md").read_text()
    assert readme.startswith("before\n<!-- training: begin -->\n### mlp")
    assert readme.endswith("<!-- training: end -->\nafter\n")
    assert "old" not in readme
    peers = json.loads((tmp_path / "training.json").read_text())["mlp"]["peers"]
    for peer in ("hand", "fnn"):
        assert len(peers[peer]["rounds"]) == 2
        assert all(r["cpu"] > 0 and r["wall"] > 0 for r in peers[peer]["rounds"])
        assert 0 < peers[peer]["rounds"][-1]["loss"] < 1.5
        assert peers[peer]["memory"] > 50
    assert "| JAX by hand |" in readme
    assert "| **fnn** |" in readme


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--workload=vgg", "expected a workload of mlp"),
        ("--peers=mxnet", "expected a peer of hand"),
    ],
)
def test_the_benchmark_names_what_it_knows(argument, message, capsys):
    with pytest.raises(SystemExit):
        training.main([argument])
    assert message in capsys.readouterr().err


def test_ratios_are_medians_round_by_round():
    from benchmarks import report

    def peer(*cpu):
        rounds = [{"cpu": c, "wall": 2 * c, "loss": 0.5} for c in cpu]
        return {"rounds": rounds, "first": 1.0, "imported": 0.5, "memory": 100.0}

    hand, fnn = peer(1.0, 2.0, 4.0), peer(1.5, 3.0, 4.0)
    assert report.ratio(fnn, hand, "cpu") == "1.50"
    assert report.ratio(fnn, None, "cpu") == ""
    assert report.milliseconds(fnn, "cpu", 100) == pytest.approx(30)
    peers = {"hand": hand, "fnn": fnn, "torch": {"skip": "not installed"}}
    machine = {"date": "today", "cpu": "2 cores", "versions": "jax 1"}
    assert report.fastest(peers, ("hand", "hand_scan", "torch"), "cpu") == "hand"
    assert report.fastest(peers, ("torch",), "cpu") is None
    text = report.table("mlp", {"steps": 100, "machine": machine, "peers": peers})
    assert "| **fnn** | 30 | 1.50 | 1.50 | 60 | 1.50 | 1.50 | 1.0 | 0.5 | 100 | 0.5 |" in text
    assert "| PyTorch | not measured: not installed |" in text


def test_the_table_of_cores_has_a_row_for_each_form():
    from benchmarks import cores

    def peer(*wall):
        return {"rounds": [{"cpu": 2 * w, "wall": w} for w in wall], "memory": 100.4}

    peers = {"fnn": peer(1.0, 2.0, 4.0), "fnn_cores": peer(0.5, 1.0, 3.0), "torch": {"skip": "no"}}
    assert cores.rows("lstm", {"steps": 100, "peers": peers}) == [
        "| lstm | one device | 20 | 1.00 | 40 | 1.00 | 100 |",
        "| lstm | `use_cpu_cores()` | 10 | 0.50 | 20 | 0.50 | 100 |",
        "| lstm | PyTorch | not measured: no |||||",
    ]
