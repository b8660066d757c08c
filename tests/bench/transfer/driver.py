# SPDX-License-Identifier: Apache-2.0
"""Private daemons, the cores they run on, and searches through `ksearch --json`."""
import json
import os
import platform
import shutil
import subprocess
import time


class StudyError(Exception):
    """Something that the daemon or the machine refused; a sentence."""


class Machine:
    """What all daemons of a study share: programs, options, whether candidates are confined."""

    def __init__(self, bin_dir, tasks=None, sandbox="bwrap", threads=1, timing_budget=0.1, cores=2):
        self.bin, self.tasks, self.sandbox, self.threads = os.path.abspath(bin_dir), tasks, sandbox, threads
        self.timing_budget, self.cores = timing_budget, cores

    def options(self):
        rows = ["default_device = cpu", "sandbox = %s" % self.sandbox, "eval_threads = %d" % self.threads,
                "timing_budget = %g" % self.timing_budget, "workers = 2", "log_level = warn"]
        if self.tasks:
            rows.append("tasks = %s" % self.tasks)
        return "\n".join(rows) + "\n"


def core_sets(per_set):
    """Disjoint sets of `per_set` cores this process may use; threads of one physical core stay together."""
    allowed = os.sched_getaffinity(0)
    order, seen = [], set()
    for c in sorted(allowed):
        try:
            with open("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list" % c) as f:
                siblings = parse_cores(f.read())
        except (OSError, ValueError):
            siblings = [c]
        for s in siblings:
            if s in allowed and s not in seen:
                seen.add(s)
                order.append(s)
    sets = [order[i:i + per_set] for i in range(0, len(order) - per_set + 1, per_set)]
    return sets or [order]


def parse_cores(text):
    """[0, 1, 16] of "0-1,16"."""
    out = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        out += range(int(low), int(high or low) + 1)
    return out


class Daemon:
    """A private daemon on a folder of its own. `worker` picks its cores and, without a sandbox, its user."""

    def __init__(self, machine, folder, worker=0):
        os.makedirs(folder, exist_ok=True)
        self.machine, self.folder = machine, folder
        self.socket = os.path.join(folder, "s")
        conf = os.path.join(folder, "conf")
        with open(conf, "w") as f:
            f.write(machine.options())
        sets = core_sets(machine.cores)
        cores = sets[worker % len(sets)]
        self.log = open(os.path.join(folder, "log"), "a")
        more = {}
        # Without bwrap programs are told apart by user alone, and their count is limited by user:
        # daemons beside each other need users of their own.
        if machine.sandbox == "none" and os.geteuid() == 0:
            more = {"user": 32000 + worker, "group": 32000 + worker, "extra_groups": []}
            own(folder, 32000 + worker)
        self.process = subprocess.Popen(
            [os.path.join(machine.bin, "ksearchd"), "--config", conf, "--data", os.path.join(folder, "data"),
             "--socket", self.socket],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log,
            preexec_fn=lambda: os.sched_setaffinity(0, cores), **more)
        for _ in range(600):
            if os.path.exists(self.socket) and self.call("status", check=False) is not None:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        self.process.kill()
        self.process.wait()
        with open(self.log.name) as f:
            raise StudyError("the daemon did not start: " + f.read()[-600:])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def command(self, args):
        return [os.path.join(self.machine.bin, "ksearch"), "--socket", self.socket, "--json"] + list(args)

    def call(self, *args, check=True):
        r = subprocess.run(self.command(args), capture_output=True, text=True)
        if r.returncode not in ((0, 9) if check else (0,)):
            if check:
                raise StudyError("ksearch %s: %s" % (" ".join(args)[:300], r.stderr.strip()))
            return None
        return json.loads(r.stdout)

    def start(self, task, seed, evals, *more, device="cpu"):
        return self.call("search", "start", task, "--device", device, "--seed", str(seed),
                         "--budget", "evals=%d" % evals, *more)["id"]

    def finish(self, search, enough=None):
        """Waits for the search's end, or for enough(curve) to hold, and gives what `search show` says then.

        `enough` sees the objectives so far. The search is cancelled when it is enough.
        """
        if enough:
            self.follow(search, enough)
        while True:
            show = self.call("search", "show", search)
            if show["state"] == "failed":
                raise StudyError("search %s failed: %s" % (search, show["reason"]))
            if enough or show["state"] in ("done", "cancelled"):
                break
            time.sleep(0.2)
        if show["state"] not in ("done", "cancelled"):
            self.call("search", "cancel", search, check=False)
        return show

    def follow(self, search, enough):
        watch = subprocess.Popen(self.command(["search", "watch", search]), stdout=subprocess.PIPE, text=True,
                                 stderr=subprocess.DEVNULL)
        curve = []
        for line in watch.stdout:
            event = json.loads(line)
            event = event.get("event", event)
            if event.get("type") == "measured":
                curve.append(event.get("objective"))
                if enough(curve):
                    break
        watch.terminate()
        watch.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log.close()


def own(folder, uid):
    """Gives the folder to a user."""
    for at, _, names in os.walk(folder):
        for name in [at] + [os.path.join(at, n) for n in names]:
            os.chown(name, uid, uid, follow_symlinks=False)


def copy_data(source, folder):
    """A stopped daemon's data in a new folder."""
    os.makedirs(folder, exist_ok=True)
    shutil.copytree(os.path.join(source, "data"), os.path.join(folder, "data"), ignore=shutil.ignore_patterns("work", "lock"))


def lend_cache(cache, folder):
    """Puts a worker's cache of built tasks and baselines below a new data folder: building them again takes seconds."""
    if os.path.isdir(cache):
        os.makedirs(os.path.join(folder, "data"), exist_ok=True)
        shutil.rmtree(os.path.join(folder, "data", "build-cache"), ignore_errors=True)
        os.rename(cache, os.path.join(folder, "data", "build-cache"))


def take_cache(cache, folder):
    """Takes it back from a stopped daemon's folder."""
    mine = os.path.join(folder, "data", "build-cache")
    if os.path.isdir(mine):
        shutil.rmtree(cache, ignore_errors=True)
        os.rename(mine, cache)


def insights(d):
    """Claims with evidence: [mean, sd, n] of the effect by id."""
    listed = d.call("insight", "list", "--limit", "10000")["insights"]
    return {i["insight"]: [i["effect"]["mean"], i["effect"]["sd"], i["effect"]["n"]]
            for i in listed if i.get("effect") and i["effect"].get("n")}


def result_of(show):
    """What the study keeps of a search: enough for every figure, without the assignments of the curve."""
    best = show.get("best") or {}
    return {
        "curve": [None if p["objective"] is None else round(p["objective"], 6) for p in show["curve"]],
        "arms": "".join({"adopted": "a", "memory": "m", "memory-free": "f"}.get(p.get("arm"), "?") for p in show["curve"]),
        "best": best.get("objective"), "assignment": best.get("assignment"),
        "predictions": show.get("predictions"), "seeds": len(show.get("seeds") or []), "failures": show.get("failures"),
        "overhead": show.get("overhead"), "gain": show.get("gain"), "shares": show.get("arms"),
    }


def machine_text():
    model = platform.machine()
    try:
        with open("/proc/cpuinfo") as f:
            model = next((x.split(":", 1)[1].strip() for x in f if x.startswith("model name")), model)
    except OSError:
        pass
    return "%s, %d cores" % (model, len(os.sched_getaffinity(0)))
