"""
Make a small labelled corpus of SYNTHETIC sounds from a seed: nothing in it was recorded.

Each family is a rough model of how a kind of sound arises:

- `plucked`: strings, a Karplus-Strong loop (a noise burst circulating through a damped delay line);
- `blown`: flutes and reeds, a few harmonics plus the breath noise around them;
- `bowed`: strings under a bow, a sawtooth with vibrato through the resonances of a wooden body;
- `bells`: bells and bars, inharmonic partials which decay at different speeds;
- `drums`: a kit playing a looped pattern, the modes of a circular membrane plus a noise burst;
- `wind`: bands of noise whose centre and strength follow the gusts;
- `rain`: droplets at random times, each a very short damped resonance, over a hiss;
- `engine`: one pressure pulse per cylinder and cycle at a changing speed, through an exhaust;
- `birds`: phrases of short frequency sweeps, repeated;
- `footsteps`: a heel and a toe at a walking or running pace, on a surface;
- `siren`: a tone swept up and down, or switched between two pitches, through a horn;
- `voice`: syllables, a glottal source through moving vowel formants, with fricatives.

Every clip is one "recording": it draws its own instrument, register and tempo, then its own room, background noise,
microphone and level. Families share registers, and rooms and microphones colour all of them alike, so long-term
spectra do not settle which family it is: how the sound evolves in time and where its partials lie does.
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile as sf
from numpy.random import Generator
from scipy.signal import fftconvolve, lfilter
from tqdm import tqdm


SAMPLING_RATE = 16000
CLIP_DURATION = 5.0
NUM_SAMPLES = int(CLIP_DURATION * SAMPLING_RATE)
WAVETABLE_SIZE = 4096

# Formants (Hz) of men's vowels (after Peterson and Barney, 1952).
VOWELS = [(270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240)]
MEMBRANE_MODES = np.array([1.0, 1.59, 2.14, 2.3, 2.65, 2.92])
BELL_MODES = [[0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.0], [1.0, 2.76, 5.4, 8.93], [1.0, 1.59, 2.83, 4.24, 5.1, 6.3]]
SCALES = [[0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 2, 4, 7, 9], [0, 3, 5, 7, 10]]


# ---- Building blocks ------------------------------------------------------------------------------------------------


def log_uniform(rng: Generator, low: float, high: float, size: int | None = None) -> float | np.ndarray:
    """Draw between `low` and `high`, uniformly in the logarithm: pitches, times and gains are perceived that way."""
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def seconds(num_samples: int) -> np.ndarray:
    """Times of the samples in seconds, of shape `(num_samples,)`."""
    return np.arange(num_samples) / SAMPLING_RATE


def slow_curve(rng: Generator, num_samples: int, rate: float) -> np.ndarray:
    """A random curve in [-1, 1] of shape `(num_samples,)`, with about `rate` turns per second."""
    points = rng.uniform(-1, 1, size=int(num_samples / SAMPLING_RATE * rate) + 3)
    position = seconds(num_samples) * rate
    left = position.astype(int)
    blend = 0.5 - 0.5 * np.cos(np.pi * (position - left))
    return points[left] * (1 - blend) + points[left + 1] * blend


def coloured_noise(rng: Generator, num_samples: int, exponent: float = 0.0) -> np.ndarray:
    """Noise of unit RMS whose power falls as `frequency ** -exponent`: 0 is white, 1 pink, 2 brown, -1 blue."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    frequencies = np.maximum(np.fft.rfftfreq(num_samples, 1 / SAMPLING_RATE), 30.0)
    noise = np.fft.irfft(spectrum * frequencies ** (-exponent / 2), num_samples)
    return noise / np.sqrt(np.mean(noise**2))


