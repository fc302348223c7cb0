"""The cards of what the scripts leave: an encoder, a classifier, vectors, or a Space of the demo."""

from pathlib import Path
from typing import Any

from huggingface_hub import CardData, RepoCard

from run_scripts.common.files import write_text


def write_card(path: Path, kind: str, data: CardData, /, **values: Any) -> None:
    """
    Writes a card.

    Args:
        path (`Path`):
            The file, `README.md`.
        kind (`str`):
            The name of the template in this folder: `"encoder"`, `"classifier"`, `"vectors"` or `"space"`.
        data (`CardData`):
            What the Hub reads of the card.
        **values:
            What the template shows.

    Raises:
        `OSError`: If it cannot be written.
    """
    template = Path(__file__).with_name(f"{kind}.md")
    write_text(path, str(RepoCard.from_template(data, template_path=str(template), **values)))
