"""The form in which a trained network answers: exported, checked, and run without torch."""
