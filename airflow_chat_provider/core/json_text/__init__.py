"""JSON and text as servers send them, read and written within bounds."""
