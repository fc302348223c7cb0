"""Measuring in rounds: each subject has a process of its own, and all of them wait while one runs."""

import subprocess
import sys
import time
from contextlib import ExitStack

from tools.speed import workloads
from tools.speed.comparisons import Comparison, Subject


class Worker:
    """A process that is set up for one subject. Use it as a context manager, which ends the process."""

    def __init__(self, subject: Subject):
        command = [sys.executable, "-m", "tools.speed.rounds", subject.workload, *subject.arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def answer(self) -> str:
        """
        What the process says next.

        Raises:
            `RuntimeError`: If the process has failed.
        """
        line = self.process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"This process failed, see above: {' '.join(self.process.args)}")
        return line

    def run(self) -> float:
        """Has the process do its work once, and returns the seconds that it took."""
        print(file=self.process.stdin, flush=True)
        return float(self.answer())


def measure(comparison: Comparison, num_rounds: int) -> tuple[dict[str, list[float]], list[str]]:
    """
    Measures a comparison in rounds, in each of which every subject runs once.

    Returns:
        The seconds of the runs of each subject, and the subjects that were left out because a package is missing, as
        sentences.
    """
    seconds, left_out = {}, []
    with ExitStack() as stack:
        workers = {subject.name: stack.enter_context(Worker(subject)) for subject in comparison.subjects}
        for name, worker in list(workers.items()):
            answer = worker.answer()
            if answer != "ready":
                left_out.append(f"{name} is left out: {answer}.")
                del workers[name]
        for _ in range(num_rounds):
            for name, worker in workers.items():
                seconds.setdefault(name, []).append(worker.run())
    return seconds, left_out


def serve(workload: str, *arguments: str) -> None:
    """What a worker does: it says that it is ready, or which package is missing, and runs for each line."""
    try:
        run = getattr(workloads, workload)(*arguments)
        run()  # to warm up
    except ImportError as error:
        print(" ".join(str(error).split()), flush=True)
        return
    print("ready", flush=True)
    for _ in sys.stdin:
        started, count = time.perf_counter(), 0
        # For a second, since the first repetition finds the caches full of what the others have left there.
        while not count or time.perf_counter() - started < 1:
            run()
            count += 1
        print((time.perf_counter() - started) / count, flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
