# SPDX-License-Identifier: Apache-2.0
"""The study's figures from its lines, as text and as tables."""
import json
import math
import statistics
from collections import defaultdict

import driver
import hardware
import stats

SHARES = (0.05, 0.10)
WARM_HARDWARE = ("full", "history", "shuffled", "wrong", "stale", "oracle")
WARM_SHAPE = ("warm", "adopt", "prior", "plans", "wrong")
HEAD = (1, 3)


class Figure:
    def __init__(self, name, value, unit, n, spread=""):
        self.name, self.value, self.unit, self.n, self.spread = name, value, unit, n, spread

    def line(self):
        return "%-58s %10.3f %-6s n=%-4d %s" % (self.name, self.value, self.unit, self.n, self.spread)


def interval(low_high):
    return "[%.3g, %.3g]" % low_high


def grouped(rows, key):
    """{key(row): [rows by seed]}, in order of key."""
    out = defaultdict(list)
    for r in rows:
        out[key(r)].append(r)
    return {k: sorted(out[k], key=lambda r: r["seed"]) for k in sorted(out)}


# ---- common to both parts: `match` is a list of pairs, each a list of (warm, cold) of one seed ----


def paired(warm, cold, key):
    """Pairs of equal key and seed: {pair: [(warm, cold)]}."""
    by = {(key(c), c["seed"]): c for c in cold}
    out = {}
    for pair, rows in grouped(warm, lambda r: r.get("pair") or key(r)).items():
        both = [(w, by[key(w), w["seed"]]) for w in rows if (key(w), w["seed"]) in by]
        if both:
            out[pair] = both
    return out


def count(row, share):
    return stats.first_within(row["curve"], row["optimum"], share, row["limit"])[0]


def worse_than_seeds(value, others):
    """Beyond what another seed of the same search explains: above the mean by 1.645 deviations of the others."""
    if len(others) < 3:
        return False
    return value > statistics.fmean(others) + 1.645 * statistics.stdev(others)


def curve_figures(prefix, match):
    """Area, head start, final as searched; all relative to cold (above 1: warm is better), geometric means over pairs."""
    def relative(figure):
        return [[figure(w, c) for w, c in p] for p in match.values()]

    def area(w, c):
        n = min(w["budget"], c["budget"])
        return math.exp(stats.area(c["curve"], c["optimum"], n, c["floor"]) - stats.area(w["curve"], w["optimum"], n, w["floor"]))

    def at(n):
        return lambda w, c: (stats.best_so_far(w["curve"], n, w["floor"])[-1] / stats.best_so_far(c["curve"], n, c["floor"])[-1])

    n = sum(len(p) for p in match.values())
    out = []
    for name, values in [("area_ratio", relative(area))] + [("head_start_at_%d" % k, relative(at(k))) for k in HEAD] + [
            ("final_ratio_as_searched", [[at(min(w["budget"], c["budget"]))(w, c) for w, c in p] for p in match.values()])]:
        out.append(Figure("%s.%s" % (prefix, name), stats.geomean_of_all(values), "x", n,
                          interval(stats.bootstrap(values, stats.geomean_of_all))))
    return out


def negative_figures(prefix, match, share=SHARES[0]):
    """Searches that are worse than the cold one of their seed, and than what another seed of cold explains."""
    worse, negative, by_area, n = 0, 0, 0, 0
    excess = []
    for both in match.values():
        cold_counts = [count(c, share) for _, c in both]
        cold_areas = [stats.area(c["curve"], c["optimum"], min(c["budget"], w["budget"]), c["floor"]) for w, c in both]
        mine = []
        for (w, c), area_c in zip(both, cold_areas):
            n += 1
            more = count(w, share) - min(count(c, share), w["limit"])
            mine.append(more)
            worse += more > 2
            negative += more > 2 and worse_than_seeds(count(w, share), cold_counts)
            area_w = stats.area(w["curve"], w["optimum"], min(c["budget"], w["budget"]), w["floor"])
            by_area += area_w > area_c and worse_than_seeds(area_w, cold_areas)
        excess.append(statistics.median(mine))
    out = [Figure(prefix + ".excess_over_cold.worst_pair", max(excess), "evals", len(excess),
                  "medians " + " ".join("%g" % e for e in excess))]
    for name, hits in (("worse_by_more_than_2", worse), ("negative_transfer.evals", negative), ("negative_transfer.area", by_area)):
        out.append(Figure("%s.%s" % (prefix, name), hits / n, "share", n, interval(stats.wilson(hits, n))))
    return out


