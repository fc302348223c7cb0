"""What the Hub reads in the cards of models."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id


def hub_name(name: str | None) -> str | None:
    """Returns the name of a model or data set if it is one on the Hub, and `None` if it is a path or nothing."""
    if name is None or Path(name).exists():
        return None
    try:
        validate_repo_id(name)
    except HFValidationError:
        return None
    return name
