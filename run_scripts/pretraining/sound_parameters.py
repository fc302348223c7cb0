"""
The parameters of synthetic sounds.

A sound is a point: its position, between 0 and 1, in the range of each of `PARAMETERS`. Sounds whose points are near
each other are alike.
"""

from typing import NamedTuple

import torch


LOG = 0.0
MAX_STRIKE_RATE, MAX_EVENT_RATE = 400.0, 16.0  # Hz
NUM_CONTOUR_KNOTS, NUM_FORMANTS, NUM_FORMANT_KNOTS, NUM_EQUALIZER_KNOTS = 5, 3, 5, 6


class Parameter(NamedTuple):
    """
    A parameter of a sound.

    Args:
        name (`str`):
            Its name.
        unit (`str`):
            The unit of its values.
        low, high (`float`):
            Its range.
        curve (`float`, *optional*, defaults to 1.0):
            The position is raised to this power, so that values near `low` are the most frequent if it is above 1. 0
            stands for a logarithmic scale.
    """

    name: str
    unit: str
    low: float
    high: float
    curve: float = 1.0


def _numbered(name: str, count: int, *rest: str | float) -> list[Parameter]:
    return [Parameter(f"{name}_{i}", *rest) for i in range(count)]


PARAMETERS = [
    # The tone: a series of partials, which are the harmonics of its pitch if they are spaced by it.
    Parameter("tone_level", "dB", -40, 0),
    Parameter("pitch", "Hz", 40, 4000, LOG),
    Parameter("intonation", "semitones", 0, 18, 3),
    *_numbered("contour", NUM_CONTOUR_KNOTS, "of the intonation", -1, 1),
    Parameter("vibrato_rate", "Hz", 2, 20, LOG),
    Parameter("vibrato_depth", "semitones", 0, 3, 3),
    Parameter("melody_range", "semitones", 0, 14, 3),
    Parameter("chirp_down", "semitones", 0, 24, 5),
    Parameter("chirp_up", "semitones", 0, 24, 5),
    Parameter("brightness", "Hz", 150, 8000, LOG),
    Parameter("partial_spacing", "pitches", 1, 3, 5),
    Parameter("modulation_ratio", "pitches", 0.5, 3.5),
    Parameter("modulation_index", "rad", 0, 5, 4),
    # Noise: a band with a tilt.
    Parameter("noise_level", "dB", -40, 0),
    Parameter("noise_centre", "Hz", 50, 7500, LOG),
    Parameter("noise_width", "octaves", 0.1, 3),
    Parameter("noise_tilt", "dB/octave", -9, 6),
    # Strikes of something that rings.
    Parameter("strike_level", "dB", -40, 0),
    Parameter("strike_rate", "Hz", 2, MAX_STRIKE_RATE, LOG),
    Parameter("strike_irregularity", "periods", 0, 3, 2),
    Parameter("strike_spread", "dB", 0, 12),
    Parameter("ring_pitch", "Hz", 80, 6000, LOG),
    Parameter("ring_spacing", "pitches", 0.3, 3),
    Parameter("ring_brightness", "per partial", 0, 0.9),
    Parameter("ring_decay", "s", 0.001, 0.15, LOG),
    # How far the tone comes to the fore over time while the rest goes to the back, and the other way round.
    Parameter("exchange", "dB", 0, 40, 2),
    *_numbered("exchange_contour", NUM_CONTOUR_KNOTS, "of the exchange", -1, 1),
    # The envelope: events, each with an attack and a decay, and a tremolo.
    Parameter("event_rate", "Hz", 0.4, MAX_EVENT_RATE, LOG),
    Parameter("event_irregularity", "periods", 0, 0.5),
    Parameter("event_spread", "dB", 0, 20, 2),
    Parameter("attack", "s", 0.002, 0.2, LOG),
    Parameter("decay", "s", 0.01, 1, LOG),
    Parameter("sustain", "of the peak", 0, 1, 2),
    Parameter("tremolo_rate", "Hz", 0.5, 80, LOG),
    Parameter("tremolo_depth", "of the peak", 0, 1, 2),
    Parameter("tremolo_hardness", "", 1, 8),
    # Formants: resonances that move.
    Parameter("formant_level", "dB", 0, 50),
    Parameter("articulation", "octaves", 0, 1.5),
    Parameter("formant_width", "Hz", 60, 600, LOG),
    Parameter("formant_0", "Hz", 150, 1500, LOG),
    Parameter("formant_1", "Hz", 500, 4000, LOG),
    Parameter("formant_2", "Hz", 1500, 7500, LOG),
    *(
        parameter
        for i in range(NUM_FORMANTS)
        for parameter in _numbered(f"formant_{i}_move", NUM_FORMANT_KNOTS, "of the articulation", -1, 1)
    ),
    # The room and the microphone.
    Parameter("reverberation_time", "s", 0.05, 2, LOG),
    Parameter("reverberation_level", "dB", -40, 3),
    Parameter("background_level", "dB", -90, -20),
    *_numbered("equalizer", NUM_EQUALIZER_KNOTS, "dB", -12, 12),
    Parameter("level", "dB", -40, -12),
]


def random_positions(count: int, generator: torch.Generator) -> torch.Tensor:
    """Draws `count` points, of shape `(count, num_parameters)`, uniformly."""
    return torch.rand(count, len(PARAMETERS), generator=generator, device=generator.device)


def nearby_positions(positions: torch.Tensor, distance: float, generator: torch.Generator) -> torch.Tensor:
    """Moves each point by a share, `distance`, of the way to another one, which is drawn at random."""
    return torch.lerp(positions, random_positions(len(positions), generator), distance)


def parameter_values(positions: torch.Tensor) -> dict[str, torch.Tensor]:
    """The value of each parameter, in its unit and of shape `(batch_size, 1)`, at points."""
    values = {}
    for position, (name, _, low, high, curve) in zip(positions.split(1, dim=1), PARAMETERS):
        values[name] = low * (high / low) ** position if curve == LOG else low + (high - low) * position**curve
    return values
