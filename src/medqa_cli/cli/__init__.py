"""The command line: options, the config, one worker imported inside each command body, its result shown."""
