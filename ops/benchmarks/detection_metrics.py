"""Scores of anomaly detectors: the NAB score with leave-one-out thresholds, VUS-PR, and average precision.

NAB v1.1 (Lavin & Ahmad, 2015): the first 15 % of a file (at most 750 rows) are not scored; a window counts once, more
the earlier it is hit; a false alarm costs more the farther it lies from the last window; 0 is what silence earns, 100
a perfect detector. VUS-PR (Paparrizos et al., VLDB 2022): area under precision and recall with labels that fade out
over a buffer, averaged over buffer lengths.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROFILES = {"standard": (1.0, 0.11), "low FP": (1.0, 0.22), "low FN": (2.0, 0.11)}  # cost of a miss, of a false alarm
BUFFER_ROWS_MAX = 100

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Labelled:
    """One file: what each row is worth, which window it lies in (-1: none), and which rows count."""

    worth: Floats
    window: NDArray[np.int64]
    counts: NDArray[np.bool_]
    windows: int


def label(times: Sequence[str], spans: Sequence[tuple[str, str]]) -> Labelled:
    """Lay NAB's windows over the rows of a file."""
    worth, window = np.full(len(times), -1.0), np.full(len(times), -1)
    for number, (begin, end) in enumerate(spans):
        left, right = times.index(begin), times.index(end)
        width = right - left + 1
        for row in range(left, right + 1):
            worth[row] = _sigmoid(-(right - row + 1) / width) / _sigmoid(-1.0)
            window[row] = number
        for row in range(right + 1, len(times)):
            worth[row] = _sigmoid((row - right) / (width - 1))
    probation = min(int(0.15 * len(times)), 750)
    return Labelled(worth, window, np.arange(len(times)) >= probation, len(spans))


def nab_raw(file: Labelled, scores: Floats, threshold: float, profile: str) -> float:
    """Return what a file earns above silence at ``threshold``."""
    miss, false_alarm = PROFILES[profile]
    hit = (scores >= threshold) & file.counts
    earned = float(file.worth[hit & (file.window < 0)].sum()) * false_alarm
    for number in range(file.windows):
        rows = hit & (file.window == number)
        if rows.any():
            earned += max(float(file.worth[rows].max()), -miss) + miss
    return earned


def nab(files: Sequence[Labelled], scores: Sequence[Floats], profile: str) -> tuple[float, float]:
    """Return the score with one threshold fitted on all files, and with each file's fitted on all others."""
    levels = _levels(scores)
    table = np.array(
        [[nab_raw(file, own, t, profile) for t in levels] for file, own in zip(files, scores, strict=True)]
    )
    whole = table.sum(axis=0)
    left_out = sum(row[int(np.argmax(whole - row))] for row in table)
    scale = 100.0 / (sum(file.windows for file in files) * (1.0 + PROFILES[profile][0]))
    return float(whole.max()) * scale, float(left_out) * scale


def vus_pr(labels: NDArray[np.int64], scores: Floats, thresholds: int = 250) -> float:
    """Return the volume under the precision-recall surface over buffers of 0 to 100 rows."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    cuts = ranked[np.unique(np.linspace(0, len(labels) - 1, thresholds).astype(int))]
    predicted = np.searchsorted(-ranked, -cuts, side="right")
    edges = np.diff(np.concatenate(([0], labels, [0])))
    begins, ends = np.flatnonzero(edges == 1).tolist(), np.flatnonzero(edges == -1).tolist()
    spans = [(begin, end - 1) for begin, end in zip(begins, ends, strict=True)]
    areas = []
    for buffer in range(0, BUFFER_ROWS_MAX + 1, 10):
        soft, half = _soften(labels, spans, buffer), buffer // 2
        peaks = np.array([scores[max(0, a - half) : b + half + 1].max() for a, b in spans])
        found = (peaks[None, :] >= cuts[:, None]).mean(axis=1)
        true = np.cumsum(soft[order])[predicted - 1]
        recall = np.minimum(true / ((labels.sum() + soft.sum()) / 2), 1.0) * found
        areas.append(float((np.diff(np.concatenate(([0.0], recall))) * true / predicted).sum()))
    return float(np.mean(areas))


def average_precision(labels: NDArray[np.int64], scores: Floats) -> float:
    """Return the area under the precision-recall curve; tied scores enter together."""
    order = np.argsort(-scores, kind="stable")
    ranked, true = scores[order], np.cumsum(labels[order])
    ends = np.flatnonzero(np.concatenate((ranked[1:] != ranked[:-1], [True])))
    recall, precision = true[ends] / labels.sum(), true[ends] / (ends + 1)
    return float((np.diff(np.concatenate(([0.0], recall))) * precision).sum())


def _levels(scores: Sequence[Floats]) -> Floats:
    # Only the highest 4,000 distinct scores: a threshold below them alarms on so many rows that it earns less than 0.
    distinct = np.unique(np.concatenate(scores))[::-1][:4000]
    return np.concatenate(([np.inf], distinct))


def _sigmoid(distance: float) -> float:
    return -1.0 if distance > 3.0 else 2.0 / (1.0 + math.exp(5.0 * distance)) - 1.0


def _soften(labels: NDArray[np.int64], spans: Sequence[tuple[int, int]], buffer: int) -> Floats:
    soft = labels.astype(float)
    for begin, end in spans:
        for step in range(1, buffer // 2 + 1):
            fade = math.sqrt(1.0 - step / buffer)
            for row in (begin - step, end + step):
                if 0 <= row < len(soft):
                    soft[row] = max(soft[row], fade)
    return soft
