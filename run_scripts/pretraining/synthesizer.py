"""
A synthesizer of random sounds, in batches, on the device of training.

The signal flows from three sources, a tone, noise and resonant strikes, through an envelope of repeated events, moving
formants, and a room, to a microphone. `sound_parameters.py` lists what can be set. What no parameter describes, such
as phases, noise and the times of irregular events, is drawn anew for each sound. What varies slowly is computed at
control points, every `CONTROL_HOP` samples.
"""

import math

import torch
import torch.nn.functional as F

from run_scripts.pretraining.sound_parameters import (
    MAX_EVENT_RATE,
    MAX_STRIKE_RATE,
    NUM_CONTOUR_KNOTS,
    NUM_EQUALIZER_KNOTS,
    NUM_FORMANT_KNOTS,
    NUM_FORMANTS,
    parameter_values,
)


CONTROL_HOP = 20  # samples, which is 1.25 ms
FORMANT_FFT = 512  # samples; its hop is half of it
HIGHEST_PARTIAL = 7600.0  # Hz; the features end at 7,800
# On CPUs, so few sounds at once that what is computed of them stays in the cache.
CPU_CHUNK = 16


def synthesize(
    positions: torch.Tensor, num_samples: int, generator: torch.Generator, sampling_rate: int = 16000
) -> torch.Tensor:
    """
    Makes the sounds at points.

    Args:
        positions (`torch.Tensor` of shape `(batch_size, num_parameters)`):
            The points.
        num_samples (`int`):
            Samples of each sound.
        generator (`torch.Generator`):
            Draws what the parameters leave open. It is on the device of `positions`.
        sampling_rate (`int`, *optional*, defaults to 16000):
            The sampling rate in hertz.

    Returns:
        `torch.Tensor` of shape `(batch_size, num_samples)`: Waveforms between -1 and 1.
    """
    chunk_size = CPU_CHUNK if positions.device.type == "cpu" else max(len(positions), 1)
    voice = _Voice(num_samples, sampling_rate, generator)
    return torch.cat([voice.sound(parameter_values(chunk)) for chunk in positions.split(chunk_size)])


def _gain(decibels: torch.Tensor) -> torch.Tensor:
    return 10 ** (decibels / 20)


def _unit(waveforms: torch.Tensor) -> torch.Tensor:
    """Scales each waveform to an RMS of 1; one that is silent stays so."""
    return waveforms / waveforms.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-4)


def _curves(knots: torch.Tensor, num_points: int) -> torch.Tensor:
    """Curves through knots, of shape `(batch_size, num_points)`, which are linear between them."""
    return F.interpolate(knots[:, None], num_points, mode="linear", align_corners=True)[:, 0]


