"""Dead letters in an operator's hands: listed, shown, replayed, discarded; from the table, or from their topics."""
