"""``python -m medqa_cli``: the same as ``medqa``."""

from medqa_cli.cli.program import main

if __name__ == "__main__":
    main()
