"""What schemathesis can't know of mill's document: texts of a form that no pattern describes.

Owns one valid text or more for each such format. Never checks an answer.
"""

import io
import json
import os
import pathlib
import platform
import tarfile
import time

import requests
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


# A recipient as age's own documents show one.
RECIPIENT = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"
schemathesis.openapi.format("age", strategies.just(RECIPIENT))
schemathesis.openapi.format("line", strategies.sampled_from(["", "Back at noon"]))
schemathesis.openapi.format("cron", strategies.sampled_from(["0 4 * * *", "*/30 1-5 * * 1"]))


def read(name):
    """A file that harness/schema has made."""
    folder = os.environ.get("FUZZ_FOLDER")
    return pathlib.Path(folder, name).read_text() if folder else ""


HOST, CERTIFICATE, KEY = "fuzz.example", read("cert.pem"), read("key.pem")
schemathesis.openapi.format("pem-certificate", strategies.just(CERTIFICATE))
schemathesis.openapi.format("pem-key", strategies.just(KEY))


def patient(send):
    """Wrong tokens are answered once a second: those of the checks too."""

    def sends(session, request, **options):
        response = send(session, request, **options)
        if response.status_code == 401:
            time.sleep(1)
        return response

    return sends


requests.Session.send = patient(requests.Session.send)


@schemathesis.hook
def filter_case(context, case):
    """A stream that is followed has no end, no file here has a service, and what proxies took has
    no attempts."""
    query = case.query or {}
    followed = query.get("follow") in (True, "true", "1", "")
    return not followed and "image" not in query and not {"access", "previous"} <= query.keys()


@schemathesis.hook
def map_case(context, case):
    """The certificate is one host's."""
    if case.body == {"certificate": CERTIFICATE, "key": KEY}:
        case.path_parameters = {**case.path_parameters, "host": HOST}
    return case


if __name__ == "__main__":
    import sys

    sys.stdout.buffer.write(archive())
