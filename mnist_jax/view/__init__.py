"""Records for people: text for a terminal, and pages of HTML."""
