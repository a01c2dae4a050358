"""From a spreadsheet of questions and answers to clean, split files.

The entry points are ``convert.convert``, ``report.show`` and ``dataset.read_split``.
"""
