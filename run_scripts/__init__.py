"""The scripts. What they do is in the folders of this package."""

__version__ = "0.1.0"
