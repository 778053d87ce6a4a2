"""The long variant of the fault tests: every moment of a compile, each target: ``python -m tests.e2e.faults``."""

import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.fault_children import Place, can_listen
from tests.e2e.test_faults_full import full_at_changes
from tests.e2e.test_faults_kill import after, count_changes, killed_at, killed_at_random

TARGETS = ("ort-int8", "cpu-int8")
MOMENTS = 200


def main() -> int:
    """Print one line per check; a check that fails raises."""
    for target in TARGETS:
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            place = Place(Path(folder), target)
            place.put("old")
            killed = killed_at_random(place, MOMENTS, random.Random(11))
            print(f"{target}: killed at {killed} of {MOMENTS} random moments; old or new each time")
            if not can_listen():
                print(f"{target}: this system cannot stop a process at its changes; the rest is left out")
                continue
            changes = count_changes(place.compile("new", "--force", watch=True))
            killed = killed_at(place, place.compile, range(changes))
            after(place)
            print(f"{target}: killed before {killed} of {changes} changes; old or new each time")
        with tempfile.TemporaryDirectory(prefix="faults-") as folder:
            place = Place(Path(folder), target)
            place.put("old")
            count = full_at_changes(place, None, random.Random(0))
            print(
                f"{target}: disk full from each of {count} changes on; one error and the old bundle each time"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
