#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Times the all-reduce of torch's symmetric memory, by the method of benchmarks/cuda.

A process drives each GPU. K calls are captured in a CUDA graph on each; for each timed replay the
processes meet in shared memory, then each enqueues event, graph, event. The time of a call is that
between the events over K, the slowest rank's. Each row is then checked on new inputs.
NVLink multicast is off.
"""
import argparse
import ctypes
import multiprocessing
import os
import statistics
import sys
import tempfile
import traceback

COLUMNS = ("collective,transport,topology,dtype,ranks,mode,in_place,offset,gpu,bytes,provider,"
           "us_median,us_p99,algbw,busbw,link_share,correct,ratio_to_best_peer")


def size(text):
    """8192, 8K, 4M, 1G."""
    unit = "KMG".find(text[-1].upper()) + 1 if text else 0
    return int(text[:-1] if unit else text) << 10 * unit


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-b", "--begin", type=size, default=8 << 10, help="smallest message, bytes")
    parser.add_argument("-e", "--end", type=size, default=256 << 20, help="largest message")
    parser.add_argument("-f", "--factor", type=int, default=2, help="from size to size")
    parser.add_argument("-g", "--ranks", type=int, default=0, help="ranks [all GPUs]")
    parser.add_argument("-d", "--dtype", choices=("bfloat16", "float"), default="bfloat16")
    parser.add_argument("-n", "--replays", type=int, default=0, help="[100; 50 above 16M]")
    parser.add_argument("-w", "--warm-up", type=int, default=5)
    parser.add_argument("--link", type=float, default=396, help="GB/s")
    parser.add_argument("--csv", help="append the table to this file")
    return parser.parse_args()


class Meeting:
    """Where processes meet: a word for each, which it raises; all spin until every word is up."""

    def __init__(self, context, ranks):
        self.words = context.RawArray(ctypes.c_uint64, ranks)
        self.times = context.RawArray(ctypes.c_double, ranks * 4096)
        self.verdicts = context.RawArray(ctypes.c_int64, ranks * 2)  # wrong, bits
        self.failed = context.RawValue(ctypes.c_int, 0)

    def wait(self, rank):
        turn = self.words[rank] + 1
        self.words[rank] = turn
        words = self.words
        while any(word < turn for word in words):
            if self.failed.value:
                raise RuntimeError("another rank failed")


def run(rank, ranks, options, store, meeting):
    import torch
    import torch.distributed as dist
    import torch.distributed._symmetric_memory as symm_mem

    torch.cuda.set_device(rank)
    device = torch.device("cuda", rank)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=ranks)
    group = dist.group.WORLD.group_name
    dtype = {"bfloat16": torch.bfloat16, "float": torch.float32}[options.dtype]
    roundoff = {"bfloat16": 2.0**-9, "float": 2.0**-24}[options.dtype]
    width = dtype.itemsize
    whole = symm_mem.empty(options.end // width, dtype=dtype, device=device)
    symm_mem.rendezvous(whole, group=group)
    result = torch.empty_like(whole)
    stream = torch.cuda.Stream()

    def values(n, round_number, of_rank):
        generator = torch.Generator(device=device)
        generator.manual_seed(1000 * round_number + of_rank)
        return torch.randn(n, dtype=torch.float32, device=device, generator=generator).to(dtype)

    def right(out, n, round_number):
        total = torch.zeros(n, dtype=torch.float64, device=device)
        magnitude = torch.zeros_like(total)
        for r in range(ranks):
            x = values(n, round_number, r).to(torch.float64)
            total += x
            magnitude += x.abs()
        off = (out.to(torch.float64) - total).abs()
        wrong = int((~(off <= (ranks + 1) * roundoff * magnitude)).sum())
        words = out.view(torch.int16 if width == 2 else torch.int32).to(torch.int64)
        place = torch.arange(1, n + 1, device=device)
        return wrong, int((words * (place * 0x9E3779B1 % 2**31)).sum())

    def measure(n, call, in_place, replays, ops):
        x, out = whole[:n], whole[:n] if in_place else result[:n]
        with torch.cuda.stream(stream):
            x.copy_(values(n, 1, rank))
            meeting.wait(rank)
            call(x, out)
            stream.synchronize()
            meeting.wait(rank)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                for _ in range(ops):
                    call(x, out)
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            for replay in range(-options.warm_up, replays):
                stream.synchronize()
                meeting.wait(rank)
                begin.record(stream)
                graph.replay()
                end.record(stream)
                end.synchronize()
                if replay >= 0:
                    meeting.times[rank * 4096 + replay] = begin.elapsed_time(end) * 1e3 / ops
            out.fill_(float("nan"))
            x.copy_(values(n, 2, rank))
            stream.synchronize()
            meeting.wait(rank)
            call(x, out) if in_place else graph.replay()
            stream.synchronize()
            meeting.verdicts[2 * rank], meeting.verdicts[2 * rank + 1] = right(out, n, 2)
            meeting.wait(rank)

    providers = (
        ("torch one-shot", False,
         lambda x, out: torch.ops.symm_mem.one_shot_all_reduce_out(x, "sum", group, out)),
        ("torch two-shot", True,
         lambda x, out: torch.ops.symm_mem.two_shot_all_reduce_(x, "sum", group)))
    file = open(options.csv, "a", encoding="utf-8") if rank == 0 and options.csv else None
    if rank == 0:
        command = " ".join(sys.argv)
        print(f"# {command}\n# torch {torch.__version__}, {ranks} ranks, {options.dtype}")
        print(f"{'bytes':>11}  {'provider':16} {'us median':>10} {'us p99':>10} {'algbw':>9} "
              f"{'busbw':>9} {'link':>6}  correct", flush=True)
        if file:
            file.write(f"# {command}\n{COLUMNS}\n")
    everything_right = True
    message = options.begin
    while message <= options.end:
        large = message > 16 << 20
        replays = min(options.replays or (50 if large else 100), 4096)
        n = message // width
        for name, in_place, call in providers:
            if name == "torch one-shot" and message > 4 << 20:
                continue  # reads every rank's whole input: for small messages
            measure(n, call, in_place, replays, 4 if large else 20)
            if rank == 0:
                slowest = sorted(max(meeting.times[r * 4096 + k] for r in range(ranks))
                                 for k in range(replays))
                us = statistics.median(slowest)
                p99 = slowest[-(-99 * replays // 100) - 1]
                algbw = n * width / us / 1e3
                busbw = algbw * 2 * (ranks - 1) / ranks
                good = all(meeting.verdicts[2 * r] == 0 and
                           meeting.verdicts[2 * r + 1] == meeting.verdicts[1] for r in range(ranks))
                everything_right = everything_right and good
                word = "yes" if good else "NO"
                print(f"{n * width:11}  {name:16} {us:10.2f} {p99:10.2f} {algbw:9.1f} {busbw:9.1f} "
                      f"{100 * busbw / options.link:5.1f}%  {word}", flush=True)
                if file:
                    file.write(f"allreduce,peer,-,{options.dtype},{ranks},graph,"
                               f"{'yes' if in_place else 'no'},0,{torch.cuda.get_device_name(0)},"
                               f"{n * width},{name},{us:.3f},{p99:.3f},{algbw:.3f},{busbw:.3f},"
                               f"{busbw / options.link:.4f},{word},\n")
                    file.flush()
            meeting.wait(rank)
        message *= options.factor
    if not everything_right:
        raise RuntimeError("a result was wrong")


def guarded(rank, ranks, options, store, meeting):
    try:
        run(rank, ranks, options, store, meeting)
        sys.stdout.flush()
        code = 0
    except Exception:  # of any library beneath; the other ranks spin until they are told
        meeting.failed.value = 1
        traceback.print_exc()
        code = 1
    os._exit(code)  # a rank that failed leaves others in kernels: no orderly way out


def main():
    os.environ["TORCH_SYMM_MEM_DISABLE_MULTICAST"] = "1"
    os.environ["NCCL_NVLS_ENABLE"] = "0"
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    options = arguments()
    import torch
    ranks = options.ranks or torch.cuda.device_count()
    if ranks < 2:
        sys.exit("torch_symm.py needs two GPUs or more")
    context = multiprocessing.get_context("spawn")
    meeting = Meeting(context, ranks)
    with tempfile.TemporaryDirectory() as folder:
        store = os.path.join(folder, "store")
        processes = [context.Process(target=guarded, args=(r, ranks, options, store, meeting))
                     for r in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    sys.exit(any(process.exitcode for process in processes))


if __name__ == "__main__":
    main()
