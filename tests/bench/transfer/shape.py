# SPDX-License-Identifier: Apache-2.0
"""Shape transfer on real kernels: from a past search on one shape to searches on another, on this machine's processor."""
import functools
import hashlib
import json
import os
import random
import shutil
import sys
import tarfile
import time

import driver
import units

ARMS = ("cold", "warm", "wrong", "adopt", "prior", "plans")

MOE = "moe_fp8_block_scale_ds_routing_"
# label: family, definition, workload set
TASKS = {
    "gqa-kv1": ("gqa_paged_decode", "gqa_paged_decode_h32_kv1_d128_ps1", "cpu"),
    "gqa-kv4": ("gqa_paged_decode", "gqa_paged_decode_h32_kv4_d128_ps1", "cpu"),
    "gqa-kv8": ("gqa_paged_decode", "gqa_paged_decode_h32_kv8_d128_ps1", "cpu"),
    "decode-h8": ("mla_paged_decode", "mla_paged_decode_h8_ckv512_kpe64_ps1", "cpu"),
    "decode-h16": ("mla_paged_decode", "mla_paged_decode_h16_ckv512_kpe64_ps1", "cpu"),
    "decode-c256": ("mla_paged_decode", "mla_paged_decode_h16_ckv256_kpe64_ps1", "cpu"),
    "prefill-h8": ("mla_paged_prefill", "mla_paged_prefill_causal_h8_ckv512_kpe64_ps1", "cpu"),
    "prefill-h16": ("mla_paged_prefill", "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1", "cpu"),
    "moe-e8k1": ("moe_fp8_block_scale", MOE + "topk1_ng1_kg1_e8_h256_i128", "cpu"),
    "moe-e16": ("moe_fp8_block_scale", MOE + "topk4_ng4_kg2_e16_h256_i256", "cpu"),
    "moe-e32": ("moe_fp8_block_scale", MOE + "topk8_ng8_kg4_e32_h256_i128", "cpu"),
    "moe-e64": ("moe_fp8_block_scale", MOE + "topk8_ng8_kg4_e64_h256_i128", "cpu"),
    "moe-e32-few": ("moe_fp8_block_scale", MOE + "topk8_ng8_kg4_e32_h256_i128", "few"),
    "moe-e32-many": ("moe_fp8_block_scale", MOE + "topk8_ng8_kg4_e32_h256_i128", "many"),
}
# source, target
PAIRS = (
    ("gqa-kv4", "gqa-kv8"), ("gqa-kv8", "gqa-kv4"), ("gqa-kv4", "gqa-kv1"),
    ("decode-h16", "decode-h8"), ("decode-h8", "decode-h16"), ("decode-h16", "decode-c256"),
    ("prefill-h16", "prefill-h8"), ("decode-h16", "prefill-h16"), ("prefill-h16", "decode-h16"),
    ("moe-e8k1", "moe-e16"), ("moe-e16", "moe-e32"), ("moe-e32", "moe-e64"),
    ("moe-e32-few", "moe-e32-many"), ("moe-e32-many", "moe-e32-few"),
)
# The knowledge base of the arm `wrong`: a search of another family alone.
WRONG = (
    ("moe-e16", "gqa-kv8"), ("prefill-h16", "gqa-kv1"), ("gqa-kv4", "decode-h8"), ("moe-e16", "decode-c256"),
    ("gqa-kv4", "prefill-h8"), ("decode-h16", "moe-e16"), ("gqa-kv8", "moe-e64"), ("prefill-h16", "moe-e32-many"),
)
# Token regimes of one definition: (tokens, routing)
REGIMES = {"few": ((1, None), (2, None), (4, None), (6, "hot")), "many": ((64, None), (96, None), (128, "hot"))}


