"""Whole networks and training steps beside torch, onnxruntime and onnx's own evaluator, each in its own process, by turns.

    python -m benchmarks.networks --write                  two threads, about ten minutes; into docs/benchmarks.md
    python -m benchmarks.networks --threads 1 --only resnet50 --batch 1

Inference is at 224 x 224 with the weights of one model in every library, outputs compared. Every library has its best
form: torch in both memory formats, eager and as a frozen TorchScript graph; onnxruntime and onnx's evaluator run the
graph that torch exports. A training step is forward, cross-entropy, backward and SGD with momentum, at 64 x 64. Times
are minima and medians in milliseconds; the ratio is the best peer's median over npconv's: 2 is twice as fast.
"""

from __future__ import annotations

import argparse
import importlib
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .machine import machine
from .race import PeerLostError, Worker
from .report import ROOT, replace

NETWORKS = ("vgg16", "resnet50", "mobilenet_v2")
#: What each must reach against the best of torch and onnxruntime.
AIMS = {"vgg16": 1.8, "resnet50": 1.15, "mobilenet_v2": 1.0, "train resnet18": 1.2}
PEERS = ("npconv", "torch", "onnxruntime", "onnx")
CLASSES, SIZE, TRAIN_SIZE, TRAIN_BATCH = 1000, 224, 64, 32
Call = Callable[[], Any]


def model(name: str) -> Any:
    from npconv.nn import models

    found = getattr(models, name)(CLASSES, rng=0)
    rng = np.random.default_rng(1)
    for path, array in found.weights().items():
        if path.endswith("running_var"):
            array[...] = rng.uniform(0.5, 2, array.shape)
    return found


def images(batch: int, size: int) -> np.ndarray:
    return np.random.default_rng(2).standard_normal((batch, 3, size, size)).astype(np.float32)


# --------------------------------------------------------------------------- candidates, in the workers
def npconv_calls(name: str, batch: int) -> dict[str, Callable[[], Call]]:
    from npconv import nn

    if name.startswith("train "):
        return {layout: lambda layout=layout: npconv_step(name.split()[1], layout) for layout in LAYOUTS}
    x = images(batch, SIZE)
    plan = nn.plan(model(name), x.shape)
    return {"plan": lambda: lambda: plan(x)}


LAYOUTS = ("channels_first", "channels_last")


def npconv_step(name: str, layout: str) -> Call:
    from npconv import nn
    from npconv.nn import models

    net = getattr(models, name)(10, rng=0, layout=layout)
    loss, optimizer = nn.CrossEntropy(), nn.SGD(net, rate=0.01, momentum=0.9)
    x, target = images(TRAIN_BATCH, TRAIN_SIZE), np.arange(TRAIN_BATCH) % 10
    x = x if layout == "channels_first" else np.ascontiguousarray(np.moveaxis(x, 1, -1))

    def step() -> float:
        scores, saved = net.forward(x)
        value, g = loss(scores, target)
        optimizer.step(net.backward(g, saved, input_grad=False)[1])
        return value

    return step


def torch_calls(name: str, batch: int) -> dict[str, Callable[[], Call]]:
    import torch

    from .peers.torch_model import converted

    torch.set_flush_denormal(True)
    forms = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}
    if name.startswith("train "):
        return {layout: lambda form=form: torch_step(name.split()[1], form) for layout, form in forms.items()}
    torch.set_grad_enabled(False)
    x, net = torch.from_numpy(images(batch, SIZE)), converted(model(name)).eval().requires_grad_(False)

    def eager(form: Any) -> Call:
        ours, image = net.to(memory_format=form), x.contiguous(memory_format=form)
        return lambda: ours(image)

    def frozen(form: Any) -> Call:
        image = x.contiguous(memory_format=form)
        graph = torch.jit.optimize_for_inference(torch.jit.trace(net.to(memory_format=form), image))
        return lambda: graph(image)

    kinds = {"eager": eager, "frozen": frozen}
    return {
        f"{kind} {layout}": lambda make=make, form=form: make(form)
        for kind, make in kinds.items()
        for layout, form in forms.items()
    }


