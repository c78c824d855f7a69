"""Cut the MNIST subset that gonzo-lab ships: the first images of the original files.

    python tools/cut_mnist.py

It reads the full set the way the package does (`GONZO_DATA_DIR`, the cache, a download), writes
the four files and prints the lines that `SHIPPED_FILES` needs. The same bytes come out each time.
"""

import gzip
import hashlib

from gonzo.lab.atomic import write_bytes
from gonzo.lab.data.idx import format_idx
from gonzo.lab.data.mnist import SHIPPED, SHIPPED_FILES, mnist

COUNTS = {"train": 10_000, "test": 2_000}

for split, count in COUNTS.items():
    full = mnist(split)
    for file, tensor in zip(SHIPPED_FILES[split], full, strict=True):
        content = format_idx(tensor[:count].numpy())
        # Without a time stamp in the header the file depends on the images alone.
        write_bytes(SHIPPED / file.name, gzip.compress(content, compresslevel=9, mtime=0))
        print(f"{file.name}: {hashlib.sha256(content).hexdigest()}, {len(content):,} bytes")
