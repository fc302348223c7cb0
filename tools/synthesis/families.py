"""
The families of synthetic sounds. Each is a rough physical model of how a kind of sound arises.

A family is a function of a random generator and a number of samples. It draws an instrument, a register and a tempo,
and returns a dry sound of shape `(num_samples,)`, to which the room, the background and the microphone are added
later. Families share registers, so that long-term spectra hardly distinguish them. What does is how a sound evolves
over time and where its partials lie.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy.signal import lfilter

from tools.synthesis.blocks import (
    SAMPLING_RATE,
    WAVETABLE_SIZE,
    burst,
    coloured_noise,
    harmonics,
    log_uniform,
    melody,
    noise_band,
    oscillate,
    repeat,
    resonate,
    seconds,
    slow_curve,
    smooth,
    struck,
    sustain,
    vibrato,
)


CLIP_DURATION = 5.0
NUM_SAMPLES = int(CLIP_DURATION * SAMPLING_RATE)

# The first three formants of five vowels of men, in hertz (after Peterson and Barney, 1952).
VOWELS = [(270, 2290, 3010), (530, 1840, 2480), (730, 1090, 2440), (570, 840, 2410), (300, 870, 2240)]
# The frequencies of modes, relative to the first mode of the membrane or to the nominal pitch of the bell or bar.
MEMBRANE_MODES = np.array([1.0, 1.59, 2.14, 2.3, 2.65, 2.92])
BELL_MODES = [[0.5, 1.0, 1.2, 1.5, 2.0, 2.67, 3.0], [1.0, 2.76, 5.4, 8.93], [1.0, 1.59, 2.83, 4.24, 5.1, 6.3]]


def plucked(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Plucked strings, by the Karplus-Strong algorithm: bursts of noise that circulate in a damped delay line."""
    sound = np.zeros(num_samples)
    ring, brightness = log_uniform(rng, 0.4, 2.5), rng.uniform(0.2, 1.0)
    for note in melody(rng, num_samples):
        length = min(note.length + SAMPLING_RATE // 3, num_samples - note.start)
        # The loop has a fractional delay. It averages neighbouring samples, which damps high partials first.
        delay, fraction = divmod(SAMPLING_RATE / note.pitch - 0.5, 1)
        feedback = 10 ** (-3 / (ring * note.pitch)) * np.array([1 - fraction, 1.0, fraction]) / 2
        pluck = np.arange(length) <= delay
        pluck = lfilter([1.0], [1.0, brightness - 1], pluck * rng.uniform(-1, 1, length))
        string = lfilter([1.0], np.concatenate([[1.0], np.zeros(int(delay) - 1), -feedback]), pluck)
        damper = smooth((np.arange(length) < note.length) * 1.0, 0.04)
        sound[note.start : note.start + length] += note.gain * damper * string
    return sound


def blown(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Flutes and reeds: a few harmonics, and the noise of the breath around them."""
    attack, release = log_uniform(rng, 0.01, 0.06, 2)
    pitch, loudness = sustain(melody(rng, num_samples), num_samples, attack, release, glide=0.004)
    pitch = pitch * vibrato(rng, num_samples, 0.0005, 0.004)
    order = np.arange(1, 40)
    amplitudes = order ** -rng.uniform(1.0, 2.5) * np.where(order % 2, 1.0, rng.choice([0.05, 1.0]))
    tone = oscillate(harmonics(amplitudes, pitch.max()), pitch)
    breath = noise_band(rng, pitch * rng.integers(1, 4), log_uniform(rng, 100, 600))
    # The breath is heard before the tone starts, and then swells with it.
    puff = np.maximum(smooth(loudness, 0.05) - loudness, 0) + loudness
    return loudness**1.5 * tone + log_uniform(rng, 0.05, 0.4) * puff * breath


def bowed(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Bowed strings: a sawtooth wave with vibrato, filtered by the resonances of a wooden body."""
    attack, release = log_uniform(rng, 0.02, 0.1, 2)
    pitch, loudness = sustain(melody(rng, num_samples), num_samples, attack, release, log_uniform(rng, 0.01, 0.05))
    pitch = pitch * vibrato(rng, num_samples, 0.006, 0.02)
    tone = oscillate(harmonics(1 / np.arange(1.0, 80.0), pitch.max()), pitch)
    string = loudness * (tone + rng.uniform(0.02, 0.1) * rng.standard_normal(num_samples))
    body = [resonate(string, hz, hz / 5) for hz in log_uniform(rng, 250, 5000, rng.integers(3, 7))]
    return 0.2 * string + sum(body)


def bells(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Bells and bars: inharmonic partials that decay at different speeds."""
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
    """A drum kit that repeats a pattern: for each drum, the modes of a circular membrane and a burst of noise."""
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
    """Wind: bands of noise whose centre and strength follow the gusts."""
    gust = slow_curve(rng, num_samples, log_uniform(rng, 0.5, 2.0))
    sound = np.zeros(num_samples)
    for hz in log_uniform(rng, 150, 2500, rng.integers(1, 4)):
        strength = gust + 0.5 * slow_curve(rng, num_samples, 3.0)
        band = noise_band(rng, hz * 2 ** (rng.uniform(0.2, 0.8) * strength), hz * log_uniform(rng, 0.03, 0.5))
        sound += log_uniform(rng, 0.3, 1.0) * np.exp(rng.uniform(0.5, 1.2) * strength) * band
    return sound


def rain(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Rain: drops at random times, each a very short damped resonance, over a hiss."""
    density, duration = log_uniform(rng, 3, 25), num_samples / SAMPLING_RATE
    centre, ring, splash = log_uniform(rng, 500, 3000), log_uniform(rng, 0.01, 0.06), rng.uniform(0, 0.5)
    sound = log_uniform(rng, 0.003, 0.05) * coloured_noise(rng, num_samples, rng.uniform(-1, 1))
    for hz in centre * log_uniform(rng, 0.4, 2.2, 6):
        onsets = rng.uniform(0, duration, rng.poisson(density * duration))
        drop = struck(1600, np.array([hz]), np.ones(1), ring) + splash * burst(rng, 1600, 0.005)
        sound += repeat(drop, onsets, log_uniform(rng, 0.05, 1.0, len(onsets)), num_samples)
    return sound


def engine(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """An engine at a changing speed: a pressure pulse for each cylinder and cycle, filtered by an exhaust."""
    revolutions = slow_curve(rng, num_samples, log_uniform(rng, 0.4, 1.5))
    flutter = 0.01 * slow_curve(rng, num_samples, 20.0)
    cycles = log_uniform(rng, 8, 30) * 2 ** (rng.uniform(0.2, 0.7) * revolutions + flutter)
    cylinders, period = rng.integers(1, 7), np.zeros(WAVETABLE_SIZE)
    pulse = np.exp(-np.arange(WAVETABLE_SIZE) / WAVETABLE_SIZE * cylinders * log_uniform(rng, 5, 20))
    for cylinder in range(cylinders):
        firing = int((cylinder + rng.normal(0, 0.03)) / cylinders * WAVETABLE_SIZE)
        period += rng.uniform(0.6, 1.0) * np.roll(pulse, firing)
    pressure = oscillate(period - period.mean(), cycles)
    # Gas rushes out with each pulse, so that its noise pulsates at the same rate.
    pressure += rng.uniform(0.1, 0.5) * oscillate(period, cycles) * rng.standard_normal(num_samples)
    exhaust = [resonate(pressure, hz, hz / 3) for hz in log_uniform(rng, 80, 3000, 4)]
    return (1 + 0.3 * revolutions) * (0.2 * pressure + sum(exhaust))


def birds(rng: Generator, num_samples: int = NUM_SAMPLES) -> np.ndarray:
    """Birds: repeated phrases of short frequency sweeps."""
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
    """Footsteps: a heel and a toe on a surface, at the pace of walking or running."""
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
    """Sirens: a tone that is swept up and down or switched between two pitches, filtered by a horn."""
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
    """Speech-like voices: syllables of a glottal source, filtered by moving vowel formants, and of fricatives."""
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
    # Formants move by crossfading between the filters of the vowels. The size of the speaker scales all of them.
    size, sound = rng.uniform(0.9, 1.25), np.zeros(num_samples)
    for formants, weight in zip(vowels, weights, strict=True):
        sound += smooth(weight, 0.03) * sum(resonate(source, size * hz, 60 + 0.04 * hz) for hz in formants)
    hiss = resonate(rng.standard_normal(num_samples), rng.uniform(2500, 6000), 2000)
    return sound + np.std(sound) * smooth(frication, 0.01) * hiss


FAMILIES: dict[str, Callable[..., np.ndarray]] = {
    family.__name__: family
    for family in (plucked, blown, bowed, bells, drums, wind, rain, engine, birds, footsteps, siren, voice)
}