def noise_band(rng: Generator, centre: np.ndarray, bandwidth: float) -> np.ndarray:
    """Noise `bandwidth` Hz wide around a moving `centre` in Hz, of shape `(num_samples,)`, as is the result."""
    # Slow complex noise times a rotating phasor: a band-pass filter whose centre can move at every sample.
    pole = np.exp(-np.pi * bandwidth / SAMPLING_RATE)
    noise = rng.standard_normal(len(centre)) + 1j * rng.standard_normal(len(centre))
    baseband = lfilter([1 - pole], [1, -2 * pole, pole**2], noise)
    band = np.real(baseband * np.exp(2j * np.pi * np.cumsum(centre) / SAMPLING_RATE))
    return band / np.sqrt(np.mean(band**2))


def resonate(sound: np.ndarray, frequency: float, bandwidth: float) -> np.ndarray:
    """Pass a sound through one resonance (two poles) with a gain of about 1 at its centre; both in Hz."""
    pole = np.exp(-np.pi * bandwidth / SAMPLING_RATE)
    angle = 2 * np.pi * min(frequency, 0.47 * SAMPLING_RATE) / SAMPLING_RATE
    return lfilter([1 - pole, 0, pole - 1], [1, -2 * pole * np.cos(angle), pole**2], sound)


