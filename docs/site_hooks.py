"""What the docs site needs beyond its pages: the README as its first page, the changelog, and links that lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}


def on_config(config: Any) -> Any:
    """List the decisions in the order of their numbers."""
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    config.nav.append({"Decisions": [f"decisions/{path.name}" for path in decisions]})
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that lie in the root of the project."""
    for source, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links within the docs lead to their pages, and leave only the words of those to the code."""
    if page.file.src_uri in PAGES.values():
        markdown = markdown.replace("](docs/decisions)", "](decisions/0001-epochs-gather-into-one-transaction.md)")
        markdown = markdown.replace("](docs/", "](")
        for source, target in PAGES.items():
            markdown = markdown.replace(f"]({source})", f"]({target})")
        elsewhere = r"LICENSE|CITATION\.cff|(?:studies|tests|search|spaces|models|benchmarks)\b[^)]*"
    else:
        elsewhere = re.escape("../" * (page.file.src_uri.count("/") + 1)) + "[^)]*"
    return re.sub(rf"\[([^\]]*)\]\((?:{elsewhere})\)", r"\1", markdown)
