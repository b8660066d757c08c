# SPDX-License-Identifier: Apache-2.0
"""Units of work on many workers: order, dependencies, a deadline, and one JSON line per unit that is done."""
import json
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import time
import traceback


class Unit:
    """`run(worker)` gives the members of the unit's line. It starts when the units named in `needs` are done."""

    def __init__(self, key, run, needs=()):
        self.key, self.run, self.needs = key, run, tuple(needs)


def read_lines(paths):
    """The lines of earlier runs; a line that was cut off by a kill is left out."""
    rows = []
    for path in paths:
        with open(path) as f:
            for text in f:
                try:
                    rows.append(json.loads(text))
                except ValueError:
                    print("# %s: a line that was cut off is left out" % path, file=sys.stderr)
    return rows


def give_up(*_):
    raise SystemExit(1)


def work(pipe, worker, units):
    signal.signal(signal.SIGTERM, give_up)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            key = pipe.recv()
        except EOFError:
            return
        if key is None:
            return
        began = time.time()
        try:
            row = units[key].run(worker)
        except SystemExit:
            raise
        except Exception as e:  # a unit that fails is told and leaves the others alone
            row = {"error": "%s: %s" % (type(e).__name__, e), "trace": traceback.format_exc()[-800:]}
        row.update(key=key, worker=worker, seconds=round(time.time() - began, 2))
        pipe.send(row)


class Pool:
    """Workers in processes of their own: reading tables in Python would hold one process up."""

    def __init__(self, jobs, units):
        context = multiprocessing.get_context("fork")
        self.pipes, self.processes = [], []
        for i in range(jobs):
            mine, theirs = context.Pipe()
            p = context.Process(target=work, args=(theirs, i, units), daemon=False)
            p.start()
            theirs.close()
            self.pipes.append(mine)
            self.processes.append(p)

    def stop(self, busy):
        """Ends the workers, those that are busy by a signal: they stop their daemons on the way out."""
        for i, p in enumerate(self.processes):
            if i in busy:
                p.terminate()
            elif p.is_alive():
                self.pipes[i].send(None)
        for p in self.processes:
            p.join(20)
            if p.is_alive():
                p.kill()
                p.join()


def run_units(units, jobs, out, done=(), deadline=None, grace=20.0):
    """Runs all units, in order as far as their needs allow; gives the new lines.

    `out` (a file or None) gets each line at once. After `deadline` (of time.time) nothing starts any more, and what still
    runs `grace` seconds later is ended. A unit whose need failed or is missing is left out.
    """
    by_key = {u.key: u for u in units}
    finished = set(done)
    waiting = [u.key for u in units if u.key not in finished]
    rows, busy, failed = [], {}, set()
    total, began = len(waiting), time.time()
    if not waiting:
        return rows
    pool = Pool(min(jobs, len(waiting)), by_key)
    idle = list(range(len(pool.pipes)))
    try:
        while waiting or busy:
            late = deadline is not None and time.time() > deadline
            while idle and waiting and not late:
                key = next((k for k in waiting if all(n in finished for n in by_key[k].needs)), None)
                if key is None:
                    break
                waiting.remove(key)
                worker = idle.pop(0)
                busy[worker] = key
                pool.pipes[worker].send(key)
            if not busy or (late and time.time() > deadline + grace):
                break
            ready = multiprocessing.connection.wait([pool.pipes[w] for w in busy], timeout=0.5)
            for pipe in ready:
                worker = pool.pipes.index(pipe)
                key = busy.pop(worker)
                try:
                    row = pipe.recv()
                except EOFError:
                    row = {"key": key, "error": "the worker ended"}
                else:
                    idle.append(worker)
                if "error" in row:
                    failed.add(key)
                    print("# %s: %s" % (key, row["error"]), file=sys.stderr)
                else:
                    finished.add(key)
                rows.append(row)
                if out:
                    out.write(json.dumps(row) + "\n")
                    out.flush()
                print("# %4.0f s  %d of %d  %s (%.1f s)" % (time.time() - began, len(rows), total, key, row.get("seconds", 0)),
                      file=sys.stderr, flush=True)
    finally:
        pool.stop(busy)
    if waiting or busy:
        print("# %d units were not run, %d were cut off%s" % (len(waiting), len(busy), ", %d failed" % len(failed) if failed else ""),
              file=sys.stderr)
    return rows


def base_lock(folder):
    """Holds a lock for building something once; release by closing."""
    import fcntl
    os.makedirs(folder, exist_ok=True)
    f = open(os.path.join(folder, "lock"), "w")
    fcntl.flock(f, fcntl.LOCK_EX)
    return f
