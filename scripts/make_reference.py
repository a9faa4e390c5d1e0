"""Write docs/reference.md, every key of every verb, from the configs and from what they configure."""

import sys
from pathlib import Path

from mace_gaunt.cli.reference import reference_page

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference.md"

if __name__ == "__main__":
    text = reference_page()
    if "--check" in sys.argv[1:]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == text else f"{PAGE} is out of date: python {sys.argv[0]}")
    PAGE.write_text(text, encoding="utf-8")
    print(PAGE)
