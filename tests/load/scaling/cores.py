"""A core of the simulation, and what it has to do in each moment."""

from collections import defaultdict

# So long is a moment: a shorter one tells of chance, a longer one hides the peak.
MOMENT_SECONDS = 0.1


class Core:
    """One core, which does one thing after the other; `free_at` is when it is done with all that it was given."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self._busy: defaultdict[int, float] = defaultdict(float)

    def work(self, since: float, seconds: float) -> float:
        """Do something that takes so long, not before `since`, and return when it is done."""
        begins = max(self.free_at, since)
        self.free_at = begins + seconds
        moment, last = int(begins / MOMENT_SECONDS), int(self.free_at / MOMENT_SECONDS)
        while moment < last:
            ends = (moment + 1) * MOMENT_SECONDS
            self._busy[moment] += ends - begins
            begins, moment = ends, moment + 1
        self._busy[last] += self.free_at - begins
        return self.free_at

    def wait(self, seconds: float) -> float:
        """Wait for something else, the disk, before anything that follows, and return until when."""
        self.free_at += seconds
        return self.free_at

    def fullest(self) -> float:
        """Return the share of the busiest moment in which it did something."""
        return max(self._busy.values(), default=0.0) / MOMENT_SECONDS
