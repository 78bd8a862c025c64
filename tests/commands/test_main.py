from __future__ import annotations

import ast
import re
import subprocess
import sys
import types
import warnings
from pathlib import Path

import pytest

from llmrec import __version__
from llmrec.commands.main import VERBS, main, run

REPOSITORY = Path(__file__).parents[2]


def fake_prepare(monkeypatch: pytest.MonkeyPatch, error: BaseException | None) -> None:
    def fail(argv: list[str] | None) -> None:
        if error is not None:
            raise error

    monkeypatch.setitem(sys.modules, "llmrec.commands.prepare", types.SimpleNamespace(main=fail))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (None, 0),
        (ValueError("value 'x' is wrong"), 2),
        (TypeError("no"), 2),
        (FileNotFoundError("no"), 2),
        (FileExistsError("no"), 2),
        (NotADirectoryError("no"), 2),
        (PermissionError("no"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_user_errors_are_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException | None, code: int
) -> None:
    monkeypatch.delenv("LLMREC_TRACEBACK", raising=False)
    fake_prepare(monkeypatch, error)
    assert run("prepare", []) == code
    stderr = capsys.readouterr().err
    assert "Traceback" not in stderr
    if isinstance(error, ValueError):
        assert stderr == "llmrec prepare: error: value 'x' is wrong\n"


def test_a_warning_of_a_command_names_no_line_of_code(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []

    def warn(argv: list[str] | None) -> None:
        shown.append(warnings.formatwarning("results are left out", UserWarning, "file.py", 7))

    monkeypatch.setitem(sys.modules, "llmrec.commands.prepare", types.SimpleNamespace(main=warn))
    usual = warnings.formatwarning
    assert run("prepare", []) == 0
    assert shown == ["warning: results are left out\n"]
    assert warnings.formatwarning is usual


def test_a_traceback_on_request_and_for_our_own_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_prepare(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError):
        run("prepare", [])
    monkeypatch.setenv("LLMREC_TRACEBACK", "1")
    fake_prepare(monkeypatch, ValueError("theirs"))
    with pytest.raises(ValueError, match="theirs"):
        run("prepare", [])


@pytest.mark.parametrize("verb", ["train", "pretrain", "evaluate"])
@pytest.mark.parametrize(
    ("option", "hint"),
    [("--data_dri", "did you mean --data_dir"), ("--data-dri", "did you mean --data_dir"), ("--zzz", "see `llmrec ")],
)
def test_an_unknown_option_is_named_with_what_looks_like_it(verb, option, hint, tmp_path, capsys) -> None:
    """Before what is missing: here it is what was meant."""
    assert run(verb, [option, "data", "--output_dir", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert f"option '{option}' is none of `llmrec {verb}`; {hint}" in error
    assert not (tmp_path / "out").exists()


def test_look_alikes_stand_once_and_a_stray_value_is_no_option(tmp_path, capsys) -> None:
    given = ["--data_dir", "data", "--output_dir", str(tmp_path / "out")]
    assert run("train", [*given, "--epochs", "3"]) == 2
    told = capsys.readouterr().err
    assert "'--epochs' is none of `llmrec train`; did you mean --item_epochs or --num_train_epochs?" in told
    assert run("train", [*given, "--num_train_epochs", "3", "4"]) == 2
    assert "value '4' belongs to no option of `llmrec train`" in capsys.readouterr().err


def test_help_version_and_unknown_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(verb in listed for verb in VERBS)
    assert main([]) == 2
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"llmrec {__version__}\n")
    assert main(["predict"]) == 2
    assert "unknown verb 'predict'; known verbs: fit" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[verb] for verb in VERBS])
def test_every_verb_has_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == 0
    assert "--output_dir" in (told := capsys.readouterr().out) or "--model" in told


def test_the_help_of_an_option_that_says_no_is_not_that_of_its_opposite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert "--no_hybrid, --no-hybrid The same as --hybrid false." in told
    assert told.count("Learn a residual and a bias for every known item, beside its text.") == 1


def test_every_verb_has_its_file_with_one_main() -> None:
    for verb in VERBS:
        tree = ast.parse((REPOSITORY / "llmrec" / "commands" / f"{verb}.py").read_text(encoding="utf-8"))
        assert [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"] == [
            "main"
        ]


def test_launch_files_and_the_console_command_are_the_same_thing() -> None:
    entry = "import sys; from llmrec.commands.main import main; sys.exit(main())"
    outputs = []
    for program in (["scripts/prepare.py"], ["-c", entry, "prepare"]):
        options = ["--source", "nowhere", "--output_dir", "scripts/prepare.py"]
        command = [sys.executable, *program, *options]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
        outputs.append((done.returncode, done.stdout, done.stderr))
    assert outputs[0] == outputs[1]
    assert outputs[0][0] == 2 and outputs[0][2].startswith("llmrec prepare: error: ")


@pytest.mark.parametrize("verb", ["benchmark", "compare_sasrec", "few_shot", "transfer", "describe"])
def test_a_verb_that_became_a_script_is_named_with_its_place(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(verb, []) == 2
    told = capsys.readouterr().err
    assert (REPOSITORY / re.search(r"python (\S+)", told)[1]).is_file()


def test_no_and_a_name_is_that_name_false(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the option has no default of its own."""
    options = ["--data_dir", str(tmp_path / "gone"), "--output_dir", str(tmp_path / "out"), "--no_mask_seen"]
    assert run("baselines", options) == 2
    assert "does not exist" in capsys.readouterr().err  # and not: unknown option


def told_by(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code in (0, None)
    return capsys.readouterr().out


def test_help_shows_what_is_ours_in_groups_and_the_rest_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    short, whole = told_by(["train", "--help"], capsys), told_by(["train", "--help_all"], capsys)
    assert "data options:" in short and "model options:" in short and "training options:" in short
    assert "--learning_rate" in short and "--torch_compile_backend" not in short
    assert "--torch_compile_backend" in whole and len(whole) > 2 * len(short)
    assert len(short.splitlines()) < 260
    assert "--help_all" not in told_by(["prepare", "--help"], capsys)


def test_a_file_holds_any_option_and_the_command_line_wins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "fit.yaml"
    file.write_text("source: movielens-small\nminutes: 0\nsplit: leave_one_out\n")
    assert run("fit", ["--config", str(file), "--minutes", "-1", "--output_dir", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert "minutes=-1.0: give more than 0" in captured.err and "leave_one_out" in captured.out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("minuts: 3\n", "option 'minuts' is none of `llmrec fit`; did you mean minutes?"),
        ("- a\n", "holds no options"),
        ("a: [\n", "is no YAML"),
        (None, "is no file"),
    ],
)
def test_a_file_of_options_that_cannot_be_used_is_refused(content, words, tmp_path, capsys) -> None:
    file = tmp_path / "fit.yaml"
    if content is not None:
        file.write_text(content)
    assert run("fit", ["--config", str(file), "--output_dir", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "out").exists()