def add_options(g):
    g.add_argument("--evals", type=int, default=26, help="evaluations of a cold, warm or wrong search")
    g.add_argument("--past", type=int, default=80, help="evaluations of the past search (cold, one a task) behind the other arms' knowledge bases")
    g.add_argument("--ablation-evals", type=int, default=14, help="evaluations of an ablation")
    g.add_argument("--pairs", nargs="*", metavar="SOURCE:TARGET", help="some of the pairs, or others: labels of %s" % ", ".join(TASKS))
    g.add_argument("--keep", metavar="DIR", help="folder of the past searches' knowledge bases (--out with .kb)")
    g.add_argument("--rounds", type=int, default=3, help="rounds of the final comparison; 0: none")
    g.add_argument("--reserve", type=float, default=90, help="seconds before the deadline that the final comparison gets")
    g.add_argument("--threads", type=int, default=1, help="threads of a candidate; the judge needs a core besides")
    g.add_argument("--timing-budget", type=float, default=0.1, help="seconds of timing per workload")
    g.add_argument("--sandbox", choices=("bwrap", "none", "auto"), default="auto", help="auto: none only where bwrap does not work")


def regime_lines(name):
    out = []
    for tokens, routing in REGIMES[name]:
        params = {"routing": "hot", "hot_expert": 3} if routing == "hot" else {}
        out.append(json.dumps({"name": "t%d%s" % (tokens, "_hot" if routing else ""), "axes": {"seq_len": tokens}, "params": params}))
    return "\n".join(out) + "\n"


def copy_packs(tasks, work):
    """The task packs with the sets of the token regimes beside their own."""
    to = os.path.join(work, "tasks")
    shutil.copytree(tasks, to)
    for family, definition, set_name in TASKS.values():
        if set_name in REGIMES:
            with open(os.path.join(to, family, "workloads", "%s.%s.jsonl" % (definition, set_name)), "w") as f:
                f.write(regime_lines(set_name))
    return to