def calibration_figures(prefix, rows):
    """Means over the arm's predictions; every prediction counts alike."""
    out = []
    for name in ("crps", "crps_corrected", "coverage80", "coverage80_corrected"):
        got = [(p["n"], p[name]) for p in (r.get("predictions") or {} for r in rows) if p.get("n") and p.get(name) is not None]
        if got:
            n = sum(g[0] for g in got)
            per = sorted(g[1] for g in got)
            out.append(Figure("%s.predictions.%s" % (prefix, name), sum(k * v for k, v in got) / n, "share" if "cover" in name else "log", n,
                              "per search %.2f %.2f %.2f" % tuple(stats.quantile(per, q) for q in (0.1, 0.5, 0.9))))
    return out


# ---- hardware ----


def hardware_figures(rows):
    rows = [dict(r, limit=r["cap"]) if "cap" in r else r for r in rows]
    def name(r): return "%s.%s" % (r["kernel"], r["device"])
    by_arm = grouped([r for r in rows if r["arm"] != "replication"], lambda r: r["arm"])
    cold = by_arm.get("cold", [])
    out = []
    for arm in by_arm:
        out += arrival_figures("hardware." + arm, grouped(by_arm[arm], name))
    for arm in WARM_HARDWARE:
        match = paired(by_arm.get(arm, []), cold, name)
        if match:
            out += ratio_figures("hardware." + arm, match) + curve_figures("hardware." + arm, match) + negative_figures("hardware." + arm, match)
    for arm in by_arm:
        out += calibration_figures("hardware." + arm, by_arm[arm])
    return out + replication_figures("hardware", [r for r in rows if r["arm"] == "replication"], name)


def arrival_figures(prefix, by_pair):
    """Evaluations to each share: per pair, then the geometric means over the pairs of the seeds' medians and means."""
    out = []
    if not by_pair:
        return out
    for share in SHARES:
        what = "evals_to_%d%%" % round(100 * share)
        counts = [[count(r, share) for r in rows] for rows in by_pair.values()]
        for pair, rows, c in zip(by_pair, by_pair.values(), counts):
            missed = sum(not stats.first_within(r["curve"], r["optimum"], share, r["limit"])[1] for r in rows)
            out.append(Figure("%s.%s.%s" % (prefix, pair, what), statistics.median(c), "evals", len(c), "mean %.1f; %s%s" % (
                statistics.fmean(c), " ".join(map(str, sorted(c))), "; %d never" % missed if missed else "")))
        n = sum(map(len, counts))
        for figure, f in (("medians", stats.geomean_of_medians), ("means", stats.geomean_of_means)):
            out.append(Figure("%s.geomean_of_%s.%s" % (prefix, figure, what), f(counts), "evals", n, interval(stats.bootstrap(counts, f))))
    return out


def ratio_figures(prefix, match):
    """Cold's evaluations over warm's; what never came within the share counts as the limit, the same for both."""
    out = []
    for share in SHARES:
        def ratio(w, c, share=share):
            limit = min(w["limit"], c["limit"])
            return min(count(c, share), limit) / min(count(w, share), limit)
        values = [[ratio(w, c) for w, c in p] for p in match.values()]
        out.append(Figure("%s.cold_over_warm.evals_to_%d%%" % (prefix, round(100 * share)), stats.geomean_of_all(values), "x",
                          sum(map(len, values)), interval(stats.bootstrap(values, stats.geomean_of_all))))
    return out


