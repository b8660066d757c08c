# SPDX-License-Identifier: Apache-2.0
"""Statistics of the transfer study: figures of one search, and intervals over pairs and seeds.

A curve is the list of a search's objectives (higher is better), None for a failure. `pairs` is a list with an entry per pair
of source and target, each the list of one value per seed. Definitions: docs/transfer-study.md. `self_test` checks them on
values that were worked out by hand.
"""
import math
import random
import statistics

ROUNDS = 2000  # of a bootstrap


def first_within(curve, best, share, cap):
    """The evaluation (from 1) that first came within `share` of the best time; cap when none did: (count, reached)."""
    for i, value in enumerate(curve[:cap]):
        if value is not None and value >= best / (1 + share) * (1 - 1e-9):
            return i + 1, True
    return cap, False


def best_so_far(curve, budget, floor):
    """The best of the first 1, 2, ..., budget evaluations; `floor` until one succeeds or beats it. A curve that ended early stays."""
    out, best = [], floor
    for i in range(budget):
        if i < len(curve) and curve[i] is not None and curve[i] > best:
            best = curve[i]
        out.append(best)
    return out


def area(curve, best, budget, floor):
    """Mean over the budget of ln(best / best so far): 0 is the optimum at once, lower is better."""
    return statistics.fmean(math.log(best / b) for b in best_so_far(curve, budget, floor))


def geomean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


def quantile(sorted_values, q):
    """Linear between order statistics."""
    at = q * (len(sorted_values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(sorted_values) - 1)
    return sorted_values[low] + (at - low) * (sorted_values[high] - sorted_values[low])


def bootstrap(pairs, figure, rounds=None, seed=1, level=0.95):
    """Percentile interval of figure(pairs): pairs are drawn with replacement, then each one's seeds.

    What belongs together (warm and cold of one seed) has to be one value, such as a tuple, so that it is drawn together.
    """
    rng = random.Random(seed)
    drawn = []
    for _ in range(rounds or ROUNDS):
        sample = [rng.choices(p, k=len(p)) for p in rng.choices(pairs, k=len(pairs))]
        drawn.append(figure(sample))
    drawn.sort()
    tail = (1 - level) / 2
    return quantile(drawn, tail), quantile(drawn, 1 - tail)


def geomean_of_medians(pairs):
    return geomean([statistics.median(p) for p in pairs])


def geomean_of_means(pairs):
    return geomean([statistics.fmean(p) for p in pairs])


def geomean_of_all(pairs):
    """Every pair counts alike, whatever its number of seeds."""
    return geomean([geomean(p) for p in pairs])


def mean_of_all(pairs):
    return statistics.fmean(statistics.fmean(p) for p in pairs)


def wilson(hits, n, z=1.959964):
    """95 % interval of a share."""
    if n == 0:
        return 0.0, 1.0
    p = hits / n
    mid = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, mid - half), min(1.0, mid + half)


def log_mean_sd(values):
    """Mean of the logs and the standard error of that mean; needs two values for an error."""
    logs = [math.log(v) for v in values]
    sd = statistics.stdev(logs) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return statistics.fmean(logs), sd


def close(a, b, tolerance=1e-9):
    assert abs(a - b) <= tolerance * max(1, abs(b)), "%r is not %r" % (a, b)


def self_test():
    """Raises AssertionError when a figure is not what was worked out by hand."""
    curve = [None, 2.0, 1.0, 4.0, 3.9]
    assert first_within(curve, 4.0, 0.05, 5) == (4, True)
    assert first_within(curve, 4.0, 0.05, 3) == (3, False)
    assert first_within(curve, 2.1, 0.05, 5) == (2, True)  # 2.1 / 1.05 exactly
    assert first_within([1.999], 2.1, 0.05, 7) == (7, False)
    assert first_within([], 1.0, 0.05, 7) == (7, False)
    assert best_so_far(curve, 7, 0.5) == [0.5, 2.0, 2.0, 4.0, 4.0, 4.0, 4.0]
    assert best_so_far(curve, 3, 3.0) == [3.0, 3.0, 3.0]
    close(area(curve, 4.0, 4, 1.0), (math.log(4) + 2 * math.log(2)) / 4)
    close(area([4.0], 4.0, 9, 1.0), 0)
    close(geomean([1, 4, 16]), 4)
    close(quantile([0, 1, 2, 3], 0.5), 1.5)
    close(quantile([5], 0.975), 5)
    close(geomean_of_medians([[1, 9, 100], [4, 4, 4]]), 6)
    close(geomean_of_means([[1, 3], [8, 8]]), 4)
    close(geomean_of_all([[1, 4], [8]]), 4)
    close(mean_of_all([[0, 1], [1]]), 0.75)
    low, high = wilson(0, 60)
    assert low == 0 and 0.055 < high < 0.065
    low, high = wilson(30, 60)
    close(low + high, 1)
    mean, sd = log_mean_sd([1.0, math.e])
    close(mean, 0.5)
    close(sd, 0.5)
    # an interval of a constant is the constant; of a known spread, about its normal approximation
    assert bootstrap([[2, 2], [2, 2]], geomean_of_all, rounds=50) == (2.0, 2.0)
    rng = random.Random(7)
    many = [[math.exp(rng.gauss(0, 1))] for _ in range(400)]
    low, high = (math.log(v) for v in bootstrap(many, geomean_of_all))
    assert 0.8 * 3.92 / 20 < high - low < 1.2 * 3.92 / 20, (low, high)
    # paired values stay together: the ratio of equal arms is exactly 1
    paired = [[(v, v) for v in p] for p in ([1, 5, 9], [2, 7])]
    ratio = bootstrap(paired, lambda s: geomean_of_all([[w / c for w, c in p] for p in s]), rounds=100)
    assert ratio == (1.0, 1.0)
