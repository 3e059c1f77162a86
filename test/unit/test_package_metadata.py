"""A package's metadata, held by the tools that read it: PlatformIO, SCons, Kconfig and CMake."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from package_program import Program

from tiny_pipelines.cli import tiny_compile

BOARDS = ("stm32f746", "esp32-c3")
ARDUINO_FIELDS = {"name", "version", "author", "maintainer", "sentence", "paragraph", "category"}
ARDUINO_CATEGORIES = {"Data Processing", "Sensors", "Signal Input/Output", "Device Control"}
# The kernels are linked as they are, beside sources that are compiled; which core, the folder says.
ARDUINO_PRECOMPILED = {"precompiled": "true", "architectures": "*"}


def needs(module, package):
    return pytest.mark.skipif(
        importlib.util.find_spec(module) is None, reason=f"needs {package}: make oracles"
    )


@pytest.fixture(scope="module")
def packages(repository, tmp_path_factory):
    """Board name → folder of the package of the shipped network."""
    example = repository / "examples" / "digits"
    command = [str(example / "digits.mlirbc"), "--scheme", str(example / "sparse.json")]
    folders = {}
    for board in BOARDS:
        folders[board] = tmp_path_factory.mktemp(board) / "digits"
        output = ["--package", "--board", board, "-o", str(folders[board])]
        assert tiny_compile.main([*command, *output]) == 0
    return folders


@pytest.fixture(scope="module")
def package(packages):
    return packages["stm32f746"]


def run(script, *arguments, folder):
    """What a Python script prints in a process of its own, which loads no settings of a user."""
    settings = {"PLATFORMIO_CORE_DIR": str(folder / "core"), "CI": "true"}
    settings |= {"PLATFORMIO_SETTING_ENABLE_TELEMETRY": "no"}
    done = subprocess.run(
        [sys.executable, *script, *map(str, arguments)],
        cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, **settings},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def properties(package):
    lines = (package / "library.properties").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_arduino_finds_every_field_and_file_it_asks_for(package):
    found = properties(package)
    assert found.keys() >= ARDUINO_FIELDS and all(found.values())
    assert found["category"] in ARDUINO_CATEGORIES
    assert found.items() >= ARDUINO_PRECOMPILED.items()
    assert (package / "src" / found["includes"]).is_file()
    library = found["ldflags"].removeprefix("-l")
    assert (package / "src" / "cortex-m7" / f"lib{library}.a").is_file()
    assert (package / "examples" / "sketch" / "sketch.ino").is_file()


PARSE_MANIFESTS = """
import json, sys
from platformio.package.manifest.parser import ManifestParserFactory
from platformio.package.manifest.schema import ManifestSchema
for path in sys.argv[1:]:
    parsed = ManifestParserFactory.new_from_file(path).as_dict()
    print(json.dumps(ManifestSchema().load_manifest(parsed)))
"""


@needs("platformio", "PlatformIO")
def test_platformio_accepts_both_manifests(package, tmp_path):
    files = [package / "library.json", package / "library.properties"]
    lines = run(["-c", PARSE_MANIFESTS], *files, folder=tmp_path).splitlines()
    for manifest in map(json.loads, lines):
        assert manifest["name"] == "digits"
        assert manifest["version"] == properties(package)["version"]
        assert manifest["headers"] == ["digits.h"]
        assert manifest["description"].startswith("The network digits, int8; learns on the device")
    assert json.loads((package / "library.json").read_text())["build"]["srcDir"] == "src"


@needs("platformio", "PlatformIO")
def test_platformio_packs_what_a_build_needs(package, tmp_path):
    packed = tmp_path / "digits.tar.gz"
    run(["-m", "platformio", "pkg", "pack"], package, "-o", packed, folder=tmp_path)
    with tarfile.open(packed) as archive:
        names = set(archive.getnames())
    needed = {path for path in package.rglob("*") if path.is_file()}
    left_out = {p for p in needed if p.relative_to(package).parts[0] in ("zephyr", "cmake")}
    assert names >= {str(path.relative_to(package)) for path in needed - left_out}


SCONSTRUCT = """
env = Environment(tools=[])
env.SConscriptChdir(1)
env.SConscript("{package}/link_kernels.py", exports={{"env": env}})
for one in (env, DefaultEnvironment()):
    print("LINK", *one["LIBPATH"], *one["LIBS"])
