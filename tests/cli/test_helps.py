"""What the help of a command says it takes, it takes."""

import pytest
from typer.testing import CliRunner

from hgraph.cli.app import app
from hgraph.cli.choices import TRIPLES


def help_of(command):
    found = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert found.exit_code == 0
    return " ".join(found.stdout.replace("│", " ").split())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("train", "a file or folder of triples"),
        ("train", "holds interactions.csv"),
        ("serve", "`hgraph train` for a recommender"),
        ("serve", '{"user": "ann", "k": 10}'),
        ("predict", "completes triples"),
    ],
)
def test_helps_name_what_the_command_takes(command, said):
    assert said in help_of(command)


def test_tune_offers_no_model_that_it_refuses():
    assert not any(f" {name}" in help_of("tune") for name in TRIPLES)
