"""The arguments of the demo."""

from dataclasses import dataclass, field

from run_scripts.common.errors import UserError


@dataclass
class DemoArguments:
    index_dir: str | None = field(
        default=None,
        metadata={"help": "The folder of embedded clips to search in. Without it the page shows no similar clips."},
    )
    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "The checkpoint, whose classes are shown if it is a classifier. Defaults to the one by which "
            "--index_dir was made, or to cola-compact."
        },
    )
    top_k: int = field(default=10, metadata={"help": "How many similar clips to list."})
    port: int | None = field(
        default=None, metadata={"help": "The port of the page. Defaults to the first free one from 7860."}
    )
    space: str | None = field(
        default=None,
        metadata={"help": "Write the page to this folder, ready to be pushed as a Gradio Space, rather than open it."},
    )
    browser: str | None = field(
        default=None,
        metadata={
            "help": "Write a page to this folder that needs no server: a map of the index in which the browser itself "
            "embeds, classifies and searches what is dropped or recorded. This needs the extra `onnx`, and npm or "
            "--runtime."
        },
    )
    copy_audio: bool = field(
        default=False,
        metadata={
            "help": "With --browser, put the first seconds of each clip into the page, so that they are played on "
            "other computers, too. Otherwise the page plays the files of the clips from where they are."
        },
    )
    runtime: str | None = field(
        default=None,
        metadata={"help": "The file that `npm pack` wrote, for --browser on a computer without npm or a network."},
    )

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UserError(f"--top_k must be at least 1, got {self.top_k}.")
        if self.port is not None and not 0 < self.port < 2**16:
            raise UserError(f"--port must be between 1 and {2**16 - 1}, got {self.port}.")
        if self.space is not None and self.browser is not None:
            raise UserError("--space and --browser write different pages: give one of them.")
        if self.browser is None and (self.copy_audio or self.runtime is not None):
            raise UserError("--copy_audio and --runtime are for --browser, which is not given.")
