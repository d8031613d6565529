"""Other tools' files into records, and records into other tools' files."""
