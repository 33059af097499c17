"""Files of the repository outside docs/ as pages of the site, under the paths that they have in the repository.

A page links to a measurement as it does on any host of the repository, ``../../benchmarks/results/quality.md``; here such a
link is written anew for the place that the file has in the site.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PUBLISHED = (
    "benchmarks/results/*.md",
    "benchmarks/results/*.json",
    "examples/shop/README.md",
    "examples/patents/README.md",
    "CHANGELOG.md",
)
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#|/)([^)\s#]+)")


def on_files(files: Any, config: Any) -> Any:
    """Add the published files."""
    for pattern in PUBLISHED:
        for path in sorted(ROOT.glob(pattern)):
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links from and to published files, written for the site."""
    place = page.file.src_uri
    folder = posixpath.dirname(place if page.file.generated_by else f"docs/{place}")

    def for_the_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        return posixpath.relpath(target.removeprefix("docs/"), posixpath.dirname(place) or ".")

    return _LINK.sub(for_the_site, markdown)
