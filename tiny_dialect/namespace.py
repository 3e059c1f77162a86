"""The dialect that the `tiny` ops belong to; loaded by `tiny_dialect.dialect.new_context`."""

from tiny_dialect.bindings import ext, without_module


class Tiny(ext.Dialect, name="tiny"):  # pyright: ignore[reportGeneralTypeIssues, reportCallIssue]
    """Quantized training graphs: forward, backward and update ops over static NHWC tensors."""


without_module("tiny")
