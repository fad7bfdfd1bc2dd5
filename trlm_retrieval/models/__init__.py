"""What models are for, and how those in other formats become ordinary folders."""
