"""Lists of skipped clips: what is written is what is read, whatever a clip is called."""

from pathlib import Path

from feature_extraction import ClipNote
from run_scripts.common.skipped import read_notes, write_notes


def test_notes_come_back_with_any_name(tmp_path: Path):
    notes = [
        ClipNote("empty", f"a  {name}.wav", "0 bytes") for name in ("plain", "not-utf-8-\udcff", "line\u2028", "雨")
    ]
    write_notes(tmp_path / "skipped.tsv", [*notes[:2], notes[0]])
    write_notes(tmp_path / "skipped.tsv", notes[2:], append=True)
    assert read_notes(tmp_path / "skipped.tsv") == notes
    write_notes(tmp_path / "skipped.tsv", [ClipNote("damaged", "a\tb.wav", "two\n  lines")])
    assert read_notes(tmp_path / "skipped.tsv") == [ClipNote("damaged", "a b.wav", "two lines")]


def test_a_line_that_was_cut_short_is_left_out(tmp_path: Path):
    write_notes(
        tmp_path / "skipped.tsv", [ClipNote("empty", "a.wav", "0 bytes"), ClipNote("empty", "b.wav", "0 bytes")]
    )
    data = (tmp_path / "skipped.tsv").read_bytes()
    (tmp_path / "skipped.tsv").write_bytes(data[:-12])
    assert [note.name for note in read_notes(tmp_path / "skipped.tsv")] == ["a.wav"]
    assert read_notes(tmp_path / "nowhere.tsv") == []
