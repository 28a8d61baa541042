"""One line declares an option: where it appears is listed here, for a field that no other code knows."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from cyclopts import App, Parameter
from pydantic import Field, TypeAdapter

from imf_deploy import settings as all_settings
from imf_deploy.cli.app import COMMANDS, app, options_of
from imf_deploy.cli.config import Sources
from imf_deploy.errors import UsageError
from imf_deploy.settings import TrainingSettings
from imf_deploy.settings.base import from_record, option_values, settings

HELP = "Share of the batch that is warm."


@settings("Training")
class Warmer(TrainingSettings):
    """Settings with one more line."""

    warm_share: Annotated[float, Field(ge=0, lt=1, description=HELP)] = 0.25


DEFAULT = Warmer()
CONFIG = Parameter(name="--config")


@pytest.fixture
def seen() -> list[Warmer]:
    return []


@pytest.fixture
def command(seen: list[Warmer]) -> App:
    """A command that takes these settings, as the real ones do."""
    own = App(
        name="imf-deploy",
        default_parameter=app.default_parameter,
        config=[Sources()],
        help_format="plaintext",
        print_error=False,
        exit_on_error=False,
    )

    @own.default
    def train(*, config: Warmer = DEFAULT, file: Annotated[Path | None, CONFIG] = None) -> None:
        seen.append(config)

    return own


def test_the_help_shows_it(command: App, capsys: pytest.CaptureFixture[str]) -> None:
    command("--help", result_action="return_value")
    shown = " ".join(capsys.readouterr().out.split())
    assert "─ Training ─" in shown
    assert "--warm-share FLOAT" in shown
    assert "Share of the batch that" in shown
    assert "[default: 0.25]" in shown


def test_the_command_line_reads_it(command: App, seen: list[Warmer]) -> None:
    command("--warm-share 0.5", result_action="return_value")
    command("", result_action="return_value")
    assert [made.warm_share for made in seen] == [0.5, 0.25]


def test_a_file_of_options_may_hold_it(command: App, seen: list[Warmer], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("warm-share: 0.75\n")
    command(["--config", str(tmp_path / "c.yaml")], result_action="return_value")
    command(["--config", str(tmp_path / "c.yaml"), "--warm-share", "0"], result_action="return_value")
    assert [made.warm_share for made in seen] == [0.75, 0]


def test_its_bounds_hold_everywhere() -> None:
    with pytest.raises(UsageError, match=r"`warm_share` 1 is out of range\. Give less than 1"):
        Warmer(warm_share=1)
    with pytest.raises(UsageError, match="`warm_share`"):
        dataclasses.replace(Warmer(), warm_share=-1)
    with pytest.raises(Exception, match="warm_share"):
        from_record(Warmer, {"warm_share": "0.5"})


def test_a_run_records_it() -> None:
    record = yaml.safe_load(yaml.safe_dump(option_values(Warmer(warm_share=0.5))))
    assert record["warm-share"] == 0.5
    assert (
        from_record(Warmer, json.loads(json.dumps(dataclasses.asdict(Warmer(warm_share=0.5))))).warm_share
        == 0.5
    )


def test_the_schema_has_it() -> None:
    found: dict[str, Any] = TypeAdapter(Warmer).json_schema()["properties"]["warm_share"]
    assert (found["description"], found["default"]) == (HELP, 0.25)
    assert (found["minimum"], found["exclusiveMaximum"]) == (0, 1)


def docs_options() -> Any:
    path = Path(__file__).parents[2] / "docs" / "options.py"
    spec = importlib.util.spec_from_file_location("docs_options", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_docs_list_it() -> None:
    assert f"| `--warm-share` | 0.25 | {HELP} |" in docs_options().table(Warmer)


def test_the_docs_hold_the_tables_of_today() -> None:
    module = docs_options()
    pages = [path.read_text(encoding="utf-8") for path in module.DOCS.glob("*.md")]
    assert any(module.TABLE.search(page) for page in pages)
    assert [page for page in pages if module.written(page) != page] == []


@pytest.mark.parametrize("name", all_settings.__all__)
def test_every_field_says_what_it_is(name: str) -> None:
    kind = getattr(all_settings, name)
    for field in dataclasses.fields(kind):
        if hasattr(kind, "__pydantic_fields__") and not dataclasses.is_dataclass(field.default):
            assert field.metadata["help"], field.name


def test_no_option_is_declared_twice_in_a_command() -> None:
    for command in COMMANDS:
        arguments = app[command].assemble_argument_collection()
        names = [name for argument in arguments if argument.parse for name in argument.names if name != "*"]
        assert len(names) == len(set(names)), command
        assert "--config" in options_of(command)


def test_a_shell_completes_the_commands(tmp_path: Path) -> None:
    app.install_completion(shell="bash", output=tmp_path / "complete", add_to_startup=False)
    script = (tmp_path / "complete").read_text()
    assert all(word in script for word in ("distill-and-export", "quantize", "--lr-schedule"))
