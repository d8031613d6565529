"""Shows records: as text for a terminal, and as pages of HTML."""
