"""Two builds of the firmware in two folders, two processes, two hash seeds: the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys

import pytest

CODE = "import sys; from tiny_pipelines.cli.tiny_compile import main; sys.exit(main())"
TOOLS = {"tiny-training-compiler", "iree-base-compiler", "torch-mlir", "numpy", "ziglang"}


@pytest.fixture(scope="module")
def builds(repository, tmp_path_factory):
    """Two folders of firmware, each built beside its own copies of the inputs, with no cache."""
    folders = []
    for seed in ("1", "77"):
        folder = tmp_path_factory.mktemp(f"build{seed}")
        for name in ("digits.mlirbc", "sparse.json"):
            shutil.copy(repository / "examples" / "digits" / name, folder)
        command = [sys.executable, "-c", CODE, "digits.mlirbc", "--board", "esp32-c3"]
        command += ["--scheme", "sparse.json", "-o", f"out{seed}"]
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TINY_CACHE": str(folder / "cache")}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        folders.append(folder / f"out{seed}")
    return folders


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*"))}


def test_every_file_is_the_same(builds):
    first, second = map(contents, builds)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
    assert {"firmware.elf", "kernels.o", "planned.mlirbc", "manifest.json"} <= first.keys()


def test_manifest_hashes_what_went_in_and_came_out(builds, repository):
    folder = builds[0]
    manifest = json.loads((folder / "manifest.json").read_text())
    example = repository / "examples" / "digits"
    for key, name in (("model_sha256", "digits.mlirbc"), ("scheme_sha256", "sparse.json")):
        data = (example / name).read_bytes()
        assert manifest["inputs"][key] == hashlib.sha256(data).hexdigest()
    files = contents(folder)
    assert {*manifest["outputs"], "manifest.json"} == files.keys()
    for name, record in manifest["outputs"].items():
        digest = hashlib.sha256(files[name]).hexdigest()
        assert record == {"bytes": len(files[name]), "sha256": digest}
    assert manifest["options"]["scheme"] == "sparse"
    assert manifest["tools"].keys() == TOOLS
    assert "unknown" not in manifest["tools"].values()
    assert str(folder.parent) not in (folder / "manifest.json").read_text()
