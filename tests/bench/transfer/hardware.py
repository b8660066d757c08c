# SPDX-License-Identifier: Apache-2.0
"""Hardware transfer on recorded spaces: leave one device out. Arms and what their knowledge bases hold."""
import functools
import gzip
import json
import os
import random
import shutil
import statistics

import driver
import units

ARMS = ("cold", "random", "full", "history", "shuffled", "wrong", "stale", "oracle")
SHARES = (0.05, 0.10)
SUFFIX = ".t4.json.gz"


class Target:
    """One kernel on one device: its table, for the optimum alone."""

    def __init__(self, path, kernel, device):
        self.path, self.kernel, self.device = path, kernel, device
        self.name = "%s/%s" % (kernel, device)

    @functools.cached_property
    def values(self):
        """Objectives of the valid rows, best first: the median of the values over the value."""
        times = sorted(value_of(r) for r in read_table(self.path)["results"] if r["invalidity"] == "correct")
        middle = statistics.median(times)
        return [middle / t for t in times]

    @property
    def best(self):
        return self.values[0]

    @property
    def floor(self):
        return self.values[-1]


def read_table(path):
    with gzip.open(path) as f:
        return json.load(f)


def value_of(row):
    return next(m["value"] for m in row["measurements"] if m["name"] == row["objectives"][0])


def find_targets(hub):
    """All KERNEL/DEVICE.t4.json.gz below `hub`, in order of name."""
    found = []
    for kernel in sorted(os.listdir(hub)):
        folder = os.path.join(hub, kernel)
        for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
            if name.endswith(SUFFIX):
                found.append(Target(os.path.join(folder, name), kernel, name[:-len(SUFFIX)]))
    return found


def shuffle_table(path, to, seed):
    """The same table with the measurements of its valid rows dealt out anew."""
    table = read_table(path)
    rows = [r for r in table["results"] if r["invalidity"] == "correct"]
    dealt = [(r["measurements"], r.get("times")) for r in rows]
    random.Random(seed).shuffle(dealt)
    for r, (measurements, times) in zip(rows, dealt):
        r["measurements"] = measurements
        if times is not None:
            r["times"] = times
    with gzip.open(to, "wt", compresslevel=1) as f:
        json.dump(table, f)


