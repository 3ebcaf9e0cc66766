"""A builder that would leave a mark if it were imported. No bad study gets that far."""

from pathlib import Path

Path(__file__).with_name("MARK").write_text("imported", encoding="utf-8")


def build(config, data):
    Path(__file__).with_name("MARK").write_text("called", encoding="utf-8")
