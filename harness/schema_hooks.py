"""What schemathesis can't know of mill's document: texts of a form that no pattern describes.

Owns one valid text or more for each such format. Never checks an answer.
"""

import io
import json
import platform
import tarfile

import schemathesis
from hypothesis import strategies

# The image that harness/schema has loaded.
IMAGE = "fuzz:1"
FILES = ['app "fuzz"\n', '// nothing yet\napp "fuzz"\n']

schemathesis.openapi.format("mill", strategies.sampled_from(FILES))
schemathesis.openapi.format("image", strategies.just(IMAGE))


def archive():
    """A Docker archive of an image without layers."""
    names = {"x86_64": "amd64", "aarch64": "arm64"}
    machine = names.get(platform.machine(), platform.machine())
    config = {"architecture": machine, "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": []}]
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in (("config.json", config), ("manifest.json", manifest)):
            text = json.dumps(content).encode()
            about = tarfile.TarInfo(name)
            about.size = len(text)
            tar.addfile(about, io.BytesIO(text))
    return written.getvalue()


# ASCII all through, so that it is the same as a text.
schemathesis.openapi.format("binary", strategies.just(archive().decode("ascii")))


@schemathesis.hook
def filter_query(context, query):
    """A stream that is followed has no end, and no file here has a service."""
    followed = query and query.get("follow") in (True, "true", "1", "")
    return not followed and not (query and "image" in query)


if __name__ == "__main__":
    import sys

    sys.stdout.buffer.write(archive())