def replication_figures(prefix, rows, name):
    out = []
    for what, hits, of in (("same_sign", "same_sign", "tested"), ("settled_alike", "settled_same", "settled_here")):
        h, n = sum(r[hits] for r in rows), sum(r[of] for r in rows)
        if n:
            per = " ".join("%s %.2f" % (name(r), r[hits] / r[of]) for r in rows if r[of]) if len(rows) <= 16 else ""
            out.append(Figure("%s.replication.%s" % (prefix, what), h / n, "share", n, per))
    return out


# ---- shape ----


def shape_figures(rows):
    final = [r for r in rows if r["arm"] == "final"]
    searches = [r for r in rows if r["arm"] != "final"]
    worth = final_values(final)
    best = {t: max(stats.geomean(v) for v in w.values()) for t, w in worth.items()}
    if not best:  # no final comparison: the searches' own measurements
        for r in searches:
            best[r["target"]] = max(best.get(r["target"], 0), r["best"] or 0)
    searches = [prepare(r, best[r["target"]]) for r in searches if r["target"] in best]
    floors = {t: min([v for r in searches if r["target"] == t for v in r["curve"] if v] + [1.0]) for t in best}
    for r in searches:
        r["floor"] = floors[r["target"]]
    by_arm = grouped(searches, lambda r: r["arm"])
    cold = by_arm.get("cold", [])
    past = by_arm.get("past", [])
    near = nearest_outside(past, worth, best)
    out = [Figure("shape.best_known.%s" % t, best[t], "x", len(worth.get(t, ())), "assignments re-measured") for t in sorted(best)]
    out += arrival_figures("shape.cold", grouped(cold, lambda r: r["target"]))
    for arm in WARM_SHAPE:
        match = paired(by_arm.get(arm, []), cold, lambda r: r["target"])
        if not match:
            continue
        p = "shape." + arm
        out += arrival_figures(p, {k: [w for w, _ in v] for k, v in match.items()})
        out += ratio_figures(p, match) + pair_ratio_figures(p, match) + split_figures(p, match, near)
        out += curve_figures(p, match) + final_figures(p, match, worth) + negative_figures(p, match)
    for arm in by_arm:
        out += calibration_figures("shape." + arm, by_arm[arm])
    return out + replication_figures("shape", shape_replication(by_arm.get("warm", []), past, cold), lambda r: r["pair"])


def prepare(r, best):
    """A search that never came within counts as its budget plus one."""
    r = dict(r, optimum=best, limit=r["budget"] + 1)
    if r.get("source"):
        r["pair"] = "%s>%s" % (r["source"], r["target"])
    return r


def canonical(assignment):
    return json.dumps(assignment, sort_keys=True, separators=(",", ":"))


def final_values(final):
    """{target: {assignment: [objective per round]}}."""
    out = defaultdict(lambda: defaultdict(list))
    for r in final:
        for a, m in zip(r["assignments"], r["measured"]):
            if m:
                out[r["target"]][a].append(m)
    return out


def nearest_outside(past, worth, best):
    """{pair: whether the source's best, measured on the target, is outside 5 % of the best known}; absent: it has none there."""
    out = {}
    for c in past:
        a = canonical(c["assignment"]) if c.get("assignment") else None
        for target, values in worth.items():
            if target != c["target"] and a in values:
                out["%s>%s" % (c["target"], target)] = stats.geomean(values[a]) < best[target] / (1 + SHARES[0])
    return out


def pair_ratio_figures(prefix, match):
    out = []
    for pair, both in match.items():
        values = [min(count(c, SHARES[0]), w["limit"]) / count(w, SHARES[0]) for w, c in both]
        out.append(Figure("%s.%s.cold_over_warm.evals_to_5%%" % (prefix, pair), stats.geomean(values), "x", len(values),
                          " ".join("%.1f" % v for v in values)))
    return out


def split_figures(prefix, match, near):
    """The ratio apart for searches whose nearest task's best is within 5 % already, is outside, or cannot be run here."""
    out = []
    groups = (("nearest_within_5%", False), ("nearest_outside_5%", True), ("nearest_not_runnable", None))
    for name, wanted in groups:
        chosen = {p: both for p, both in match.items() if near.get(p) is wanted}
        if chosen:
            out += [Figure(f.name, f.value, f.unit, f.n, f.spread) for f in ratio_figures("%s.%s" % (prefix, name), chosen)[:1]]
    return out