class Study:
    def __init__(self, machine, pairs, wrong, work, keep, options):
        self.machine, self.pairs, self.wrong, self.work, self.keep, self.o = machine, pairs, wrong, work, keep, options

    def labels(self):
        """All tasks that are searched, targets and sources."""
        used = {x for p in self.pairs for x in p}
        if "wrong" in self.o.arms:
            used |= {x for p in self.wrong for x in p}
        return [x for x in TASKS if x in used]

    def cache(self, worker):
        return os.path.join(self.work, "cache-%d" % worker)

    def targets(self):
        used = {p[1] for p in self.pairs} | ({p[1] for p in self.wrong} if "wrong" in self.o.arms else set())
        return [x for x in TASKS if x in used]

    def sources(self):
        used = {p[0] for p in self.pairs}
        if "wrong" in self.o.arms:
            used |= {p[0] for p in self.wrong}
        return [x for x in TASKS if x in used] if self.o.arms != ["cold"] else []

    def source_of(self, label):
        return os.path.join(self.keep, label + ".tar.gz")

    def units(self):
        """The past searches, then seed by seed the others, shuffled."""
        out = [units.Unit("shape past %s 0" % x, functools.partial(self.run, "past", None, x, 0)) for x in self.sources()]
        for seed in range(self.o.first_seed, self.o.first_seed + self.o.seeds):
            rest = [units.Unit("shape cold %s %d" % (x, seed), functools.partial(self.run, "cold", None, x, seed))
                    for x in self.targets()]
            for arm in self.o.arms:
                for source, target in (self.wrong if arm == "wrong" else self.pairs if arm != "cold" else ()):
                    rest.append(units.Unit("shape %s %s>%s %d" % (arm, source, target, seed),
                                           functools.partial(self.run, arm, source, target, seed),
                                           ["shape past %s 0" % source]))
            random.Random(seed).shuffle(rest)
            out += rest
        return out

    def stale_keys(self, rows):
        """Past searches whose knowledge base is lost while something still needs it: they have to run again."""
        have = {r["key"] for r in rows}
        needed = {n for u in self.units() if u.key not in have for n in u.needs}
        return {k for k in needed if not os.path.exists(self.source_of(k.split()[2]))}

    def run(self, arm, source, target, seed, worker):
        folder = os.path.join(self.work, "run-%d" % worker)
        shutil.rmtree(folder, ignore_errors=True)
        if source:
            os.makedirs(folder)
            unpack(self.source_of(source), folder)
        else:
            driver.copy_data(os.path.join(self.work, "blank"), folder)
        family, definition, set_name = TASKS[target]
        cold = arm in ("cold", "past")
        evals = self.o.past if arm == "past" else self.o.evals if arm in ("cold", "warm", "wrong") else self.o.ablation_evals
        more = ["--set", set_name]
        if cold:
            more.append("--cold")
        elif arm not in ("warm", "wrong"):
            more += ["--memory", arm]
        driver.lend_cache(self.cache(worker), folder)
        with driver.Daemon(self.machine, folder, worker) as d:
            show = d.finish(d.start(definition, seed, evals, *more))
            learned = driver.insights(d) if cold else None
        driver.take_cache(self.cache(worker), folder)
        if arm == "past":
            self.store(folder, target)
        shutil.rmtree(folder, ignore_errors=True)
        return dict(driver.result_of(show), part="shape", arm=arm, source=source, target=target, seed=seed, budget=evals,
                    insights=learned)

    def store(self, folder, label):
        path = self.source_of(label)
        with tarfile.open(path + ".new", "w:gz", compresslevel=3) as t:
            t.add(os.path.join(folder, "data"), "data",
                  filter=lambda i: None if i.name.split("/")[-1] in ("work", "lock", "build-cache") else i)
        os.replace(path + ".new", path)

    def probe(self, label, worker):
        family, definition, set_name = TASKS[label]
        folder = os.path.join(self.work, "run-%d" % worker)
        shutil.rmtree(folder, ignore_errors=True)
        driver.copy_data(os.path.join(self.work, "blank"), folder)
        took, said = [], []
        with driver.Daemon(self.machine, folder, worker) as d:
            for _ in range(4):
                began = time.time()
                r = d.call("eval", "run", "--task", definition, "--set", set_name, "--device", "cpu", "--assignment", "{}",
                           os.path.join(self.machine.tasks, family, "template.c"))
                took.append(time.time() - began)
                said.append("%s %s" % (r["status"], r["message"] or "%.2fx" % r["objective"]))
        shutil.rmtree(folder, ignore_errors=True)
        return {"label": label, "first": took[0], "then": sum(took[1:]) / 3, "said": "; ".join(said)}

    # ---- the final comparison ----

    def final_units(self, rows):
        """One per task and round: every champion once, in an order of the round's own."""
        out = []
        for label in self.labels():
            chosen = self.champions(rows, label)
            for n in range(self.o.rounds if chosen else 0):
                out.append(units.Unit("shape final %s %d %s" % (label, n, digest(chosen)),
                                      functools.partial(self.final, label, chosen, n)))
        out.sort(key=lambda u: int(u.key.split()[3]))
        return out

    def champions(self, rows, label):
        """Every arm's best on the task, and the sources' best where the target can run them; ablations' only among the best."""
        found, maybe = {}, {}
        for r in rows:
            if r["arm"] == "final" or not r.get("assignment"):
                continue
            if r["target"] == label:
                (found if r["arm"] in ("past", "cold", "warm", "wrong") else maybe)[canonical(r["assignment"])] = r["best"]
            elif r["arm"] == "past" and (r["target"], label) in self.pairs and TASKS[r["target"]][0] == TASKS[label][0]:
                found.setdefault(canonical(r["assignment"]), 0)
        good = sorted((b for b in list(found.values()) + list(maybe.values())), reverse=True)[:5]
        found.update({a: b for a, b in maybe.items() if good and b >= good[-1]})
        return sorted(found)

    def final(self, label, chosen, n, worker):
        family, definition, set_name = TASKS[label]
        template = os.path.join(self.machine.tasks, family, "template.c")
        order = list(range(len(chosen)))
        random.Random("%s %d" % (label, n)).shuffle(order)
        measured = [None] * len(chosen)
        folder = os.path.join(self.work, "run-%d" % worker)
        shutil.rmtree(folder, ignore_errors=True)
        driver.copy_data(os.path.join(self.work, "blank"), folder)
        driver.lend_cache(self.cache(worker), folder)
        with driver.Daemon(self.machine, folder, worker) as d:
            for i in order:
                r = d.call("eval", "run", "--task", definition, "--set", set_name, "--device", "cpu", "--assignment", chosen[i], template)
                measured[i] = r.get("objective")
        driver.take_cache(self.cache(worker), folder)
        shutil.rmtree(folder, ignore_errors=True)
        return {"part": "shape", "arm": "final", "target": label, "round": n, "assignments": chosen, "measured": measured}


