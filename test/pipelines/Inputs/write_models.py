"""Write a small int8 TFLite file and a small QDQ ONNX file: `write_models.py FOLDER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "unit"))

from test_import_hostile import FILES

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in FILES.items():
        (folder / f"small.{name}").write_bytes(data)
        (folder / f"cut.{name}").write_bytes(data[: len(data) // 2])
