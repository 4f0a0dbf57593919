"""What a group of views depicts, and where that comes from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from manifests.columns import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One row of a prompt source. A label, licence or source that it does not have is empty."""

    text: str
    kind: str = "caption"
    """What the text is: `caption`, or what another source writes."""
    label: str = ""
    licence: str = ""
    source: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)
    """Values of the columns that the renderer declares with scope `subject`."""
    num_rows: int = 1
    """Rows of the input that it stands for, such as a row of a plan in which some were merged."""
    where: str = ""
    """File and row, for messages."""
