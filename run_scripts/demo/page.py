"""The page of the demo: similar clips, classes, events and the spectrogram of a recording."""

from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from matplotlib.figure import Figure

from feature_extraction import BadClipError, COLAFeatureExtractor, load_audio
from run_scripts.common.checkpoints import load_config, load_extractor
from run_scripts.demo.arguments import DemoArguments
from run_scripts.detection.arguments import EventArguments
from run_scripts.detection.detector import Detector, is_classifier, to_scores
from run_scripts.detection.timeline import draw_timeline, pooled_spectrogram, timeline_height
from run_scripts.embedding.arguments import CHECKPOINT
from run_scripts.embedding.encode import embed_files
from run_scripts.embedding.parts import read_settings
from run_scripts.embedding.search import Index, load_own_model, name_row


# The classes and the log-mel spectrogram are those of this much of a recording, in seconds.
SHOWN_SECONDS = 60.0
HEADERS = ["similarity", "clip", "label"]
EVENT_HEADERS = ["start (s)", "end (s)", "label", "score"]


class Demo:
    """
    What the page computes.

    Args:
        args (`DemoArguments`):
            Which clips to search, and by which checkpoint to classify.

    Raises:
        `FileNotFoundError`: If the index has no vectors.
    """

    def __init__(self, args: DemoArguments):
        self.top_k, self.index, self.detector = args.top_k, None, None
        checkpoint = args.model_name_or_path or str(CHECKPOINT)
        if args.index_dir is not None:
            folder = Path(args.index_dir).expanduser()
            self.index = Index(folder)
            self.model, self.extractor = load_own_model(folder)
            checkpoint = args.model_name_or_path or read_settings(folder)["model_name_or_path"]
        else:
            self.extractor = load_extractor(checkpoint)
        if is_classifier(load_config(checkpoint)):
            self.detector = Detector(checkpoint, EventArguments())

    def analyse(self, path: str | None) -> tuple[list[dict], list[list], dict[str, float] | None, list[list], Any]:
        """
        Returns the similar clips, the same as rows of the table, the classes, the rows of the table of events, and the
        picture of a recording.
        """
        if path is None:
            return [], [], None, [], None
        try:
            waveform = load_audio(path, self.extractor.sampling_rate, duration=SHOWN_SECONDS)
            hits = self.find_similar(path)
            events, timeline = self.find_events(path)
        except BadClipError as error:
            raise gr.Error(str(error)) from error
        features = self.extractor(waveform, sampling_rate=self.extractor.sampling_rate, return_tensors="pt")
        rows = [[f"{hit['similarity']:.3f}", name_row(hit, shorten(hit["path"])), hit.get("label")] for hit in hits]
        picture = timeline or draw(features["input_values"][0].T.numpy(), self.extractor)
        return hits, rows, self.classify(waveform), events, picture

    def find_similar(self, path: str) -> list[dict[str, Any]]:
        if self.index is None:
            return []
        return self.index.search(embed_files(self.model, self.extractor, [path])[0], self.top_k)

    @torch.inference_mode()
    def classify(self, waveform: np.ndarray) -> dict[str, float] | None:
        if self.detector is None:
            return None
        classifier, extractor = self.detector.model, self.detector.extractor
        features = extractor(waveform, sampling_rate=extractor.sampling_rate, return_tensors="pt")
        scores = to_scores(classifier(**features.to(classifier.device)).logits[0], classifier.config)
        return {classifier.config.id2label[i]: float(score) for i, score in enumerate(scores)}

    def find_events(self, path: str) -> tuple[list[list[Any]], Figure | None]:
        """Returns the events of a recording as rows of a table, and the picture of its timeline."""
        if self.detector is None:
            return [], None
        ((_, timeline),) = self.detector.detect([(path, path)])
        if isinstance(timeline, BadClipError):
            raise timeline
        figure = Figure(figsize=(9, timeline_height(timeline)), layout="constrained")
        spectrogram = pooled_spectrogram(path, self.extractor)
        draw_timeline(figure, timeline, spectrogram, self.extractor, self.detector.args.threshold, "")
        rows = [[f"{e.start:.1f}", f"{e.end:.1f}", e.label, f"{e.score:.2f}"] for e in timeline.events]
        return rows, figure


def shorten(path: str | None) -> str | None:
    """The end of a path."""
    return path and "/".join(Path(path).parts[-3:])


def draw(log_mel: np.ndarray, extractor: COLAFeatureExtractor) -> Figure:
    """Draws a log-mel spectrogram `[bands, frames]`."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    axis = figure.subplots()
    seconds = log_mel.shape[1] * extractor.hop_length / extractor.sampling_rate
    axis.imshow(log_mel, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(log_mel)))
    axis.set(xlabel="Seconds", ylabel="Mel band", title="Log-mel spectrogram")
    return figure


def play(hits: list[dict[str, Any]], selection: gr.SelectData) -> tuple[int, np.ndarray] | None:
    """Decodes the clip of the row that was selected, if its file is there."""
    hit = hits[selection.index[0]]
    if hit["path"] is None or not Path(hit["path"]).is_file():
        gr.Warning("The audio of this clip is not a file on this computer.")
        return None
    waveform = load_audio(hit["path"], 16000, start=hit.get("time") or 0.0, duration=SHOWN_SECONDS)
    return 16000, (32767 * waveform.clip(-1, 1)).astype(np.int16)


def build_page(args: DemoArguments) -> gr.Blocks:
    """Builds the page; `launch()` opens it."""
    demo = Demo(args)
    with gr.Blocks(title="COLA") as page:
        gr.Markdown("# What does it sound like?\nUpload or record a sound.")
        hits = gr.State([])
        recording = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Recording")
        with gr.Row():
            with gr.Column(scale=2, visible=demo.index is not None):
                table = gr.Dataframe(
                    headers=HEADERS,
                    label="Similar clips: click one to play it",
                    interactive=False,
                    wrap=True,
                    column_widths=["18%", "57%", "25%"],
                )
                similar = gr.Audio(label="Similar clip", autoplay=True, interactive=False)
            with gr.Column(scale=1, visible=demo.detector is not None):
                classes = gr.Label(num_top_classes=5, label="Classes")
                events = gr.Dataframe(headers=EVENT_HEADERS, label="Events", interactive=False)
        picture = gr.Plot(show_label=False)
        recording.change(demo.analyse, recording, [hits, table, classes, events, picture])
        table.select(play, hits, similar)
    return page