class Study:
    """Options, and the folder in which everything happens."""

    def __init__(self, machine, targets, all_targets, work, options):
        self.machine, self.targets, self.all, self.work, self.o = machine, targets, all_targets, work, options
        for t in targets:  # read once, before the workers are made
            t.values

    def others(self, t):
        return [o for o in self.all if o.kernel == t.kernel and o.device != t.device]

    def foreign(self, t):
        """The tables of the next other kernel, in order of name; none where there is one kernel."""
        kernels = sorted({o.kernel for o in self.all})
        after = kernels[kernels.index(t.kernel) + 1:] + kernels[:kernels.index(t.kernel)]
        return [o for o in self.all if after and o.kernel == after[0]]

    def units(self):
        """One per search: seed by seed, so that a study that is cut short has whole seeds; the order within a seed is shuffled."""
        out = []
        for seed in range(self.o.first_seed, self.o.first_seed + self.o.seeds):
            batch = []
            for t in self.targets:
                for arm in self.o.arms:
                    if self.possible(arm, t):
                        batch.append(units.Unit("hardware %s %s %d" % (arm, t.name, seed),
                                                functools.partial(self.run, t, arm, seed)))
            random.Random(seed).shuffle(batch)
            out += batch
        if self.o.replication:
            out += [units.Unit("hardware replication %s 0" % t.name, functools.partial(self.replication, t))
                    for t in self.targets if self.others(t)]
        return out

    def possible(self, arm, t):
        return (bool(self.others(t)) if arm in ("full", "history", "shuffled", "stale") else
                bool(self.foreign(t)) if arm == "wrong" else True)

    # ---- knowledge bases ----

    def know(self, d, tables, as_task=None, as_device=None):
        for path, kernel, device in tables:
            d.call("kb", "import", path, "--format", "t4", "--task", as_task or kernel, "--device", as_device or device)

    def target_task(self, d, t):
        d.call("task", "import", t.path, "--name", t.kernel, "--device", t.device)

    def shared_base(self, name, t, fill, worker):
        """A base that all seeds start from: built by whoever comes first, copied by everybody."""
        folder = os.path.join(self.work, "bases", name.replace("/", "-"))
        lock = units.base_lock(folder)
        try:
            if not os.path.exists(os.path.join(folder, "ready")):
                with driver.Daemon(self.machine, folder, worker) as d:
                    self.target_task(d, t)
                    fill(d)
                open(os.path.join(folder, "ready"), "w").close()
        finally:
            lock.close()
        return folder

    def fill_full(self, t, d):
        self.know(d, [(o.path, o.kernel, o.device) for o in self.others(t)])

    def fill_wrong(self, t, d):
        self.know(d, [(o.path, o.kernel, o.device) for o in self.foreign(t)])

    def fill_stale(self, t, other, d):
        self.know(d, [(other.path, t.kernel, t.device)])

    def make_shuffled(self, t, seed, folder, d):
        for i, o in enumerate(self.others(t)):
            path = os.path.join(folder, "shuffled%d%s" % (i, SUFFIX))
            shuffle_table(o.path, path, "%s %d" % (o.name, seed))
            self.know(d, [(path, o.kernel, o.device)])
            os.unlink(path)

    def searches(self, d, targets, seed):
        """Cold searches of our own, side by side; the base keeps what they measured."""
        ids = [d.start(o.kernel, seed, self.o.history, "--cold", device=o.device) for o in targets]
        for i in ids:
            d.finish(i)

    def make_history(self, t, seed, d):
        for o in self.others(t):
            self.target_task(d, o)
        self.searches(d, self.others(t), 1000 + seed)

    def prepare(self, t, arm, seed, folder, worker):
        """The arm's base in `folder`, the target's table behind the evaluator."""
        if arm in ("full", "wrong"):
            base = self.shared_base("%s-%s" % (arm, t.name), t, functools.partial(getattr(self, "fill_" + arm), t), worker)
        elif arm == "stale":
            other = self.others(t)[seed % len(self.others(t))]
            base = self.shared_base("stale-%s-%s" % (t.name, other.device), t, functools.partial(self.fill_stale, t, other), worker)
        else:
            base = self.shared_base("target-%s" % t.name, t, lambda d: None, worker)
        driver.copy_data(base, folder)

    # ---- one search ----

    def enough(self, t):
        def f(curve):
            value = curve[-1]
            reached[0] = reached[0] or (value is not None and value >= t.best / (1 + SHARES[0]) * (1 - 1e-9))
            return reached[0] and len(curve) >= self.o.budget
        reached = [False]
        return f

    def run(self, t, arm, seed, worker):
        folder = os.path.join(self.work, "run-%d" % worker)
        shutil.rmtree(folder, ignore_errors=True)
        self.prepare(t, arm, seed, folder, worker)
        more = {"cold": ["--cold"], "random": ["--proposer", "random"]}.get(arm, [])
        with driver.Daemon(self.machine, folder, worker) as d:
            if arm == "history":
                self.make_history(t, seed, d)
            elif arm == "oracle":
                self.searches(d, [t], 1000 + seed)
            elif arm == "shuffled":
                self.make_shuffled(t, seed, folder, d)
            show = d.finish(d.start(t.kernel, seed, self.o.cap, *more, device=t.device), self.enough(t))
        shutil.rmtree(folder, ignore_errors=True)
        row = driver.result_of(show)
        reached = next((i + 1 for i, v in enumerate(row["curve"])
                        if v is not None and v >= t.best / (1 + SHARES[0]) * (1 - 1e-9)), 0)
        row["curve"] = row["curve"][:max(self.o.budget, reached) if reached else self.o.cap]
        row["arms"] = row["arms"][:len(row["curve"])]
        row.pop("assignment")
        row.update(part="hardware", arm=arm, kernel=t.kernel, device=t.device, seed=seed, optimum=t.best, floor=t.floor,
                   budget=self.o.budget, cap=self.o.cap)
        return row

    # ---- what is carried ----

    def replication(self, t, worker):
        """Signs of the claims that the other devices' tables settle, against those of the target's own table."""
        full = self.shared_base("full-%s" % t.name, t, functools.partial(self.fill_full, t), worker)
        own = self.shared_base("own-%s" % t.name, t,
                               lambda d: self.know(d, [(t.path, t.kernel, t.device)]), worker)
        found = []
        for name, base in (("there", full), ("here", own)):
            folder = os.path.join(self.work, "run-%d" % worker, name)
            shutil.rmtree(folder, ignore_errors=True)
            driver.copy_data(base, folder)
            with driver.Daemon(self.machine, folder, worker) as d:
                found.append(driver.insights(d))
            shutil.rmtree(folder, ignore_errors=True)
        return dict(replicated(*found), part="hardware", arm="replication", kernel=t.kernel, device=t.device, seed=0)


def settled(effect):
    """+1 or -1 when the 95 % interval of the effect [mean, sd, n] excludes 0, else 0."""
    mean, sd, n = effect
    if mean is None or sd is None or n < 2 or abs(mean) <= 1.96 * sd:
        return 0
    return 1 if mean > 0 else -1


def replicated(there, here):
    """Counts: claims settled there, those with evidence here, with the same sign here, settled here, and settled alike."""
    out = {"settled": 0, "tested": 0, "same_sign": 0, "settled_here": 0, "settled_same": 0}
    for claim, effect in there.items():
        sign = settled(effect)
        if sign == 0:
            continue
        out["settled"] += 1
        mine = here.get(claim)
        if mine is None or not mine[0]:
            continue
        out["tested"] += 1
        out["same_sign"] += (mine[0] > 0) == (sign > 0)
        if settled(mine):
            out["settled_here"] += 1
            out["settled_same"] += settled(mine) == sign
    return out
