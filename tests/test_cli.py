"""The command line, as a user types it."""

import json
import subprocess
import sys

import numpy as np
import pytest

import minigrad as mg
from minigrad import cli, kernels, nn
from minigrad.experiments import digits


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_help_has_examples_and_is_light():
    code = "import sys, minigrad.cli as c\ntry: c.main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "minigrad train" in shown
    assert "'matplotlib'" not in shown
    assert "'sympy'" not in shown


@pytest.mark.parametrize("command", ["train", "verify", "table", "lectures", "info"])
def test_each_command_has_help_with_examples(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  minigrad {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fly"], ["train", "--seed", "x"]])
def test_wrong_arguments_are_status_2(arguments):
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    assert ended.value.code == 2


def test_train_writes_a_folder_and_prints_a_table(here, capsys):
    assert cli.main(["train", "--epochs", "2"]) == 0
    out, err = capsys.readouterr()
    assert err == ""  # no progress bar off a terminal
    (folder,) = (here / "runs").iterdir()
    names = ["checkpoint.npz", "learning_curves.png", "metrics.json", "model.npz"]
    assert sorted(path.name for path in folder.iterdir()) == names
    metrics = json.loads((folder / "metrics.json").read_text())
    assert f"test accuracy          {metrics['test_accuracy']:.2%}" in out
    assert f"runs/{folder.name}/" in out
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    model = digits.network(seed=9).load(folder / "model.npz").eval()
    test = mg.data.digits(np.float32).test
    assert (model(test.x).data.argmax(axis=1) != test.y).mean() == pytest.approx(metrics["test_error"])


def test_train_takes_the_name_of_a_loss(here, capsys):
    assert cli.main(["train", "--loss", "max_margin", "--lr", "0.02", "--epochs", "1", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["loss"], report["learning_rate"]) == ("max_margin", 0.02)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_class_cross_entropy", "try binary_cross_entropy, each class against the rest"),
        ("hinge", "no such loss: choose among batch_cross_entropy, "), ("relu", "no such loss"),
    ],
)  # fmt: skip
def test_a_loss_that_does_not_fit_is_refused(here, capsys, name, words):
    assert cli.main(["train", "--loss", name]) == 2
    assert words in capsys.readouterr().err
    assert not (here / "runs").exists()


def test_json_alone_goes_to_standard_output(here, capsys):
    output = here / "deep" / "er"
    assert cli.main(["train", "--epochs", "1", "--seed", "3", "--json", "--quiet", "--output", str(output)]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert err == ""
    assert report == json.loads((output / "metrics.json").read_text())
    assert (report["seed"], report["history"]["epochs"]) == (3, 1)
    assert report["parameters"] == sum(p.size for p in digits.network().parameters())
    assert not (here / "runs").exists()


def test_quiet_is_one_line(here, capsys):
    assert cli.main(["train", "--epochs", "1", "--quiet"]) == 0
    assert capsys.readouterr().out.count("\n") == 1


def test_folders_of_one_second_differ(here, monkeypatch):
    monkeypatch.setattr(cli.time, "strftime", lambda _: "now")
    assert [cli._folder(None).name for _ in range(3)] == ["now", "now-2", "now-3"]


def test_ctrl_c_says_what_was_saved(here, capsys, monkeypatch):
    def interrupted(*arguments, checkpoint, **keywords):
        nn.Linear(1, 1, seed=0).save(checkpoint)
        raise KeyboardInterrupt

    monkeypatch.setattr(digits, "run", interrupted)
    assert cli.main(["train"]) == 130
    assert "checkpoint.npz holds the last whole epoch" in capsys.readouterr().err


def test_complaints_go_to_standard_error(capsys):
    assert cli.main(["train", "--seed", "-1"]) == 2
    assert cli.main(["verify", "nothing"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "--seed -1" in err
    assert "softmax" in err  # the names to choose from


def test_verify(capsys, monkeypatch):
    assert cli.main(["verify", "relu"]) == 0
    assert "relu" in capsys.readouterr().out
    assert cli.main(["verify", "relu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True
    relu = mg.registry["relu"]
    monkeypatch.setattr(relu, "df", lambda self, a, y: np.ones_like(y))  # a wrong derivative
    assert cli.main(["verify", "relu", "--quiet"]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_info(capsys):
    assert cli.main(["info"]) == 0
    shown = capsys.readouterr().out
    assert np.__version__ in shown
    assert ("MINIGRAD_REQUIRE_KERNELS" in shown) is not kernels.compiled()
    assert cli.main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["compiled"] is kernels.compiled()
    assert facts["kernel_threads"] == kernels.num_threads()


def test_python_m_minigrad_is_the_same():
    shown = subprocess.run([sys.executable, "-m", "minigrad", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("minigrad ")


def test_table_prints_each_form(capsys):
    assert cli.main(["table", "operations"]) == 0
    assert "p[i] = exp(z[i])" in capsys.readouterr().out
    assert cli.main(["table", "operations", "--format", "markdown"]) == 0
    out = capsys.readouterr().out
    assert all(line.count("|") == 5 for line in out.strip().splitlines())
