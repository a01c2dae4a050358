"""The command line: options, the config, one worker imported inside each command body, its result shown."""


def main() -> None:
    """Run the program, for installations whose ``medqa`` was made when this was its home."""
    from medqa_cli.cli.program import main as run

    run()