def harmonics(amplitudes: np.ndarray, highest_pitch: float) -> np.ndarray:
    """One period, of shape `(WAVETABLE_SIZE,)`, of the harmonics that stay below Nyquist at `highest_pitch` Hz."""
    amplitudes = amplitudes[: max(1, int(0.5 * SAMPLING_RATE / highest_pitch))]
    spectrum = np.zeros(WAVETABLE_SIZE // 2 + 1, dtype=complex)
    spectrum[1 : 1 + len(amplitudes)] = -0.5j * WAVETABLE_SIZE * amplitudes
    return np.fft.irfft(spectrum)


def oscillate(period: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Repeat one `period` of a waveform at a moving `frequency` in Hz, of shape `(num_samples,)`, as is the result."""
    phase = np.cumsum(frequency) / SAMPLING_RATE
    return period[(phase * len(period)).astype(int) % len(period)]


def struck(
    num_samples: int, frequencies: np.ndarray, gains: np.ndarray, decay: float, bend: float = 0.0
) -> np.ndarray:
    """
    The modes of a struck object, of shape `(num_samples,)`: damped sinusoids at `frequencies` in Hz. The first one
    decays by 60 dB in `decay` seconds, higher ones faster. `bend` raises the pitch at the start, as tension does.
    """
    time, sound = seconds(num_samples), np.zeros(num_samples)
    warped = time + 0.03 * bend * (1 - np.exp(-time / 0.03))
    for relative, gain in zip(frequencies / frequencies[0], gains, strict=True):
        if relative * frequencies[0] < 0.47 * SAMPLING_RATE:
            envelope = np.exp(-6.9 / decay * relative**0.7 * time)
            sound += gain * relative**-0.5 * envelope * np.sin(2 * np.pi * relative * frequencies[0] * warped)
    return sound


def burst(rng: Generator, num_samples: int, decay: float, exponent: float = 0.0) -> np.ndarray:
    """A burst of coloured noise, of shape `(num_samples,)`, that decays by 60 dB in `decay` seconds."""
    return coloured_noise(rng, num_samples, exponent) * np.exp(-6.9 / decay * seconds(num_samples))


def repeat(sound: np.ndarray, onsets: np.ndarray, gains: np.ndarray, num_samples: int) -> np.ndarray:
    """Play one sound at several `onsets` (seconds), each with its gain; those outside of `num_samples` are dropped."""
    train, positions = np.zeros(num_samples), (onsets * SAMPLING_RATE).astype(int)
    inside = (positions >= 0) & (positions < num_samples)
    np.add.at(train, positions[inside], gains[inside])
    return fftconvolve(train, sound)[:num_samples]


def smooth(curve: np.ndarray, time_constant: float) -> np.ndarray:
    """Follow a curve with an exponential lag, in seconds."""
    pole = np.exp(-1 / (time_constant * SAMPLING_RATE))
    return lfilter([1 - pole], [1, -pole], curve, zi=[pole * curve[0]])[0]


class Note(NamedTuple):
    start: int  # in samples
    length: int  # in samples, for as long as the player holds it
    pitch: float  # in Hz
    gain: float


def melody(rng: Generator, num_samples: int, lowest: float = 110.0, highest: float = 660.0) -> list[Note]:
    """A random walk on a scale, in a register and at a tempo of its own: what all the pitched instruments play."""
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
    Pitch (Hz) and loudness curves, of shape `(2, num_samples)`, of an instrument which holds one note at a time.
    `attack`, `release` and `glide` (from one pitch to the next) are time constants in seconds.
    """
    pitch, gate = np.full(num_samples, notes[0].pitch), np.zeros(num_samples)
    for note in notes:
        pitch[note.start :], gate[note.start : note.start + note.length] = note.pitch, note.gain
    return np.stack([np.exp(smooth(np.log(pitch), glide)), smooth(smooth(gate, attack), release)])


def vibrato(rng: Generator, num_samples: int, lowest: float, highest: float) -> np.ndarray:
    """Factors on a pitch, of shape `(num_samples,)`: a wobble of 4 to 7 Hz, `lowest` to `highest` deep (relative)."""
    rate = rng.uniform(4.0, 7.0) * (1 + 0.1 * slow_curve(rng, num_samples, 1.0))
    return 1 + log_uniform(rng, lowest, highest) * np.sin(2 * np.pi * np.cumsum(rate) / SAMPLING_RATE)


# ---- Families: each makes a dry sound of shape (num_samples,) from a random generator -------------------------------


def plucked(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    sound = np.zeros(num_samples)
    ring, brightness = log_uniform(rng, 0.4, 2.5), rng.uniform(0.2, 1.0)
    for note in melody(rng, num_samples):
        length = min(note.length + SAMPLING_RATE // 3, num_samples - note.start)
        # Each turn of the loop averages neighbouring samples, which damps high partials first, at a fractional delay.
        delay, fraction = divmod(SAMPLING_RATE / note.pitch - 0.5, 1)
        feedback = 10 ** (-3 / (ring * note.pitch)) * np.array([1 - fraction, 1.0, fraction]) / 2
        pluck = np.arange(length) <= delay
        pluck = lfilter([1.0], [1.0, brightness - 1], pluck * rng.uniform(-1, 1, length))
        string = lfilter([1.0], np.concatenate([[1.0], np.zeros(int(delay) - 1), -feedback]), pluck)
        damper = smooth((np.arange(length) < note.length) * 1.0, 0.04)
        sound[note.start : note.start + length] += note.gain * damper * string
    return sound


def blown(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    attack, release = log_uniform(rng, 0.01, 0.06, 2)
    pitch, loudness = sustain(melody(rng, num_samples), num_samples, attack, release, glide=0.004)
    pitch = pitch * vibrato(rng, num_samples, 0.0005, 0.004)
    order = np.arange(1, 40)
    amplitudes = order ** -rng.uniform(1.0, 2.5) * np.where(order % 2, 1.0, rng.choice([0.05, 1.0]))
    tone = oscillate(harmonics(amplitudes, pitch.max()), pitch)
    breath = noise_band(rng, pitch * rng.integers(1, 4), log_uniform(rng, 100, 600))
    # Breath comes before the tone speaks and swells with it.
    puff = np.maximum(smooth(loudness, 0.05) - loudness, 0) + loudness
    return loudness**1.5 * tone + log_uniform(rng, 0.05, 0.4) * puff * breath


def bowed(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    attack, release = log_uniform(rng, 0.02, 0.1, 2)
    pitch, loudness = sustain(melody(rng, num_samples), num_samples, attack, release, log_uniform(rng, 0.01, 0.05))
    pitch = pitch * vibrato(rng, num_samples, 0.006, 0.02)
    tone = oscillate(harmonics(1 / np.arange(1.0, 80.0), pitch.max()), pitch)
    string = loudness * (tone + rng.uniform(0.02, 0.1) * rng.standard_normal(num_samples))
    body = [resonate(string, hz, hz / 5) for hz in log_uniform(rng, 250, 5000, rng.integers(3, 7))]
    return 0.2 * string + sum(body)


def bells(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    sound = np.zeros(num_samples)
    modes = np.array(BELL_MODES[rng.integers(len(BELL_MODES))])
    modes, gains = modes * rng.normal(1.0, 0.01, len(modes)), rng.uniform(0.2, 1.0, len(modes))
    decay, clapper = log_uniform(rng, 0.5, 3.0), rng.uniform(0.0, 0.5) * burst(rng, SAMPLING_RATE, 0.02)
    for note in melody(rng, num_samples, 150, 800):
        length = min(SAMPLING_RATE, num_samples - note.start)
        bell = struck(length, note.pitch * modes, gains, decay) + clapper[:length]
        sound[note.start : note.start + length] += note.gain * np.linspace(1, 0, length) * bell
    return sound


def drums(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    sound, size = np.zeros(num_samples), SAMPLING_RATE // 2
    interval, swing = log_uniform(rng, 0.1, 0.2), rng.uniform(0.0, 0.3)
    steps = np.arange(num_samples * 10 // SAMPLING_RATE)
    for pitch in log_uniform(rng, 60, 600, 3):
        gains, decay = rng.uniform(0.3, 1.0, len(MEMBRANE_MODES)), log_uniform(rng, 0.1, 0.6)
        membrane = struck(size, pitch * MEMBRANE_MODES, gains, decay, bend=1.0)
        snare = burst(rng, size, log_uniform(rng, 0.05, 0.3), rng.uniform(-1, 1))
        drum = rng.uniform(0.2, 1.0) * membrane + rng.uniform(0.05, 0.7) * snare
        pattern = rng.permutation([1, 1, 1, 0, 0, 0, 0, 0]) * rng.uniform(0.4, 1.0, 8)
        sound += repeat(drum, (steps + swing * (steps % 2)) * interval, pattern[steps % 8], num_samples)
    return sound


def wind(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    gust = slow_curve(rng, num_samples, log_uniform(rng, 0.5, 2.0))
    sound = np.zeros(num_samples)
    for hz in log_uniform(rng, 150, 2500, rng.integers(1, 4)):
        strength = gust + 0.5 * slow_curve(rng, num_samples, 3.0)
        band = noise_band(rng, hz * 2 ** (rng.uniform(0.2, 0.8) * strength), hz * log_uniform(rng, 0.03, 0.5))
        sound += log_uniform(rng, 0.3, 1.0) * np.exp(rng.uniform(0.5, 1.2) * strength) * band
    return sound


def rain(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    density, duration = log_uniform(rng, 3, 25), num_samples / SAMPLING_RATE
    centre, ring, splash = log_uniform(rng, 500, 3000), log_uniform(rng, 0.01, 0.06), rng.uniform(0, 0.5)
    sound = log_uniform(rng, 0.003, 0.05) * coloured_noise(rng, num_samples, rng.uniform(-1, 1))
    for hz in centre * log_uniform(rng, 0.4, 2.2, 6):
        onsets = rng.uniform(0, duration, rng.poisson(density * duration))
        drop = struck(1600, np.array([hz]), np.ones(1), ring) + splash * burst(rng, 1600, 0.005)
        sound += repeat(drop, onsets, log_uniform(rng, 0.05, 1.0, len(onsets)), num_samples)
    return sound


def engine(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    revolutions = slow_curve(rng, num_samples, log_uniform(rng, 0.4, 1.5))
    flutter = 0.01 * slow_curve(rng, num_samples, 20.0)
    cycles = log_uniform(rng, 8, 30) * 2 ** (rng.uniform(0.2, 0.7) * revolutions + flutter)
    cylinders, period = rng.integers(1, 7), np.zeros(WAVETABLE_SIZE)
    pulse = np.exp(-np.arange(WAVETABLE_SIZE) / WAVETABLE_SIZE * cylinders * log_uniform(rng, 5, 20))
    for cylinder in range(cylinders):
        firing = int((cylinder + rng.normal(0, 0.03)) / cylinders * WAVETABLE_SIZE)
        period += rng.uniform(0.6, 1.0) * np.roll(pulse, firing)
    pressure = oscillate(period - period.mean(), cycles)
    # Gas rushes out with each pulse, so its noise beats at the same rate.
    pressure += rng.uniform(0.1, 0.5) * oscillate(period, cycles) * rng.standard_normal(num_samples)
    exhaust = [resonate(pressure, hz, hz / 3) for hz in log_uniform(rng, 80, 3000, 4)]
    return (1 + 0.3 * revolutions) * (0.2 * pressure + sum(exhaust))


def birds(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    register, phrase = log_uniform(rng, 700, 4000), []
    timbre = harmonics(np.array([1.0, rng.uniform(0, 0.4)]), 1.9 * register)
    for _ in range(rng.integers(1, 5)):
        time = seconds(int(log_uniform(rng, 0.03, 0.2) * SAMPLING_RATE))
        progress = time / time[-1]
        trill = rng.choice([0.0, 0.1]) * np.sin(2 * np.pi * rng.uniform(20, 50) * time)
        sweep = rng.uniform(-0.6, 0.6) * progress + rng.uniform(-0.4, 0.4) * np.sin(np.pi * progress) + trill
        chirp = oscillate(timbre, register * 2**sweep) * np.sin(np.pi * progress) ** 0.7
        phrase += [np.pad(rng.uniform(0.4, 1.0) * chirp, (0, 300))] * rng.integers(1, 4) + [np.zeros(600)]
    phrase = np.concatenate(phrase)[: int(1.2 * SAMPLING_RATE)]
    gaps = len(phrase) / SAMPLING_RATE + rng.uniform(0.05, 0.4, num_samples * 10 // SAMPLING_RATE)
    onsets = np.cumsum(gaps) - rng.uniform(0.5, 1.0) * gaps[0]
    return repeat(phrase, onsets, log_uniform(rng, 0.4, 1.0, len(onsets)), num_samples)


def footsteps(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    sound, size = np.zeros(num_samples), SAMPLING_RATE // 2
    pace, softness, exponent = log_uniform(rng, 0.3, 0.65), log_uniform(rng, 0.04, 0.2), rng.uniform(-0.5, 1.5)
    roll = int(rng.uniform(0.05, 0.15) * SAMPLING_RATE)
    onsets = pace * (np.arange(num_samples / SAMPLING_RATE / pace) + rng.uniform(0, 1))
    onsets += rng.normal(0, 0.02 * pace, len(onsets))
    for foot in range(2):
        floor = struck(size, np.sort(log_uniform(rng, 70, 900, 3)), np.ones(3), rng.uniform(0.05, 0.2))
        step = rng.uniform(0.1, 0.6) * floor + burst(rng, size, softness, exponent)
        step[roll:] += rng.uniform(0.2, 0.7) * burst(rng, size, 1.5 * softness, exponent - 0.5)[:-roll]
        sound += repeat(step, onsets[foot::2], rng.uniform(0.6, 1.0, len(onsets[foot::2])), num_samples)
    return sound


def siren(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    rate = log_uniform(rng, 0.3, 5.0)
    swing = np.sin(2 * np.pi * (rate * seconds(num_samples) + rng.uniform()))
    if rng.random() < 0.3:
        swing = smooth(np.sign(swing), 0.005)
    pitch = log_uniform(rng, 250, 2000) * 2 ** (rng.uniform(0.2, 0.7) * swing)
    amplitudes = np.arange(1.0, 20.0) ** -rng.uniform(0.7, 2.5)
    tone = oscillate(harmonics(amplitudes, pitch.max()), pitch)
    horn = log_uniform(rng, 500, 3000)
    return 0.3 * tone + resonate(tone, horn, horn / 2)


def voice(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    gate, frication, vowels = np.zeros(num_samples), np.zeros(num_samples), rng.choice(VOWELS, 4, replace=False)
    weights = np.zeros((len(vowels), num_samples))
    start, syllable = 0, log_uniform(rng, 0.13, 0.3) * SAMPLING_RATE
    while start < num_samples:
        stop = start + int(syllable * rng.uniform(0.8, 1.25))
        speaking = start + int(rng.uniform(0.1, 0.45) * (stop - start))
        frication[start:speaking], gate[speaking:stop] = rng.choice([0.0, 0.3]), log_uniform(rng, 0.5, 1.0)
        weights[rng.integers(len(vowels)), start:stop] = 1
        start = stop
    intonation = 0.25 * slow_curve(rng, num_samples, 1.0) + 0.12 * slow_curve(rng, num_samples, 4.0)
    pitch = log_uniform(rng, 85, 320) * 2 ** (intonation + 0.01 * slow_curve(rng, num_samples, 40.0))
    glottis = oscillate(harmonics(np.arange(1.0, 90.0) ** -rng.uniform(1.0, 1.6), pitch.max()), pitch)
    source = smooth(gate, 0.015) * (glottis + rng.uniform(0.01, 0.1) * rng.standard_normal(num_samples))
    # Formants move by fading from one vowel's filter to the next one's; the size of the speaker scales them all.
    size, sound = rng.uniform(0.9, 1.25), np.zeros(num_samples)
    for formants, weight in zip(vowels, weights, strict=True):
        sound += smooth(weight, 0.03) * sum(resonate(source, size * hz, 60 + 0.04 * hz) for hz in formants)
    hiss = resonate(rng.standard_normal(num_samples), rng.uniform(2500, 6000), 2000)
    return sound + np.std(sound) * smooth(frication, 0.01) * hiss


FAMILIES: dict[str, Callable[..., np.ndarray]] = {
    family.__name__: family
    for family in (plucked, blown, bowed, bells, drums, wind, rain, engine, birds, footsteps, siren, voice)
}


# ---- Recording: room, background, microphone ------------------------------------------------------------------------


def add_room(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Reverberate: decaying noise stands in for the room's impulse response. Shapes `(num_samples,)`."""
    echoes = burst(rng, SAMPLING_RATE, log_uniform(rng, 0.15, 1.2), rng.uniform(0.0, 1.5))
    echoes *= log_uniform(rng, 0.05, 1.0) / np.sqrt(np.sum(echoes**2))
    echoes[0] += 1.0
    return fftconvolve(sound, echoes)[: len(sound)]


def add_background(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Add noise of a random colour, fluctuating a little, 0 to 25 dB below the sound. Shapes `(num_samples,)`."""
    noise = coloured_noise(rng, len(sound), rng.uniform(-0.5, 2.0))
    noise *= np.exp(rng.uniform(0.0, 0.5) * slow_curve(rng, len(sound), 2.0))
    snr = rng.uniform(0.0, 25.0)
    return sound + noise * 10 ** (-snr / 20) * np.sqrt(np.mean(sound**2) / np.mean(noise**2))


def add_microphone(rng: Generator, sound: np.ndarray) -> np.ndarray:
    """Colour the spectrum: a tilt, a few broad peaks and dips, and the edges of a band. Shapes `(num_samples,)`."""
    frequencies = np.maximum(np.fft.rfftfreq(len(sound), 1 / SAMPLING_RATE), 20.0)
    octaves = np.log2(frequencies / 1000)
    decibels = rng.uniform(-3, 3) * octaves
    for _ in range(4):
        decibels += rng.uniform(-8, 8) * np.exp(-(((octaves - rng.uniform(-4, 3)) / rng.uniform(0.3, 1.0)) ** 2))
    low, high = log_uniform(rng, 40, 300), log_uniform(rng, 3000, 8000)
    decibels -= 10 * np.log10(1 + (low / frequencies) ** 4) + 10 * np.log10(1 + (frequencies / high) ** 8)
    return np.fft.irfft(np.fft.rfft(sound) * 10 ** (decibels / 20), len(sound))


def synthesize_clip(family: str, index: int, seed: int = 0, duration: float = CLIP_DURATION) -> np.ndarray:
    """
    Make one clip, which depends on nothing but the arguments.

    Args:
        family: name of a family, a key of `FAMILIES`.
        index: which of the family's clips, from 0.
        seed: seed of the corpus.
        duration: length in seconds, at least 1 (for some of the sound to be in it).

    Returns:
        float32 waveform of shape `(duration * SAMPLING_RATE,)`, its peak between 0.05 and 0.95.
    """
    if family not in FAMILIES:
        raise ValueError(f"Unknown family {family!r}: choose one of {', '.join(FAMILIES)}.")
    if duration < 1:
        raise ValueError(f"`duration` must be at least 1 second, got {duration}.")
    rng = np.random.default_rng([seed, list(FAMILIES).index(family), index])
    sound = FAMILIES[family](rng, round(duration * SAMPLING_RATE))
    for add in (add_room, add_background, add_microphone):
        sound = add(rng, sound)
    return (sound / np.abs(sound).max() * log_uniform(rng, 0.05, 0.95)).astype(np.float32)


# ---- Corpus ---------------------------------------------------------------------------------------------------------


def write_clip(clip: tuple[str, int, Path], seed: int) -> None:
    """Write one `(family, index, path)` clip as 16-bit FLAC."""
    family, index, path = clip
    # Renamed once complete, so that an interrupted run leaves no truncated clip to be skipped by the next one.
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    sf.write(temporary, synthesize_clip(family, index, seed), SAMPLING_RATE, format="FLAC", subtype="PCM_16")
    temporary.replace(path)


def write_corpus(
    folder: str | Path, clips_per_family: int = 60, seed: int = 0, num_processes: int | None = None
) -> None:
    """
    Write `folder/<family>/<family>_<index>.flac` for every family, keeping the files which already exist (so give each
    seed a folder of its own).

    Args:
        folder: where to write; created if missing.
        clips_per_family: number of clips of each family.
        seed: seed of the corpus.
        num_processes: number of worker processes, by default one per CPU. It does not change the clips.
    """
    if clips_per_family <= 0:
        raise ValueError(f"`clips_per_family` must be positive, got {clips_per_family}.")
    if num_processes is not None and num_processes <= 0:
        raise ValueError(f"`num_processes` must be positive, got {num_processes}.")
    folder = Path(folder)
    clips = [
        (family, index, folder / family / f"{family}_{index:04d}.flac")
        for family in FAMILIES
        for index in range(clips_per_family)
    ]
    for family in FAMILIES:
        (folder / family).mkdir(parents=True, exist_ok=True)
    missing = [clip for clip in clips if not clip[2].exists()]
    progress = partial(tqdm, total=len(clips), initial=len(clips) - len(missing), desc="Synthesizing", unit="clip")
    write = partial(write_clip, seed=seed)
    if num_processes == 1 or not missing:
        list(progress(map(write, missing)))
        return
    # Threads that the parent may have started (PyTorch's) do not survive a fork, so start the workers afresh.
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(progress(pool.map(write, missing, chunksize=8)))
