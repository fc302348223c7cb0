"""The cards of what the scripts leave: an encoder, a classifier, vectors, or a Space of the demo."""

from pathlib import Path
from typing import Any

from huggingface_hub import CardData, RepoCard

from run_scripts.common.files import write_text


def write_card(path: Path, kind: str, data: CardData, /, **values: Any) -> None:
    """
    Writes the card of the `kind` `"encoder"`, `"classifier"`, `"vectors"` or `"space"`, a template in this folder, to
    a `README.md`. `data` is what the Hub reads of it, and `values` are what the template shows.
    """
    template = Path(__file__).with_name(f"{kind}.md")
    write_text(path, str(RepoCard.from_template(data, template_path=str(template), **values)))
