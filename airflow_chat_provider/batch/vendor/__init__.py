"""How do rows get through a vendor's batch API? They go there in files, and their answers come back in files."""