"""


@needs("SCons", "SCons")
@pytest.mark.parametrize("board, target", [("stm32f746", "cortex-m7"), ("esp32-c3", "rv32imc")])
def test_the_build_script_of_platformio_links_the_kernels(packages, board, target, tmp_path):
    """PlatformIO runs `extraScript` so: in the library's own environment, by SCons."""
    package = packages[board]
    (tmp_path / "SConstruct").write_text(SCONSTRUCT.format(package=package))
    said = run(["-m", "SCons", "-Q", "-s", "."], folder=tmp_path)
    lines = [line.split()[1:] for line in said.splitlines() if line.startswith("LINK")]
    assert lines == [[str(package / "src" / target), "digits_kernels"]] * 2
    assert (Path(lines[0][0]) / f"lib{lines[0][1]}.a").is_file()


KCONFIG = """
config RISCV
	bool "a RISC-V core"
config CPU_CORTEX_M7
	bool "this core"
config FPU
	bool "its floating-point unit"
source "{package}/zephyr/Kconfig"
"""

SWITCH = """
import sys, kconfiglib
made = kconfiglib.Kconfig(sys.argv[1])
assert not made.warnings, made.warnings
option = made.syms["TINY_DIGITS"]
assert option.visibility == 0, "can be chosen on any core"
for name in sys.argv[2:]:
    made.syms[name].set_value("y")
option.set_value("y")
print(option.str_value, option.nodes[0].help)
"""


@needs("kconfiglib", "Kconfiglib")
@pytest.mark.parametrize(
    "board, core", [("stm32f746", ("CPU_CORTEX_M7", "FPU")), ("esp32-c3", ("RISCV",))]
)
def test_kconfig_offers_it_where_the_kernels_run(packages, board, core, tmp_path):
    package = packages[board]
    (tmp_path / "Kconfig").write_text(KCONFIG.format(package=package))
    said = run(["-W", "ignore", "-c", SWITCH], "Kconfig", *core, folder=tmp_path)
    assert said.startswith("y ")
    arena = json.loads((package / "manifest.json").read_text())["bytes"]["arena"]
    assert f"{arena} bytes" in said


def test_zephyr_finds_what_the_module_names(package):
    yaml = pytest.importorskip("yaml", reason="needs PyYAML: make lint")
    module = yaml.safe_load((package / "zephyr" / "module.yml").read_text())
    assert module.keys() == {"name", "build"} and module["name"] == "digits"
    assert module["build"].keys() == {"cmake", "kconfig"}
    assert (package / module["build"]["cmake"] / "CMakeLists.txt").is_file()
    assert (package / module["build"]["kconfig"]).is_file()


# Zephyr's own functions, in so far as the package calls them.
ZEPHYR = """
cmake_minimum_required(VERSION 3.20)
project(zephyr_application C)
set(CONFIG_TINY_DIGITS y)
set(ZEPHYR_CURRENT_MODULE_DIR {package})
set(libraries)
function(zephyr_include_directories)
  include_directories(${{ARGV}})
endfunction()
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${{name}})
  add_library(${{name}} STATIC "")
  set_property(GLOBAL APPEND PROPERTY LIBRARIES ${{name}})
endmacro()
function(zephyr_library_sources source)
  target_sources(${{ZEPHYR_CURRENT_LIBRARY}} PRIVATE ${{source}})
endfunction()
function(zephyr_library_import name path)
  add_library(${{name}} STATIC IMPORTED GLOBAL)
  set_target_properties(${{name}} PROPERTIES IMPORTED_LOCATION ${{path}})
  set_property(GLOBAL APPEND PROPERTY LIBRARIES ${{name}})
endfunction()
add_subdirectory({package} whole)
add_subdirectory({package}/zephyr module)
get_property(libraries GLOBAL PROPERTY LIBRARIES)
set(bare {package}/examples/bare_metal)
add_executable(application {package}/examples/self_test/self_test.c
  {package}/golden/digits_golden.c ${{bare}}/entry.c ${{bare}}/start.c)
target_include_directories(application PRIVATE {package}/src {package}/golden)
target_link_libraries(application -Wl,--whole-archive ${{libraries}} -Wl,--no-whole-archive)
target_link_options(application PRIVATE -nostartfiles -Wl,--gc-sections -T ${{bare}}/board.ld)
"""


@pytest.mark.skipif(
    not (shutil.which("arm-none-eabi-gcc") and shutil.which("cmake")),
    reason="needs arm-none-eabi-gcc and CMake (Debian: gcc-arm-none-eabi cmake)",
)
def test_a_zephyr_build_links_the_module(package, tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(ZEPHYR.format(package=package))
    toolchain = ["--toolchain", str(package / "cmake" / "gcc.cmake")]
    for command in (["-S", ".", "-B", "build", *toolchain], ["--build", "build"]):
        done = subprocess.run(
            ["cmake", *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert Program((tmp_path / "build" / "application").read_bytes(), "stm32f746").run() == 0
