"""The fonts of plots."""

import logging
from types import SimpleNamespace

import pytest

from run_scripts.common import fonts


def test_a_font_that_has_the_characters_is_found(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    installed = {"/boxes": ("Last Resort", "a犬猫قط"), "/cjk": ("CJK", "犬"), "/more": ("More", "犬猫")}
    monkeypatch.setattr(fonts, "_characters", lambda file: frozenset(map(ord, installed.get(file, ("", "aقط"))[1])))
    ttflist = [SimpleNamespace(name=name, fname=file) for file, (name, _) in installed.items()]
    monkeypatch.setattr(fonts, "fontManager", SimpleNamespace(ttflist=ttflist))
    assert fonts.find_fonts("aقط", "plot.png") == ["sans-serif"]
    assert fonts.find_fonts("a犬猫", "plot.png") == ["sans-serif", "CJK", "More"]
    assert not caplog.records
    assert fonts.find_fonts("犬鳥虫", "plot.png") == ["sans-serif", "CJK"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "plot.png: no installed font has the characters 虫鳥" in record.message
