"""Searches side by side on recorded curves."""
from __future__ import annotations
import argparse, json, sys, time, os
os.environ.setdefault("OMP_NUM_THREADS","1"); os.environ.setdefault("OPENBLAS_NUM_THREADS","1")
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any
import numpy as np
from search import studyfile
from search.engines.replay import ReplayEngine
from search.errors import Interrupted
from search.scheduler import search
from search.study import Study
import curves

SEARCHES = {
 "random": ("random","none"),
 "random+halving": ("random", {"name":"halving","first_rung":3,"eta":3}),
 "qmc+halving": ("qmc", {"name":"halving","first_rung":3,"eta":3}),
 "cmaes": ("cmaes","none"),
 "tpe": ("tpe","none"),
 "tpe+median": ("tpe","median"),
 "tpe+hyperband": ("tpe","hyperband"),
 "tpe+halving": ("tpe", {"name":"halving","first_rung":3,"eta":3}),
 "gp": ("gp","none"),
 "gp+halving": ("gp",{"name":"halving","first_rung":3,"eta":3}),
 "bayes": ("bayes",{"name":"halving","first_rung":6,"eta":3}),
 "bayes3": ("bayes",{"name":"halving","first_rung":3,"eta":3}),
 "bayes4": ("bayes",{"name":"halving","first_rung":4,"eta":3}),
 "bayes4x2": ("bayes",{"name":"halving","first_rung":4,"eta":2}),
 "b6x4": ("bayes",{"name":"halving","first_rung":6,"eta":4}),
 "b6x2": ("bayes",{"name":"halving","first_rung":6,"eta":2}),
 "b9x3": ("bayes",{"name":"halving","first_rung":9,"eta":3}),
 "b4x4": ("bayes",{"name":"halving","first_rung":4,"eta":4}),
 "b5x4": ("bayes",{"name":"halving","first_rung":5,"eta":4}),
 "b5x3": ("bayes",{"name":"halving","first_rung":5,"eta":3}),
 "b6x5": ("bayes",{"name":"halving","first_rung":6,"eta":5}),
 "bayes-np": ("bayes","none"),
}

class Memory:
    def commit(self, study, *, now=False):
        study.take_changes()

def run(task, name, lanes, seed, budget, opts=None):
    if opts:
        from search.samplers import bayes
        for k, v in opts.items():
            if k=="RECENT":
                from search import pruners
                def ra(self, scores, trial, epoch, N=v):
                    if not self.is_rung(epoch): return None
                    idx=np.flatnonzero(~np.isnan(scores)); idx=idx[-N:]
                    if trial not in idx: idx=np.append(idx,trial)
                    s=scores[idx]; there=len(idx); rank=1+int((s>scores[trial]).sum())
                    import math
                    if there<self.eta or rank<=math.ceil(there/self.eta): return None
                    return "r"
                pruners.Halving.reason_among=ra
            else: setattr(bayes, k, v)
    t = curves.LCBench(task)
    sampler, pruner = SEARCHES[name]
    table = {"study": {"objective":"val_accuracy","direction":"maximize","trials":100000,"seed":seed,"epochs":t.epochs},
        "data":{"source":"sklearn:digits"},"model":{"build":"mlp"}, "train":{}, "space": t.space, "search":{"sampler":sampler,"pruner":pruner}}
    file = studyfile.stored(Path("/tmp/replay.toml"), table)
    cache = {}
    spent = [0]; best=[-np.inf]; trace=[]
    def curve(a, epoch):
        if a.member not in cache: cache[a.member] = t.curve(a.config)
        spent[0]+=1
        v = cache[a.member][epoch-1]
        if spent[0] <= budget:
            if v > best[0]: best[0]=v; trace.append((spent[0], v))
        return {"loss":1.0,"val_accuracy":v}
    study = Study(file)
    try:
        search(study, Memory(), ReplayEngine(curve, lanes), interruption=lambda: int(spent[0]>=budget), watch=lambda: None)
    except Interrupted: pass
    reg = []
    for share in (0.25,0.5,1):
        v = max(v for s,v in trace if s<=budget*share)
        reg.append((t.best-v)/(t.best-t.median))
    full = sum(1 for x in study.trials if x.state=="COMPLETE")
    return dict(task=task,search=name,lanes=lanes,seed=seed,regret=reg,ms=1000*study.sampler_seconds/len(study.trials),trials=len(study.trials),full=full,trace=trace)

if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("searches", nargs="+"); p.add_argument("--lanes", type=int, default=16); p.add_argument("--seeds", type=int, default=1)
    p.add_argument("--tasks", default="tuned"); p.add_argument("--jobs", type=int, default=2); p.add_argument("--out"); p.add_argument("--opts", default="{}")
    p.add_argument("--first", type=int, default=0)
    a = p.parse_args()
    tasks = curves.TUNED if a.tasks=="tuned" else [t for t in curves.lcbench_names() if t not in curves.TUNED] if a.tasks=="check" else a.tasks.split(",")
    opts = json.loads(a.opts)
    with ProcessPoolExecutor(a.jobs) as ex:
        futs = [ex.submit(run, t, s, a.lanes, seed, 60*52, opts) for s in a.searches for seed in range(a.first, a.first+a.seeds) for t in tasks]
        rows = []
        for f in futs:
            rows.append(f.result())
            if a.out: open(a.out,"a").write(json.dumps(rows[-1])+"\n")
    for s in a.searches:
        r = np.array([x["regret"] for x in rows if x["search"]==s])
        ms = np.mean([x["ms"] for x in rows if x["search"]==s]); n = np.mean([x["trials"] for x in rows if x["search"]==s]); fl = np.mean([x["full"] for x in rows if x["search"]==s])
        print(f"{s:16s} lanes {a.lanes} 1/4 {r[:,0].mean():.3f}/{np.median(r[:,0]):.3f} 1/2 {r[:,1].mean():.3f} all {r[:,2].mean():.3f}/{np.median(r[:,2]):.3f}  {ms:.1f} ms {n:.0f} trials {fl:.0f} full {a.opts}")
