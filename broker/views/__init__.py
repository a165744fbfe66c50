"""Views of the journal: replies, text, reports, notebooks."""