def torch_step(name: str, form: Any) -> Call:
    import torch

    from npconv.nn import models

    from .peers.torch_model import converted

    torch.set_grad_enabled(True)
    net = converted(getattr(models, name)(10, rng=0)).to(memory_format=form).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9)
    x = torch.from_numpy(images(TRAIN_BATCH, TRAIN_SIZE)).contiguous(memory_format=form)
    target = torch.arange(TRAIN_BATCH) % 10

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        value = torch.nn.functional.cross_entropy(net(x), target)
        value.backward()
        optimizer.step()
        return value.item()

    return step


def exported(name: str, batch: int) -> bytes:
    import torch

    from .peers.torch_model import converted

    held = io.BytesIO()
    net = converted(model(name)).eval()
    torch.onnx.export(net, (torch.from_numpy(images(batch, SIZE)),), held, dynamo=False, input_names=["x"])
    return held.getvalue()


def onnxruntime_calls(name: str, batch: int, threads: int) -> dict[str, Callable[[], Call]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(exported(name, batch), options, providers=["CPUExecutionProvider"])
    x = images(batch, SIZE)
    return {"session": lambda: lambda: session.run(None, {"x": x})[0]}


def onnx_calls(name: str, batch: int) -> dict[str, Callable[[], Call]]:
    import onnx
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(onnx.load_from_string(exported(name, batch)))
    x = images(batch, SIZE)
    return {"evaluator": lambda: lambda: evaluator.run(None, {"x": x})[0]}


def work(peer: str, threads: int) -> None:
    """A worker: answers a network's name with its candidates, and a candidate with the seconds of some calls."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(message: Any) -> None:
        print(json.dumps(message), file=answers, flush=True)

    try:
        version = importlib.import_module(peer).__version__
        if peer == "torch":
            importlib.import_module(peer).set_num_threads(threads)
    except ImportError as error:
        answer({"error": str(error)})
        return
    answer({"version": version})
    calls: dict[str, Call] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "network" in request:
            calls, given = {}, (request["network"], request["batch"])
            makers = onnxruntime_calls(*given, threads) if peer == "onnxruntime" else globals()[f"{peer}_calls"](*given)
            report = []
            for name, make in makers.items():
                try:
                    calls[name] = make()
                    y = np.asarray(calls[name]())
                    report.append({"name": name, "mean": float(np.abs(y).mean(dtype=np.float64))})
                except Exception as error:
                    report.append({"name": name, "error": f"{type(error).__name__}: {error}"[:200]})
            answer(report)
        else:
            call, each = calls[request["candidate"]], []
            end = time.perf_counter() + request["seconds"]
            while not each or time.perf_counter() < end:
                started = time.perf_counter()
                call()
                each.append(time.perf_counter() - started)
            answer(each)


# --------------------------------------------------------------------------- the race
def race(workers: dict[str, Worker], network: str, batch: int, rounds: int, seconds: float) -> dict[str, Any]:
    """The times of every candidate, round by round, so that a noisy minute hits all alike."""
    lanes: dict[tuple[str, str], list[float]] = {}
    means: dict[str, float] = {}
    for peer, worker in workers.items():
        worker.send(network=network, batch=batch)
        for entry in worker.answer(600):
            if "error" in entry:
                print(f"{peer} {entry['name']}: {entry['error']}", file=sys.stderr)
                continue
            lanes[peer, entry["name"]] = []
            means[peer] = entry["mean"]
    agreed = means.get("torch", means["npconv"])
    wrong = {peer: mean for peer, mean in means.items() if abs(mean - agreed) > 1e-3 * agreed}
    if wrong:
        raise SystemExit(f"{network}: outputs differ: {means}")
    for _ in range(rounds):
        for (peer, name), times in lanes.items():
            if peer == "onnx" and times:  # tens of seconds a call
                continue
            workers[peer].send(candidate=name, seconds=0 if peer == "onnx" else seconds)
            times += workers[peer].answer(600)
    return {
        "network": network,
        "batch": batch,
        "calls": [
            {"peer": peer, "candidate": name, "median": statistics.median(times), "minimum": min(times)}
            for (peer, name), times in lanes.items()
        ],
    }


def line(result: dict[str, Any]) -> str:
    best, found = fastest(result), ratios(result)
    cells = [f"{1e3 * best[p]['median']:.2f} ({1e3 * best[p]['minimum']:.2f})" if p in best else "–" for p in PEERS]
    name = f"{result['network']}, batch {result['batch']}"
    ratio = f"{found[0]:.2f} ({found[1]:.2f})" if found else "–"
    return "| " + " | ".join([name, *cells, ratio, f"{AIMS[result['network']]:g}"]) + " |"


def ratios(result: dict[str, Any]) -> list[float]:
    """The time of the faster of torch and onnxruntime over npconv's: of medians and of minima; none without both."""
    best = fastest(result)
    others = [best[peer] for peer in ("torch", "onnxruntime") if peer in best]
    return [min(o[kind] for o in others) / best["npconv"][kind] for kind in ("median", "minimum")] if others else []


def fastest(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The best candidate of each peer."""
    best: dict[str, dict[str, Any]] = {}
    for call in result["calls"]:
        best[call["peer"]] = min(best.get(call["peer"], call), call, key=lambda c: c["median"])
    return best


def short(results: list[dict[str, Any]], threads: int) -> str:
    """What the README shows."""
    names = {"vgg16": "VGG-16", "resnet50": "ResNet-50", "mobilenet_v2": "MobileNet-V2", "resnet18": "ResNet-18"}
    step = f"at {TRAIN_SIZE} x {TRAIN_SIZE}, batch {TRAIN_BATCH}"
    cells = []
    for result in results:
        name, found = result["network"], ratios(result)
        trained = name.removeprefix("train ")
        title = f"{names[trained]}, batch {result['batch']}"
        title = title if trained == name else f"a training step of {names[trained]} {step}"
        cells += [f"{title} **{found[0]:.2f}**"] if found else []
    return (
        f"Whole networks at 224 x 224, {threads} threads, as a multiple of the faster of torch and onnxruntime "
        f"(`python -m benchmarks.networks`): {'; '.join(cells)}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", nargs=2, metavar=("PEER", "THREADS"), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[*NETWORKS, "train resnet18"])
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of every candidate in a round")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument(
        "--write", action="store_true", help="put the table into docs/benchmarks.md, and its ratios into README.md"
    )
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], int(options.worker[1]))
        return
    workers = {}
    for peer in options.peers:
        worker = Worker(peer, options.threads, module="benchmarks.networks")
        if worker.missing:
            print(f"{peer} is left out: {worker.missing}", file=sys.stderr)
        else:
            workers[peer] = worker
    table = [f"{machine()}, threads: {options.threads}", "", "| network | " + " | ".join(PEERS) + " | ratio | aim |"]
    table.append("|" + " --- |" * (len(PEERS) + 3))
    print("\n".join(table))
    results = []
    for network in options.only:
        training = network.startswith("train ")
        able = {peer: w for peer, w in workers.items() if not training or peer in ("npconv", "torch")}
        for batch in [TRAIN_BATCH] if training else options.batch:
            try:
                results.append(race(able, network, batch, options.rounds, options.seconds))
            except PeerLostError as lost:
                raise SystemExit(f"{network}: {lost}") from None
            table.append(line(results[-1]))
            print(table[-1], flush=True)
    for worker in workers.values():
        worker.close()
    if options.write:
        replace(ROOT / "docs" / "benchmarks.md", "\n".join(table), "networks")
        replace(ROOT / "README.md", short(results, options.threads), "networks")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"machine": machine(), "threads": options.threads, "results": results}, file, indent=1)


if __name__ == "__main__":
    main()