def unpack(path, folder):
    """A knowledge base that `store` packed; older pythons know no filter."""
    with tarfile.open(path) as t:
        if hasattr(tarfile, "data_filter"):
            t.extractall(folder, filter="data")
        else:
            t.extractall(folder)


def canonical(assignment):
    return json.dumps(assignment, sort_keys=True, separators=(",", ":"))


def digest(chosen):
    return hashlib.sha256("\n".join(chosen).encode()).hexdigest()[:8]


def choose_sandbox(machine, work, asked):
    """What confines candidates here: bwrap where it works. Only the project's own templates are run."""
    if asked != "auto":
        return asked
    family, definition, _ = TASKS["gqa-kv1"]
    said = []
    for sandbox in ("bwrap", "none"):
        machine.sandbox = sandbox
        folder = os.path.join(work, "probe-" + sandbox)
        began = time.time()
        try:
            with driver.Daemon(machine, folder) as d:
                r = d.call("eval", "run", "--task", definition, "--set", "smoke", "--device", "cpu", "--assignment", "{}",
                           os.path.join(machine.tasks, family, "template.c"))
        except driver.StudyError as e:
            r = {"status": "refused", "message": str(e)}
        shutil.rmtree(folder, ignore_errors=True)
        if r["status"] == "ok":
            print("# sandbox %s, one evaluation with all builds took %.1f s" % (sandbox, time.time() - began), file=sys.stderr)
            return sandbox
        said.append("%s: %s: %s" % (sandbox, r["status"], r.get("message", "")))
    raise SystemExit("no evaluation works here; " + "; ".join(said))


def probe(a, work):
    """Whether evaluations work here, with and without company, and how long one takes, builds of task and baseline apart."""
    print("# %s" % driver.machine_text())
    machine, pairs, wrong = prepare(a, work)
    study = Study(machine, pairs, wrong, work, work, a)
    todo = [units.Unit("probe %s" % x, functools.partial(study.probe, x)) for x in study.labels()]
    for row in units.run_units(todo, a.jobs, None):
        if "error" not in row:
            print("probe.%-20s first %.2f s, then %.2f s an evaluation, %s" % (row["label"], row["first"], row["then"], row["said"]))


def prepare(a, work):
    os.chmod(work, 0o755)
    machine = driver.Machine(a.bin, copy_packs(a.tasks, work), "bwrap", a.threads, a.timing_budget, a.cores)
    machine.sandbox = choose_sandbox(machine, work, a.sandbox)
    # Probed once, before there is company: what the device can do also bounds what a kernel may claim.
    with driver.Daemon(machine, os.path.join(work, "blank")) as d:
        d.call("device", "probe")
    return (machine,) + parse_pairs(a.pairs)


def parse_pairs(asked):
    if not asked:
        return PAIRS, WRONG
    pairs = []
    for text in asked:
        source, _, target = text.partition(":")
        for x in (source, target):
            if x not in TASKS:
                raise SystemExit("--pairs: '%s' is none of %s" % (x, ", ".join(TASKS)))
        pairs.append((source, target))
    return tuple(pairs), tuple(p for p in WRONG if p[1] in {t for _, t in pairs})


def run(a, work, rows, out, deadline):
    """Searches, then the final comparison; gives all lines."""
    if a.summary_only:
        return rows
    keep = a.keep or (a.out + ".kb" if a.out else os.path.join(work, "kb"))
    os.makedirs(keep, exist_ok=True)
    machine, pairs, wrong = prepare(a, work)
    study = Study(machine, pairs, wrong, work, keep, a)
    done = {r["key"] for r in rows} - study.stale_keys(rows)
    rows = [r for r in rows if r["key"] in done]
    searches_end = deadline - a.reserve if deadline and a.rounds else deadline
    rows += units.run_units(study.units(), a.jobs, out, done, searches_end, a.grace)
    rows = [r for r in rows if "error" not in r]
    final = study.final_units(rows)
    rows += units.run_units(final, a.jobs, out, {r["key"] for r in rows}, deadline, a.grace)
    return rows
