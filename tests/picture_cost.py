"""Print how much memory a picture on stdin takes to be rendered, and how long it takes to be decoded and rendered: in a
process of its own, because the system counts the most that a process ever had."""

import resource
import sys
import time
from io import BytesIO

from PIL import Image

from sales import pictures


def most_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    content, small = sys.stdin.buffer.read(), BytesIO()
    Image.new("RGB", (300, 200)).save(small, "PNG")
    pictures.render(small)
    before, began = most_bytes(), time.process_time()
    with Image.open(BytesIO(content)) as image:
        image.load()
    decoded = time.process_time()
    pictures.render(BytesIO(content))
    print(most_bytes() - before, decoded - began, time.process_time() - decoded)


if __name__ == "__main__":
    main()
