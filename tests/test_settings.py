"""Settings: who wins, what is refused, and that the error names the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from pkontext import settings
from pkontext.errors import InputError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A settings file with a tempo, and a bundle given relative to it."""
    path = tmp_path / "settings.toml"
    path.write_text('tempo = 0.8\nbits = 16\nbundle = "mine"\nvoice = "sampler"\n')
    return path


def test_defaults(tmp_path: Path) -> None:
    found = settings.resolve({}, {}, tmp_path / "none.toml")
    assert (found.seed, found.tempo, found.steps, found.voice, found.bits) == (0, 1.0, None, "neural", "24")
    assert set(found.sources.values()) == {"default"} and set(found.sources) == set(settings.OPTIONS)


def test_flag_beats_environment_beats_file_beats_default(file: Path) -> None:
    environment = {"PKONTEXT_TEMPO": "0.9", "PKONTEXT_VOICE": "", "PKONTEXT_SEED": "5"}
    found = settings.resolve({"tempo": 1.1, "seed": None}, environment, file)
    assert (found.tempo, found.sources["tempo"]) == (1.1, "flag")
    assert (found.seed, found.sources["seed"]) == (5, "environment")
    assert (found.voice, found.sources["voice"]) == ("sampler", "file")  # an empty variable is not set
    assert (found.bits, found.sources["bits"]) == ("16", "file")
    assert (found.threads, found.sources["threads"]) == (0, "default")
    assert settings.resolve({}, environment, file).tempo == 0.9
    assert settings.resolve({}, {}, file).tempo == 0.8


def test_paths_in_the_file_are_relative_to_it(file: Path) -> None:
    assert settings.resolve({}, {}, file).bundle == file.parent / "mine"
    assert settings.resolve({"bundle": "other"}, {}, file).bundle == Path("other")


def test_file_in_the_configuration_folder_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "config_folder", lambda: tmp_path)
    (tmp_path / "settings.toml").write_text("seed = 7\n")
    assert settings.resolve({}, {}).seed == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tempo", "0.1"),
        ("tempo", "fast"),
        ("tempo", "nan"),
        ("tempo", True),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", "9" * 5000),
        ("steps", 0),
        ("expressiveness", 1.6),
        ("guidance", 0.5),
        ("temperature", 1.6),
        ("voice", "organ"),
        ("bits", 8),
        ("threads", [1]),
        ("bundle", 3),
        ("provider", "tpu"),
    ],
)
def test_bad_values_are_refused_everywhere(tmp_path: Path, name: str, value: object) -> None:
    with pytest.raises(InputError) as caught:
        settings.resolve({name: value}, {}, tmp_path / "none.toml")
    assert caught.value.code == "settings.value" and caught.value.message.startswith(f"--{name}")
    assert len(caught.value.message) < 300


def test_error_names_the_place(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="PKONTEXT_TEMPO is 'fast'"):
        settings.resolve({}, {"PKONTEXT_TEMPO": "fast"}, tmp_path / "none.toml")
    (tmp_path / "settings.toml").write_text("tempo = 9\n")
    with pytest.raises(InputError, match=r"tempo in .*settings\.toml is '9'.* from 0\.25 to 4"):
        settings.resolve({}, {}, tmp_path / "settings.toml")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"tempo 0.9", "settings.file"),
        (b"\xff", "settings.file"),
        (b"tempi = 0.9", "settings.unknown"),
        (b"[render]\ntempo = 1", "settings.unknown"),
    ],
)
def test_bad_files(tmp_path: Path, text: bytes, code: str) -> None:
    (tmp_path / "settings.toml").write_bytes(text)
    with pytest.raises(InputError) as caught:
        settings.resolve({}, {}, tmp_path / "settings.toml")
    assert caught.value.code == code
    if b"tempi" in text:
        assert "'tempo'" in caught.value.hint


def test_table_is_consistent() -> None:
    for option in settings.OPTIONS.values():
        if option.default is not None:
            assert settings.check_value(option, option.default, "default") == option.default
        assert option.help.endswith(".") and option.range_text
