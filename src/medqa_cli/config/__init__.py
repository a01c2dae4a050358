"""The configuration: ``schema`` declares its keys, ``load`` reads them from YAML and ``--set``."""
