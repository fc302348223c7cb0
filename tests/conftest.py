"""What the tests of several packages share."""

import sys
from collections.abc import Iterator

import datasets
import pytest

from helpers import STAND_INS, has_torchcodec


@pytest.fixture
def torchcodec(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`datasets` decodes audio in this test: by torchcodec, or by what stands in for it where it cannot be used."""
    if has_torchcodec():
        yield
        return
    monkeypatch.syspath_prepend(STAND_INS)
    monkeypatch.setattr(datasets.config, "TORCHCODEC_AVAILABLE", True)
    _forget_torchcodec()
    yield
    _forget_torchcodec()


def _forget_torchcodec() -> None:
    for name in [name for name in sys.modules if "torchcodec" in name]:
        del sys.modules[name]
