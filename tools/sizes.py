"""Prints each function's size, zipped as Lambda receives it and unzipped."""

import io
import sys
import zipfile
from pathlib import Path

# Lambda's limit for a direct upload, not from S3 (AWS: "Lambda quotas").
LIMIT = 50 * 1024 * 1024


def zipped(binary):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(binary, "bootstrap")
    return archive.tell()


def main():
    built = Path(sys.argv[1])
    binaries = sorted(built.glob("*/bootstrap"))
    if not binaries:
        sys.exit(f"{built} contains no function")
    for binary in binaries:
        size = zipped(binary)
        print(f"{binary.parent.name:12} {size / 1_000_000:6.2f} MB zipped, {binary.stat().st_size / 1_000_000:6.2f} MB")
        if size > LIMIT:
            sys.exit(f"{binary.parent.name} is too large for Lambda")


if __name__ == "__main__":
    main()
