"""The comparison of LocoProp with first-order methods: what is trained, that it goes on, and what it reports."""

import json
from dataclasses import replace

import numpy as np
import pytest

from minigrad import cli
from minigrad.experiments import autoencoder


@pytest.fixture
def small():
    setting = autoencoder.setting(quick=True, epochs=2)
    return replace(setting, images=setting.images[:200], batch_size=50, widths=(64, 16, 4, 16, 64))


def one_of_each(setting):
    return list({candidate.method: candidate for candidate in reversed(autoencoder.candidates(setting))}.values())[::-1]


def test_the_network_is_tanh_but_for_the_code_and_the_outputs():
    kinds = [type(layer).__name__ for layer in autoencoder.network((9, 7, 5, 3, 5, 7, 9), seed=0)]
    assert kinds == ["Linear", "Tanh"] * 2 + ["Linear"] + ["Linear", "Tanh"] * 2 + ["Linear"]


def test_every_method_starts_alike_and_learns(small, tmp_path):
    report = autoencoder.run(small, tmp_path, candidates=one_of_each(small), progress=False)
    assert [curve.candidate.method for curve in report.curves] == list(autoencoder.GRIDS["digits"])
    before = autoencoder.mean_loss(autoencoder.network(small.widths, 0), small.images)
    assert before == pytest.approx(64 * np.log(2), rel=0.05)  # outputs of 1/2
    for curve in report.curves:
        assert len(curve.losses) == len(curve.seconds) == 2, curve
        assert curve.losses[1] < curve.losses[0] < before, curve
        assert 0 < curve.seconds[0] < curve.seconds[1]


def test_the_mean_loss_is_that_of_the_whole_set(small):
    model = autoencoder.network(small.widths, 1)
    z, x = model(small.images).data.astype(float), small.images.astype(float)
    exact = np.sum(np.maximum(z, 0) - z * x + np.log1p(np.exp(-abs(z)))) / len(x)
    assert autoencoder.mean_loss(model, small.images) == pytest.approx(exact, rel=1e-6)


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("method", ["RMSprop", "LocoProp matching"])
def test_an_interrupted_run_goes_on_to_the_same_bits(small, tmp_path, method):
    (candidate,) = [c for c in one_of_each(small) if c.method == method]
    whole = autoencoder.train(candidate, small, 0, tmp_path, None, lambda: None)
    (tmp_path / "broken").mkdir()
    batches = iter(range(6))

    def until_the_second_epoch():
        if next(batches) == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        autoencoder.train(candidate, small, 0, tmp_path / "broken", None, until_the_second_epoch)
    again = autoencoder.train(candidate, small, 0, tmp_path / "broken", None, lambda: None)
    assert again.losses == whole.losses
    assert not list(tmp_path.glob("**/*.part"))

    def not_at_all():
        raise AssertionError("what is finished is not computed again")

    assert autoencoder.train(candidate, small, 0, tmp_path, None, not_at_all).losses == whole.losses


def test_what_diverges_is_reported_and_not_the_best(small, tmp_path):
    good = next(c for c in autoencoder.candidates(small) if c.method == "SGD")
    bad = replace(good, rate=1e38)
    with np.errstate(all="ignore"):
        report = autoencoder.run(small, tmp_path, candidates=[bad, good], progress=False)
    assert report.curves[0].failed
    assert report.best() == [report.curves[1]]
    assert "rate 1e+38" not in str(report.table())
    with np.errstate(all="ignore"):
        assert autoencoder.run(small, tmp_path, candidates=[bad, good], progress=False).curves[0].failed


def test_the_folder_of_another_experiment_is_refused(small, tmp_path):
    autoencoder.run(small, tmp_path, candidates=[], progress=False)
    with pytest.raises(ValueError, match=r"another experiment.*--output"):
        autoencoder.run(small, tmp_path, candidates=[], seed=1, progress=False)


def test_the_claim_is_judged_for_each_variant(small):
    def curve(method, last):
        return autoencoder.Curve(autoencoder.Candidate(method, 1.0, "", None), [last], [1.0])

    adam, pre, matching = curve("Adam", 80.0), curve("LocoProp squared-pre", 90.0), curve("LocoProp matching", 70.0)
    report = autoencoder.Report(small, 0, [adam, curve("SGD", 95.0), pre, matching])
    assert report.claim() == {"LocoProp squared-pre": False, "LocoProp matching": True}
    assert "LocoProp squared-pre does not end, LocoProp matching ends below" in report.verdict()


def test_the_command(tmp_path, capsys):
    arguments = ["reproduce", "locoprop", "--quick", "--epochs", "1", "--quiet", "--output", str(tmp_path)]
    assert cli.main(arguments) == 0
    assert "below every first-order method" in capsys.readouterr().out
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["data"] == "digits, 1,497 images"
    assert {run["method"] for run in results["runs"]} == set(autoencoder.GRIDS["digits"])
    assert (tmp_path / "results.png").read_bytes()[:4] == b"\x89PNG"
    assert "| Adam |" in (tmp_path / "results.md").read_text()
    assert cli.main([*arguments[:-3], "--json", "--output", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == results
    assert cli.main(["reproduce", "locoprop", "--epochs", "0"]) == 2
    assert "--epochs 0" in capsys.readouterr().err
    assert cli.main(["reproduce", "locoprop", "--data", str(tmp_path / "nothing")]) == 2
    assert "no train-images" in capsys.readouterr().err
