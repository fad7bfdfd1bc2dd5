"""What the safety filter judges questions with."""
