"""Questions, the reader's record, tables, and the gate that holds back a result until it is predicted."""