def final_figures(prefix, match, worth):
    """Champions measured again side by side: warm over cold, and the share that lost beyond the noise of those measurements."""
    values, lost, n = [], 0, 0
    for both in match.values():
        mine = []
        for w, c in both:
            table = worth.get(w["target"], {})
            if w["budget"] != c["budget"] or not w.get("assignment") or not c.get("assignment"):
                continue
            a, b = (table.get(canonical(r["assignment"])) for r in (w, c))
            if not a or not b:
                continue
            n += 1
            mine.append(stats.geomean(a) / stats.geomean(b))
            lost += math.log(mine[-1]) < -1.96 * pooled_sd(table) * math.sqrt(1 / len(a) + 1 / len(b))
        if mine:
            values.append(mine)
    if not values:
        return []
    return [Figure(prefix + ".final_ratio", stats.geomean_of_all(values), "x", n, interval(stats.bootstrap(values, stats.geomean_of_all))),
            Figure(prefix + ".negative_transfer.final", lost / n, "share", n, interval(stats.wilson(lost, n)))]


def pooled_sd(table):
    """Standard deviation of one re-measurement's log, pooled over the task's assignments; at least 0.5 %."""
    squares, free = 0.0, 0
    for v in table.values():
        logs = [math.log(x) for x in v]
        if len(logs) > 1:
            squares += sum((x - statistics.fmean(logs)) ** 2 for x in logs)
            free += len(logs) - 1
    return max(0.005, math.sqrt(squares / free)) if free else 0.01


def shape_replication(warm, past, cold):
    """Claims that the source's past search settled, against the cold search on the target of the warm one's seed."""
    by = {(c["target"], c["seed"]): c for c in cold}
    source = {c["target"]: c for c in past}
    out = defaultdict(lambda: defaultdict(int))
    for w in warm:
        there, here = source.get(w["source"]), by.get((w["target"], w["seed"]))
        if not there or not here or not there.get("insights"):
            continue
        for k, v in hardware.replicated(there["insights"], here.get("insights") or {}).items():
            out[w["pair"]][k] += v
    return [dict(v, pair=k) for k, v in out.items()]


# ---- tables ----


def markdown(part, rows, figures):
    """The figures as tables: per pair and arm, then everything else as a list."""
    lines = ["<!-- tests/bench/transfer --part %s; %s; %d searches -->" % (part, driver.machine_text(), len(rows)), ""]
    by = {f.name: f for f in figures}
    arms = [x for x in (("cold", "random") + WARM_HARDWARE if part == "hardware" else ("cold",) + WARM_SHAPE)
            if any(f.name.startswith("%s.%s." % (part, x)) for f in figures)]
    for share in ("5%", "10%"):
        end = ".evals_to_" + share
        pairs = []
        for f in figures:
            for arm in arms:
                head = "%s.%s." % (part, arm)
                middle = f.name[len(head):-len(end)] if f.name.startswith(head) and f.name.endswith(end) else ""
                if middle and "cold_over_warm" not in middle and middle not in pairs:
                    pairs.append(middle)
        pairs.sort(key=lambda p: (p.startswith("geomean"), ">" in p, p))
        lines += ["Evaluations to within %s, medians over the seeds:" % share.replace("%", " %"), "",
                  "| pair | " + " | ".join(arms) + " |", "|---" * (len(arms) + 1) + "|"]
        for p in pairs:
            cells = [by.get("%s.%s.%s%s" % (part, arm, p, end)) for arm in arms]
            lines.append("| %s | %s |" % (p.replace("_", " ").replace(".", " "), " | ".join(
                "" if c is None else "%.3g%s" % (c.value, " " + c.spread if p.startswith("geomean") else "") for c in cells)))
        lines.append("")
    lines += ["| figure | value | n | spread |", "|---|---|---|---|"]
    for f in figures:
        if ".evals_to_" not in f.name or "cold_over_warm" in f.name:
            lines.append("| %s | %.3f %s | %d | %s |" % (f.name[len(part) + 1:], f.value, f.unit, f.n, f.spread))
    return "\n".join(lines) + "\n"


