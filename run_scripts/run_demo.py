"""
Opens a page on which you upload or record a sound. It shows the clips of an index that sound like it, its log-mel
spectrogram and, if the checkpoint is a classifier, its classes and when each of them is heard.

    pip install ".[demo]"
    python run_scripts/run_embedding.py --dataset_name path/to/audio --output_dir vectors
    python run_scripts/run_demo.py --index_dir vectors

`--space folder` writes the page and all that it needs to a folder, which can be pushed to the Hub as a Gradio Space.

`--browser folder` writes a page that needs neither Gradio nor a server: open its index.html. It shows the map of the
index, and the browser itself finds the similar clips and the classes of a sound that you drop or record.
"""

from run_scripts.common.command_line import ArgumentParser, run_script
from run_scripts.common.errors import UserError, describe
from run_scripts.demo.arguments import DemoArguments


def main(argv: list[str] | None = None) -> None:
    """Runs the script with command-line arguments."""
    (args,) = ArgumentParser(DemoArguments).parse(argv)
    if args.space is not None:
        from run_scripts.demo.space import write_space

        print(f"{write_space(args)} is ready: run its app.py, or push it as a Space.")
        return
    if args.browser is not None:
        from run_scripts.common.command_line import start_logging
        from run_scripts.common.cpu import tune_cpu
        from run_scripts.demo.browser import write_browser_page

        start_logging()
        tune_cpu()
        print(write_browser_page(args))
        return
    try:
        import gradio  # noqa: F401
    except ModuleNotFoundError:
        raise UserError('The demo needs Gradio: run `pip install ".[demo]"`.') from None
    from run_scripts.demo.page import build_page

    page = build_page(args)
    try:
        page.launch(server_port=args.port)
    except OSError as error:
        raise UserError(f"--port {args.port}: {describe(error)}") from error


if __name__ == "__main__":
    run_script(main)
