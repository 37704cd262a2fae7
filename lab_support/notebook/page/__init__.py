"""What a page shows and remembers: questions, the reader's record, tables, the gate before a result."""