# ---- self-test ----


def self_test():
    """The figures of a small study that was worked out by hand."""
    def search(arm, seed, curve, **more):
        return dict({"part": "hardware", "arm": arm, "kernel": "k", "device": "d", "seed": seed, "curve": curve, "optimum": 4.0, "floor": 1.0,
                     "budget": 4, "cap": 9, "predictions": {"n": 4, "crps": 0.5, "coverage80": 0.75}}, **more)

    rows = [search("cold", s, [1.0, 2.0, None, 4.0]) for s in (1, 2, 3)] + [search("full", s, [4.0]) for s in (1, 2, 3)]
    got = {f.name: f for f in hardware_figures(rows)}
    stats.close(got["hardware.cold.geomean_of_medians.evals_to_5%"].value, 4)
    stats.close(got["hardware.full.k.d.evals_to_5%"].value, 1)
    stats.close(got["hardware.full.cold_over_warm.evals_to_5%"].value, 4)
    stats.close(got["hardware.full.head_start_at_1.".rstrip(".")].value, 4)
    stats.close(got["hardware.full.head_start_at_3"].value, 2)
    stats.close(got["hardware.full.area_ratio"].value, math.exp((math.log(4) + 2 * math.log(2)) / 4))
    stats.close(got["hardware.full.excess_over_cold.worst_pair"].value, -3)
    stats.close(got["hardware.full.negative_transfer.evals"].value, 0)
    stats.close(got["hardware.cold.predictions.coverage80"].value, 0.75)
    assert got["hardware.cold.predictions.crps"].n == 12
    # a warm arm that never arrives is negative transfer, every time
    assert hardware_figures([]) == [] and shape_figures([]) == []
    rows = [r for r in rows if r["arm"] == "cold"] + [search("wrong", s, [1.0] * 9) for s in (1, 2, 3)]
    got = {f.name: f for f in hardware_figures(rows)}
    stats.close(got["hardware.wrong.negative_transfer.evals"].value, 1)
    stats.close(got["hardware.wrong.negative_transfer.area"].value, 1)
    stats.close(got["hardware.wrong.k.d.evals_to_5%"].value, 9)
    shape_self_test()


def shape_self_test():
    def search(arm, source, target, seed, curve, a):
        return {"part": "shape", "arm": arm, "source": source, "target": target, "seed": seed, "curve": curve, "best": max(curve),
                "assignment": {"A": a}, "budget": len(curve), "insights": {"i": [0.5, 0.1, 3], "j": [-0.5, 0.1, 3]}}

    rows = [search("past", None, "s", 0, [1.0, 2.0], 1), search("cold", None, "t", 1, [1.0, 2.0, 3.0, 4.0], 2),
            search("warm", "s", "t", 1, [3.0, 3.9, 4.0, 4.0], 3)]
    rows[0]["insights"] = {"i": [0.4, 0.1, 3], "j": [0.4, 0.1, 2], "k": [0.1, 0.5, 9]}
    keys = ['{"A":1}', '{"A":2}', '{"A":3}']
    rows += [{"part": "shape", "arm": "final", "target": "t", "round": n, "assignments": keys, "measured": [3.0, 4.0, 4.0]} for n in range(3)]
    rows += [{"part": "shape", "arm": "final", "target": "s", "round": 0, "assignments": keys[:1], "measured": [2.0]}]
    got = {f.name: f for f in shape_figures(rows)}
    stats.close(got["shape.best_known.t"].value, 4)
    stats.close(got["shape.cold.t.evals_to_5%"].value, 4)
    stats.close(got["shape.warm.s>t.evals_to_5%"].value, 2)
    stats.close(got["shape.warm.nearest_outside_5%.cold_over_warm.evals_to_5%"].value, 2)
    assert "shape.warm.nearest_within_5%.cold_over_warm.evals_to_5%" not in got
    stats.close(got["shape.warm.final_ratio"].value, 1)
    stats.close(got["shape.warm.negative_transfer.final"].value, 0)
    stats.close(got["shape.replication.same_sign"].value, 0.5)
    assert got["shape.replication.same_sign"].n == 2
