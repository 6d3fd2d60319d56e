"""Single studies for the numbers of papers; run from a checkout, not part of the wheel."""
