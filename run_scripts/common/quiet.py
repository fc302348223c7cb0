"""Keeping what libraries print out of a script's own output."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import datasets
import transformers


@contextmanager
def quiet_libraries(warnings: bool = False) -> Iterator[None]:
    """
    Turns off the progress bars of `datasets` and Transformers, such as "Casting the dataset", in the block; and, if
    asked to, the warnings of Transformers, such as its report of loaded weights.
    """
    bars = datasets.are_progress_bars_disabled(), transformers.logging.is_progress_bar_enabled()
    verbosity = transformers.logging.get_verbosity()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    if warnings:
        transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        if not bars[0]:
            datasets.enable_progress_bars()
        if bars[1]:
            transformers.logging.enable_progress_bar()
        transformers.logging.set_verbosity(verbosity)


@contextmanager
def each_message_once(logger: logging.Logger) -> Iterator[None]:
    """Keeps a logger from saying the same thing twice in the block."""
    said = set()

    def is_new(record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return message not in said and not said.add(message)

    logger.addFilter(is_new)
    try:
        yield
    finally:
        logger.removeFilter(is_new)
