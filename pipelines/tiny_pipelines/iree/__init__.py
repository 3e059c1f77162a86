"""IREE behind the project: host code, and `tiny` modules for every user of iree-compile.

`compile` is the library twin of the command `tiny-iree-compile`. Only this package imports
`iree.compiler`, and only when something is compiled.
"""

from tiny_pipelines.iree.compiler import PHASES, HostCompilationError, compile_bytecode
from tiny_pipelines.iree.hooks import Hook
from tiny_pipelines.iree.host import compile_host, default_cpu
from tiny_pipelines.iree.plugin import compile

__all__ = [
    "PHASES",
    "Hook",
    "HostCompilationError",
    "compile",
    "compile_bytecode",
    "compile_host",
    "default_cpu",
]