class _Voice:
    """What makes sounds of one length; `p` are the values of their parameters."""

    def __init__(self, num_samples: int, sampling_rate: int, generator: torch.Generator):
        self.num_samples, self.rate, self.generator, self.device = (
            num_samples,
            sampling_rate,
            generator,
            generator.device,
        )
        self.seconds = num_samples / sampling_rate
        self.num_frames = math.ceil(num_samples / CONTROL_HOP)
        self.points = torch.arange(self.num_frames + 1, device=self.device) * (CONTROL_HOP / sampling_rate)
        self.within = torch.arange(CONTROL_HOP, device=self.device) / CONTROL_HOP
        self.times = torch.arange(num_samples, device=self.device) / sampling_rate
        bins = torch.fft.rfftfreq(num_samples, 1 / sampling_rate, device=self.device)
        self.octaves = bins.clamp_min(40).log2()
        # Each bin's share of the knots of an equaliser, which are equally far from each other in octaves.
        place = (self.octaves - self.octaves[0]) / (self.octaves[-1] - self.octaves[0]) * (NUM_EQUALIZER_KNOTS - 1)
        knots = torch.arange(NUM_EQUALIZER_KNOTS, device=self.device)
        self.equalizer_shares = (1 - (place - knots[:, None]).abs()).clamp_min(0)
        self.window = torch.hann_window(FORMANT_FFT, device=self.device).sqrt()
        self.formant_bins = torch.fft.rfftfreq(FORMANT_FFT, 1 / sampling_rate, device=self.device)

    def uniform(self, *shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=self.generator, device=self.device)

    def normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.device)

    def sound(self, p: dict[str, torch.Tensor]) -> torch.Tensor:
        """Sounds of shape `(batch_size, num_samples)`."""
        event, since_onset = self.events(p)
        white = torch.view_as_complex(self.normal(len(event), len(self.octaves), 2))
        envelope = self.envelope(p, event, since_onset)
        exchange = p["exchange"] * self.curves(p, "exchange_contour", NUM_CONTOUR_KNOTS, len(self.points))
        tone = _unit(self.tone(p, event, since_onset)) * self.upsample(envelope * _gain(p["tone_level"] + exchange))
        dry = tone + self.noise_and_strikes(p, white) * self.upsample(envelope * _gain(-exchange))
        recorded = _unit(self.room_and_microphone(p, self.formants(p, dry), white))
        recorded *= _gain(p["level"])
        return recorded / recorded.abs().amax(-1, keepdim=True).clamp_min(1)

    def curves(self, p: dict[str, torch.Tensor], name: str, num_knots: int, num_points: int) -> torch.Tensor:
        """Curves through the knots of this name."""
        return _curves(torch.cat([p[f"{name}_{i}"] for i in range(num_knots)], 1), num_points)

    def upsample(self, curves: torch.Tensor) -> torch.Tensor:
        """From control points, of shape `(batch_size, num_frames + 1)`, to samples."""
        return torch.lerp(curves[:, :-1, None], curves[:, 1:, None], self.within).flatten(1)[:, : self.num_samples]

    def phase(self, frequency: torch.Tensor) -> torch.Tensor:
        """The phase in rad, of shape `(batch_size, num_samples)`, of a frequency in hertz at the control points."""
        cycles = frequency * (CONTROL_HOP / self.rate)  # in each frame
        left, slope = cycles[:, :-1], cycles.diff()
        # Whole cycles are dropped, since so large numbers have few digits left after the point.
        ends = ((left + 0.5 * slope) % 1).cumsum(1)
        starts = F.pad(ends[:, :-1], (1, 0)) + self.uniform(len(frequency), 1)
        phase = slope[..., None] * (0.5 * self.within)
        phase = phase.add_(left[..., None]).mul_(self.within).add_((starts % 1)[..., None])
        return phase.mul_(2 * math.pi).flatten(1)[:, : self.num_samples]

    def events(self, p: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """The number of the event at each control point, and the seconds since its onset."""
        rate, count = p["event_rate"], len(p["event_rate"])
        # The onsets are shifted by noise that changes slowly enough to leave them in order.
        shift = _curves(self.uniform(count, 2 + int(4 * self.seconds)), len(self.points))
        place = self.points * rate + self.uniform(count, 1) + p["event_irregularity"] * shift
        event = place.floor()
        return event.long(), (place - event) / rate

    def event_values(self, event: torch.Tensor) -> torch.Tensor:
        """A random value of each event, in [-1, 1]."""
        most = int(MAX_EVENT_RATE * self.seconds) + 3
        return (2 * self.uniform(len(event), most) - 1).gather(1, event)

    def envelope(self, p: dict[str, torch.Tensor], event: torch.Tensor, since_onset: torch.Tensor) -> torch.Tensor:
        """The loudness at each control point."""
        rise = (since_onset / p["attack"]).clamp_max(1)
        fall = torch.exp((p["attack"] - since_onset).clamp_max(0) / p["decay"])
        turn = torch.sin(2 * math.pi * (self.points * p["tremolo_rate"] + self.uniform(len(event), 1)))
        tremolo = 1 - p["tremolo_depth"] * (0.5 + 0.5 * torch.tanh(p["tremolo_hardness"] * turn))
        loudness = _gain(p["event_spread"] * self.event_values(event))
        return loudness * rise * (p["sustain"] + (1 - p["sustain"]) * fall) * tremolo

    def tone(self, p: dict[str, torch.Tensor], event: torch.Tensor, since_onset: torch.Tensor) -> torch.Tensor:
        """A series of partials whose pitch moves."""
        semitones = p["intonation"] * self.curves(p, "contour", NUM_CONTOUR_KNOTS, len(self.points))
        turn = 2 * math.pi * (self.points * p["vibrato_rate"] + self.uniform(len(event), 1))
        semitones = semitones + p["vibrato_depth"] * torch.sin(turn)
        semitones = semitones + p["melody_range"] * self.event_values(event)
        # From the onset on over a tenth of a second, up or down to the pitch.
        chirp = torch.exp(-since_onset / 0.1)
        semitones = semitones + (p["chirp_down"] - p["chirp_up"]) * chirp
        pitch = (p["pitch"] * 2 ** (semitones / 12)).clamp(20, 0.9 * HIGHEST_PARTIAL)
        modulation = torch.sin(self.phase(pitch * p["modulation_ratio"]))
        spacing = pitch * p["partial_spacing"]
        return _partials(
            self.phase(pitch) + p["modulation_index"] * modulation,
            self.phase(spacing),
            torch.exp(-p["pitch"] * p["partial_spacing"] / p["brightness"]),
            1 + ((HIGHEST_PARTIAL - pitch) / spacing).amin(1, keepdim=True).floor(),
        )

    def noise_and_strikes(self, p: dict[str, torch.Tensor], white: torch.Tensor) -> torch.Tensor:
        """Noise in a band, from the spectrum of white noise, and strikes."""
        centre, width, tilt = p["noise_centre"].log2(), p["noise_width"], p["noise_tilt"] / 6.02
        shape = torch.exp2(-0.72 * ((self.octaves - centre) / width).square() + tilt * (self.octaves - centre))
        noise = white * shape
        ring = torch.fft.rfft(self.ring(p)) * torch.fft.rfft(self.strikes(p))
        spectrum = noise * _scale(noise, p["noise_level"]) + ring * _scale(ring, p["strike_level"])
        return torch.fft.irfft(spectrum, n=self.num_samples) * self.num_samples

    def strikes(self, p: dict[str, torch.Tensor]) -> torch.Tensor:
        """An impulse for each strike."""
        count, most = len(p["strike_rate"]), math.ceil(MAX_STRIKE_RATE * self.seconds)
        places = torch.arange(most, device=self.device) + self.uniform(count, 1)
        places = places + p["strike_irregularity"] * (self.uniform(count, most) - 0.5)
        samples = places / p["strike_rate"] * self.rate
        force = _gain(p["strike_spread"] * (self.uniform(count, most) - 1))
        force = force * ((samples >= 0) & (samples < self.num_samples))
        impulses = torch.zeros(count, self.num_samples, device=self.device)
        return impulses.scatter_add_(1, samples.clamp(0, self.num_samples - 1).long(), force)

    def ring(self, p: dict[str, torch.Tensor]) -> torch.Tensor:
        """How what is struck rings: partials of which the higher ones decay faster."""
        turn, decay = 2 * math.pi * self.times, torch.exp(-self.times / p["ring_decay"])
        spacing = p["ring_pitch"] * p["ring_spacing"]
        return decay * _partials(
            turn * p["ring_pitch"],
            turn * spacing,
            (p["ring_brightness"] * decay).clamp_min(1e-6),
            1 + ((HIGHEST_PARTIAL - p["ring_pitch"]) / spacing).floor(),
        )

    def formants(self, p: dict[str, torch.Tensor], waveforms: torch.Tensor) -> torch.Tensor:
        """Filters waveforms by resonances that move."""
        hop, length = FORMANT_FFT // 2, waveforms.shape[1]
        num_frames = math.ceil(length / hop) + 1
        padded = F.pad(waveforms, (hop, (num_frames + 1) * hop - length - hop))
        frames = padded.unfold(1, FORMANT_FFT, hop) * self.window
        gain = _gain(-p["formant_level"])[..., None].expand(-1, num_frames, len(self.formant_bins)).clone()
        for i in range(NUM_FORMANTS):
            moves = self.curves(p, f"formant_{i}_move", NUM_FORMANT_KNOTS, num_frames)
            centre = p[f"formant_{i}"] * torch.exp2(p["articulation"] * moves)
            off = (self.formant_bins - centre[..., None]).div_(p["formant_width"][..., None])
            gain += off.square_().add_(1).reciprocal_()
        frames = torch.fft.irfft(torch.fft.rfft(frames) * gain, n=FORMANT_FFT) * self.window
        first, second = frames.split(hop, dim=2)
        added = first[:, 1:] + second[:, :-1]
        return added.flatten(1)[:, :length]

    def room_and_microphone(
        self, p: dict[str, torch.Tensor], waveforms: torch.Tensor, white: torch.Tensor
    ) -> torch.Tensor:
        """Adds reverberation and, from the spectrum of white noise, a background, and filters the whole."""
        # By 60 dB in the reverberation time.
        fading = torch.exp(self.times * (-6.91 / p["reverberation_time"]))
        tail = torch.fft.rfft(self.normal(*waveforms.shape) * fading)
        spectrum = torch.fft.rfft(_unit(waveforms))
        energy = 0.5 * self.rate * p["reverberation_time"] / 6.91
        spectrum = spectrum * (1 + tail * (_gain(p["reverberation_level"]) / energy.sqrt()))
        # Backwards, the noise is another one than in the sound.
        spectrum += white.conj() * _scale(white, p["background_level"]) * self.num_samples
        knots = torch.cat([p[f"equalizer_{i}"] for i in range(NUM_EQUALIZER_KNOTS)], 1)
        return torch.fft.irfft(spectrum * _gain(knots @ self.equalizer_shares), n=self.num_samples)


def _scale(spectrum: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
    """The factor that gives the waveform of a spectrum, by a discrete Fourier series, an RMS of `level` in dB."""
    power = 2 * torch.view_as_real(spectrum).square().sum((1, 2)).sqrt()[:, None].clamp_min(1e-6)
    return _gain(level) / power


def _partials(phase: torch.Tensor, spacing: torch.Tensor, ratio: torch.Tensor, count: torch.Tensor) -> torch.Tensor:
    """
    The sum of `ratio**k * sin(phase + k * spacing)` over k from 0 to `count` - 1, at the cost of a few of its terms
    (Moorer, *The Synthesis of Complex Audio Spectra by Means of Discrete Summation Formulas*, 1976).

    Args:
        phase, spacing (`torch.Tensor` of shape `(batch_size, num_samples)`):
            The phase of the first partial, and what each one is ahead of the one before it, in rad.
        ratio (`torch.Tensor` of shape `(batch_size, num_samples or 1)`):
            How loud each partial is beside the one before it, in [0, 1).
        count (`torch.Tensor` of shape `(batch_size, 1)`):
            The number of partials.
    """
    last = phase + count * spacing
    series = torch.sin(phase) - ratio * torch.sin(phase - spacing)
    series -= torch.exp(count * ratio.log()) * (torch.sin(last) - ratio * torch.sin(last - spacing))
    # The same as 1 - 2 * ratio * cos(spacing) + ratio ** 2, without the cancellation of its terms.
    return series / ((1 - ratio).square() + 4 * ratio * torch.sin(0.5 * spacing).square()).clamp_min(1e-8)
