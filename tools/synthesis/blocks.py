"""Building blocks for synthetic sounds: random curves, noise, resonances, oscillators, envelopes and melodies."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy.signal import fftconvolve, lfilter


SAMPLING_RATE = 16000
WAVETABLE_SIZE = 4096

# The steps of musical scales, in semitones above the tonic: major, minor, and two pentatonic ones.
SCALES = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], [0, 3, 5, 7, 10]]


def log_uniform(rng: Generator, low: float, high: float, size: int | None = None) -> float | np.ndarray:
    """
    Draws values between `low` and `high` that are uniformly distributed on a logarithmic scale, on which pitches,
    times and gains are perceived.
    """
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def seconds(num_samples: int) -> np.ndarray:
    """Returns the times of the samples in seconds, of shape `(num_samples,)`."""
    return np.arange(num_samples) / SAMPLING_RATE


def slow_curve(rng: Generator, num_samples: int, rate: float) -> np.ndarray:
    """Draws a smooth curve in [-1, 1], of shape `(num_samples,)`, that passes a random value `rate` times a second."""
    points = rng.uniform(-1, 1, size=int(num_samples / SAMPLING_RATE * rate) + 3)
    position = seconds(num_samples) * rate
    left = position.astype(int)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return points[left] * (1 - blend) + points[left + 1] * blend


def smooth(curve: np.ndarray, time_constant: float) -> np.ndarray:
    """Smooths a curve exponentially, with a time constant in seconds."""
    pole = np.exp(-1 / (time_constant * SAMPLING_RATE))
    return lfilter([1 - pole], [1, -pole], curve, zi=[pole * curve[0]])[0]


# Noise and resonances


def coloured_noise(rng: Generator, num_samples: int, exponent: float = 0.0) -> np.ndarray:
    """
    Generates noise with an RMS of 1, of shape `(num_samples,)`. Its power spectrum is proportional to
    `frequency ** -exponent`: 0 is white noise, 1 pink, 2 brown, and -1 blue.
    """
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE), 30.0)
    noise = np.fft.irfft(spectrum * frequencies ** (-exponent / 2), num_samples)
    return noise / np.sqrt(np.mean(noise**2))


def noise_band(rng: Generator, centre: np.ndarray, bandwidth: float) -> np.ndarray:
    """
    Generates a band of noise with an RMS of 1.

    Args:
        rng (`Generator`):
            Draws the noise.
        centre (`np.ndarray` of shape `(num_samples,)`):
            The centre of the band at each sample, in hertz.
        bandwidth (`float`):
            The width of the band, in hertz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`.
    """
    # Slow complex noise times a rotating phasor is a band-pass filter whose centre can move at every sample.
    pole = np.exp(-np.pi * bandwidth / SAMPLING_RATE)
    noise = rng.standard_normal(len(centre)) + 1j * rng.standard_normal(len(centre))
    baseband = lfilter([1 - pole], [1, -2 * pole, pole**2], noise)
    band = np.real(baseband * np.exp(2j * np.pi * np.cumsum(centre) / SAMPLING_RATE))
    return band / np.sqrt(np.mean(band**2))


def burst(rng: Generator, num_samples: int, decay: float, exponent: float = 0.0) -> np.ndarray:
    """Generates coloured noise, of shape `(num_samples,)`, that decays by 60 dB in `decay` seconds."""
    return coloured_noise(rng, num_samples, exponent) * np.exp(-6.9 / decay * seconds(num_samples))


def resonate(sound: np.ndarray, frequency: float, bandwidth: float) -> np.ndarray:
    """Filters a sound with a two-pole resonance, whose gain is about 1 at its centre `frequency`; both in hertz."""
    pole = np.exp(-np.pi * bandwidth / SAMPLING_RATE)
    angle = 2 * np.pi * min(frequency, 0.47 * SAMPLING_RATE) / SAMPLING_RATE
    return lfilter([1 - pole, 0, pole - 1], [1, -2 * pole * np.cos(angle), pole**2], sound)


# Tones and struck objects


def harmonics(amplitudes: np.ndarray, highest_pitch: float) -> np.ndarray:
    """
    Makes one period of a tone from the amplitudes of its harmonics.

    Args:
        amplitudes (`np.ndarray` of shape `(num_harmonics,)`):
            Their amplitudes, from the fundamental upwards.
        highest_pitch (`float`):
            The highest pitch at which the tone will be played, in hertz. Harmonics that exceed the Nyquist frequency
            at this pitch are left out.

    Returns:
        `np.ndarray` of shape `(WAVETABLE_SIZE,)`.
    """
    amplitudes = amplitudes[: max(1, int(0.5 * SAMPLING_RATE / highest_pitch))]
    spectrum = np.zeros(WAVETABLE_SIZE // 2 + 1, dtype=complex)
    spectrum[1 : 1 + len(amplitudes)] = -0.5j * WAVETABLE_SIZE * amplitudes
    return np.fft.irfft(spectrum)


def oscillate(period: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """
    Repeats one period of a waveform at a frequency that varies over time.

    Args:
        period (`np.ndarray` of shape `(period_length,)`):
            One period of the waveform.
        frequency (`np.ndarray` of shape `(num_samples,)`):
            The frequency at each sample, in hertz.

    Returns:
        `np.ndarray` of shape `(num_samples,)`.
    """
    phase = np.cumsum(frequency) / SAMPLING_RATE
    return period[(phase * len(period)).astype(int) % len(period)]


def struck(
    num_samples: int, frequencies: np.ndarray, gains: np.ndarray, decay: float, bend: float = 0.0
) -> np.ndarray:
    """
    Synthesizes the sound of a struck object: a damped sinusoid for each of its modes.

    Args:
        num_samples (`int`):
            Length of the sound.
        frequencies (`np.ndarray` of shape `(num_modes,)`):
            The frequencies of the modes, in hertz. Modes close to the Nyquist frequency or above it are left out.
        gains (`np.ndarray` of shape `(num_modes,)`):
            The gains of the modes.
        decay (`float`):
            The time in which the first mode decays by 60 dB, in seconds. Higher modes decay faster.
        bend (`float`, *optional*, defaults to 0.0):
            How much the pitch is raised at the start, as by the tension of a membrane.

    Returns:
        `np.ndarray` of shape `(num_samples,)`.
    """
    time, sound = seconds(num_samples), np.zeros(num_samples)
    warped = time + 0.03 * bend * (1 - np.exp(-time / 0.03))
    for relative, gain in zip(frequencies / frequencies[0], gains, strict=True):
        if relative * frequencies[0] < 0.47 * SAMPLING_RATE:
            envelope = np.exp(-6.9 / decay * relative**0.7 * time)
            sound += gain * relative**-0.5 * envelope * np.sin(2 * np.pi * relative * frequencies[0] * warped)
    return sound


def repeat(sound: np.ndarray, onsets: np.ndarray, gains: np.ndarray, num_samples: int) -> np.ndarray:
    """
    Plays one sound at several times.

    Args:
        sound (`np.ndarray` of shape `(sound_length,)`):
            The sound.
        onsets (`np.ndarray` of shape `(num_onsets,)`):
            When it starts, in seconds. Onsets outside of the result are left out.
        gains (`np.ndarray` of shape `(num_onsets,)`):
            Its gain each time.
        num_samples (`int`):
            Length of the result.

    Returns:
        `np.ndarray` of shape `(num_samples,)`.
    """
    train, positions = np.zeros(num_samples), (onsets * SAMPLING_RATE).astype(int)
    inside = (positions >= 0) & (positions < num_samples)
    np.add.at(train, positions[inside], gains[inside])
    return fftconvolve(train, sound)[:num_samples]


# Melodies


class Note(NamedTuple):
    """A note of a melody."""

    start: int  # in samples
    length: int  # how long the player holds it, in samples
    pitch: float  # in hertz
    gain: float


def melody(rng: Generator, num_samples: int, lowest: float = 110.0, highest: float = 660.0) -> list[Note]:
    """
    Draws the melody that a pitched instrument plays: a random walk on a scale, at a tempo of its own.

    Args:
        rng (`Generator`):
            Draws the melody.
        num_samples (`int`):
            Length of the clip. The last note may end after it.
        lowest, highest (`float`):
            The range from which the tonic is drawn, in hertz.
    """
    tonic, scale = log_uniform(rng, lowest, highest), SCALES[rng.integers(len(SCALES))]
    beat, articulation = log_uniform(rng, 0.17, 0.5) * SAMPLING_RATE, rng.uniform(0.5, 1.0)
    start, degree, notes = 0, rng.integers(len(scale)), []
    while start < num_samples:
        octave, step = divmod(degree, len(scale))
        length = int(beat * rng.choice([0.5, 1.0, 1.0, 1.5]))
        pitch = tonic * 2 ** (octave + scale[step] / 12)
        notes.append(Note(start, int(articulation * length), pitch, log_uniform(rng, 0.4, 1.0)))
        start, degree = start + length, np.clip(degree + rng.integers(-3, 4), 0, 7)
    return notes


def sustain(notes: list[Note], num_samples: int, attack: float, release: float, glide: float) -> np.ndarray:
    """
    Turns the notes of an instrument that holds one note at a time into curves of its pitch and loudness.

    Args:
        notes (`list[Note]`):
            The notes.
        num_samples (`int`):
            Length of the curves.
        attack (`float`):
            Time constant with which a note starts, in seconds.
        release (`float`):
            Time constant with which a note ends, in seconds.
        glide (`float`):
            Time constant with which the pitch moves to that of the next note, in seconds.

    Returns:
        `np.ndarray` of shape `(2, num_samples)`: The pitch in hertz, and the loudness.
    """
    pitch, gate = np.full(num_samples, notes[0].pitch), np.zeros(num_samples)
    for note in notes:
        pitch[note.start :], gate[note.start : note.start + note.length] = note.pitch, note.gain
    return np.stack([np.exp(smooth(np.log(pitch), glide)), smooth(smooth(gate, attack), release)])


def vibrato(rng: Generator, num_samples: int, lowest: float, highest: float) -> np.ndarray:
    """
    Draws the factors by which a vibrato changes a pitch, of shape `(num_samples,)`. Its rate is between 4 and 7 Hz,
    and its relative depth is drawn between `lowest` and `highest`.
    """
    rate = rng.uniform(4.0, 7.0) * (1 + 0.1 * slow_curve(rng, num_samples, 1.0))
    return 1 + log_uniform(rng, lowest, highest) * np.sin(2 * np.pi * np.cumsum(rate) / SAMPLING_RATE)
