"""Fonts for the names of classes in any script."""

import logging
from functools import cache

import matplotlib
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font


logger = logging.getLogger(__name__)


def find_fonts(characters: str, plot: str) -> list[str]:
    """
    Finds the font families that together have all characters, the default one first.

    Characters that no installed font has are drawn as boxes, and a warning says so.
    """
    families = list(matplotlib.rcParams["font.family"])
    missing = {ord(character) for character in characters if character.isprintable()}
    missing -= _characters(findfont(FontProperties(family=families)))
    for font in fontManager.ttflist if missing else ():
        if "Last Resort" in font.name:
            continue  # It has a box for each character.
        if found := missing & _characters(font.fname):
            families.append(font.name)
            missing -= found
    if missing:
        shown = "".join(map(chr, sorted(missing)[:20]))
        logger.warning(
            f"{plot}: no installed font has the characters {shown}, which are drawn as boxes. Install a font that has "
            "them, such as Noto Sans CJK."
        )
    return families


@cache
def _characters(font_file: str) -> frozenset[int]:
    try:
        return frozenset(get_font(font_file).get_charmap())
    except (OSError, RuntimeError):  # a font that matplotlib cannot read
        return frozenset()
