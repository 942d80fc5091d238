"""The command's surface: version, help, how it names itself."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import minitorch_flux as flux
from minitorch_flux.cli import main, program

ROOT = Path(__file__).parents[2]


def test_the_version_is_the_projects(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert capsys.readouterr().out == f"minitorch-flux {project['version']}\n"
    assert flux.__version__ == project["version"]
    assert project["scripts"] == {"minitorch-flux": "minitorch_flux.cli:main"}


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help(arguments, capsys):
    if arguments:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    else:
        assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "train train a network on images" in out
    assert "info what this machine has" in out


def test_help_of_train_lists_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    out = capsys.readouterr().out
    for option in ("data", "model", "epochs", "batch", "lr", "optimiser", "device", "seed", "out", "resume"):
        assert f"--{option}" in out
    assert not re.search(r"\bNone\b", out)


def test_an_unknown_command(capsys):
    assert main(["benchmark"]) == 2
    assert capsys.readouterr().err.startswith("minitorch-flux: error: argument command: invalid choice: 'benchmark'")


def test_it_runs_as_a_module():
    command = [sys.executable, "-m", "minitorch_flux", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, f"minitorch-flux {flux.__version__}\n")


def test_how_it_names_itself(monkeypatch, tmp_path):
    script = tmp_path / "my bin" / "minitorch-flux"
    script.parent.mkdir()
    script.write_text("#!/bin/sh\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.called_as() == f"'{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert program.called_as() == "minitorch-flux"
    monkeypatch.setattr(sys, "argv", [str(ROOT / "minitorch_flux" / "__main__.py")])
    monkeypatch.setattr(sys, "executable", "/opt/py thon/bin/python3")
    assert program.called_as() == "'/opt/py thon/bin/python3' -m minitorch_flux"
    monkeypatch.setattr(sys, "argv", ["/usr/bin/pytest"])
    assert program.called_as() == "minitorch-flux"


def test_the_import_is_light():
    """What only some users need is imported where it is used."""
    heavy = ["matplotlib", "tqdm", "safetensors", "argparse", "csv", "scipy", "torch", "cupy", "pooch", "zipfile"]
    text = f"import numpy, sys; before = set(sys.modules)\nimport minitorch_flux\n" \
           f"print([m for m in {heavy} if m in sys.modules and m not in before])"
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, cwd=ROOT)
    assert (done.stdout, done.stderr) == ("[]\n", "")
