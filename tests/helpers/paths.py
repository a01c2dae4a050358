"""Where the repository, its tests and the data beside it lie."""

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
# Of ``medqa quickstart``: config, table, leaflets.
SAMPLE = ROOT / "src/medqa_cli/resources/quickstart"
# Data for tests and experiments; not part of the repository.
SHARED_DATA = ROOT.parent / "shared/data"
