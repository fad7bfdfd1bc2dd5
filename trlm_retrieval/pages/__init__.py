"""What people open: the explanation of a ranking and the citations of an answer, as HTML pages.

``display`` has what terminals and pages share: snippets with the query's words marked, and text
without control characters.
"""
