"""Writes ``least_gb`` into resources/base_models.yaml: the smallest GPU on which each model can be trained.

python tools/base_models.py
"""

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "src/medqa_cli/resources/base_models.yaml"

if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    import yaml

    from helpers.base_models import least_gb, settings_of_presets

    text = TABLE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        config = settings_of_presets(Path(folder))
    for model in yaml.safe_load(text):
        least = least_gb(model["shape"], config)
        print(f"{model['name']}: {least:g} GB")
        text = re.sub(rf"(name: {re.escape(model['name'])}\n(?:  .*\n)*?  least_gb: ).*", rf"\g<1>{least:g}", text)
    TABLE.write_text(text, encoding="utf-8")
