"""The perceptron that is trained layer by layer, and its command."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from minigrad import cli
from minigrad.experiments import layerwise
from minigrad.locoprop import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_learns_the_digits(variant):
    result = layerwise.run(0, variant=variant, epochs=8)
    assert result.test_error < 0.1
    assert result.epochs[-1].loss < 0.3 * result.epochs[0].loss
    assert result.trainer.rounds == result.epochs[-1].rounds == 8 * 19


def test_the_executor_changes_no_bits_and_the_seed_does():
    with ThreadPoolExecutor(2) as executor:
        runs = [layerwise.run(seed, epochs=1, executor=on) for seed, on in ((1, None), (1, executor), (2, None))]
    one, same, other = ([p.data for p in run.model.parameters()] for run in runs)
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="squared-pre"):
        layerwise.run(variant="squared")
    with pytest.raises(ValueError, match="epochs=0"):
        layerwise.run(epochs=0)


def test_the_command_prints_epochs_and_a_table(capsys):
    assert cli.main(["locoprop", "--epochs", "2", "--executor", "threads:2", "--variant", "dual"]) == 0
    out, err = capsys.readouterr()
    assert err.count("validation error") == 2
    assert "threads:2" in out
    assert "dual, 10 steps, anchor fixed" in out


def test_json_alone_goes_to_standard_output(capsys):
    assert cli.main(["locoprop", "--epochs", "1", "--iterations", "2", "--seed", "3", "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert (report["seed"], report["iterations"], report["rounds"], report["executor"]) == (3, 2, 19, "serial")
    assert len(report["loss"]) == 1
    assert cli.main(["locoprop", "--epochs", "1", "--quiet"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


@pytest.mark.parametrize("wrong", [["--executor", "gpu"], ["--epochs", "0"], ["--seed", "-1"], ["--iterations", "0"]])
def test_complaints_go_to_standard_error(wrong, capsys):
    assert cli.main(["locoprop", "--quiet", *wrong]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert wrong[1] in err


def test_the_command_offers_every_variant():
    assert set(cli.VARIANTS) == set(VARIANTS) == set(layerwise.RATES)
