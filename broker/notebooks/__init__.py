"""Every session as a notebook on disk, kept up to date: another view of the journal.

:mod:`.following` reads the journal and decides when to write, :mod:`.contents` makes cells of executions,
:mod:`.merging` puts them beside what a person has in the same notebook, and :mod:`.files` and :mod:`.shared` write:
into a file, or into the document that people have open together.
"""

from .following import Notebooks
from .shared import SharedDocuments

__all__ = ["Notebooks", "SharedDocuments"]
